"""Commands for what the warehouse holds: verify, reject, warehouse rebuild, warehouse merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.text import printable
from experiments.registry import module_of
from lab.commands.options import AsJson, paths_with_warehouse
from lab.exit_codes import EXIT_FAILED
from warehouse.database.connection import reading, writing
from warehouse.database.record_files import REBUILD
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.blocks import check_blocks
from warehouse.maintenance.merge import merge as take_in
from warehouse.maintenance.rebuild import rebuild as build
from warehouse.maintenance.reject import reject as take_out
from warehouse.maintenance.repair import repair as put_right
from warehouse.maintenance.verifications import plain, verified
from warehouse.maintenance.verify import Verified
from warehouse.paths import Paths

MOST_LINES = 20  # of faults or notes; --json has all


def verify(
    phase: Annotated[str | None, typer.Option(help="Check only this phase.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also recompute all metrics and verdicts, and read all attachments.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore what is wrong from the bundles, then verify again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify that the warehouse holds every trial exactly once and unchanged.

    Exit code 1: it does not.

    Example: lab verify --phase e1 --deep
    """
    if phase is not None:
        module_of(phase)
    paths = paths_with_warehouse()
    found = check_blocks(paths)
    if not found.faults:
        found = _verified(paths, phase, deep, repair, as_json)
    if as_json:
        shown = {"counts": found.counts, "faults": plain(found.faults), "notes": plain(found.notes)}
        print(json.dumps(shown, indent=1))
    else:
        show(found, deep)
    if found.faults:
        raise typer.Exit(EXIT_FAILED)


def _verified(paths: Paths, phase: str | None, deep: bool, repair: bool, as_json: bool) -> Verified:
    """Verify the warehouse, after a repair if one is asked for."""
    store = Store.configured(paths)
    if not repair:
        with reading(paths, publish=True) as con:
            found = verified(con, paths, store, phase, deep)
    else:
        with writing(paths) as con:
            found = verified(con, paths, store, phase, deep)
            done = put_right(con, paths, store, found)
            if done.back:
                collect(paths, store, con)
        # Again, since closing the warehouse has written the record files.
        with writing(paths, publish=True) as con:
            found = verified(con, paths, store, phase, deep)
        if not as_json:
            print(f"restored: {done.bundles} bundles, {done.files} attachments, {done.back} out of quarantine")
    return found


def show(found: Verified, deep: bool) -> None:
    """Print the counts and the first faults and notes."""
    print(", ".join(f"{name} {n}" for name, n in found.counts.items()))
    for word, findings in (("fault", found.faults), ("note", found.notes)):
        for f in findings[:MOST_LINES]:
            print(printable(f"{word}  {f.check}: {f.what}"))
        if len(findings) > MOST_LINES:
            print(f"{word}  and {len(findings) - MOST_LINES} more; lab verify --json has all")
    if found.faults:
        mend = REBUILD if any(f.check == "blocks" for f in found.faults) else "lab verify --repair"
        print(f"faults: {len(found.faults)}; to restore from the bundles: {mend}")
    else:
        print("no fault found" + ("" if deep else "; --deep also recomputes metrics and verdicts"))


def reject(
    bundle: Annotated[str, typer.Argument(help="Its SHA-256, or the first eight digits or more.")],
    why: Annotated[str, typer.Option(help="The reason, which stays on record.")],
) -> None:
    """Take a result out of the warehouse, on record, so that its unit is computed again.

    Its file moves into quarantine, and it is refused when it comes again. Verdicts that rest on it stay until they are
    decided again.

    Example: lab reject 3f2a9c01 --why "the machine's memory was faulty"
    """
    paths = paths_with_warehouse()
    with writing(paths, publish=True) as con:
        done = take_out(con, paths, Store.configured(paths), bundle, why)
    print(printable(f"rejected {done.sha256[:12]}: {done.phase}, unit {done.unit_id[:8]}, computed by {done.host}"))
    if done.counted_instead:
        print("another result of its unit counts now")
    for one in done.verdicts:
        print(printable(f"rested on it: {one}"))
    print("to compute its unit again and to decide again: lab pipeline, with the run's --scale and --set")


def rebuild(
    force: Annotated[
        bool, typer.Option("--force", help="Rebuild even if the present warehouse holds something that would be lost.")
    ] = False,
) -> None:
    """Rebuild the whole warehouse from bundles and record files, and compare it with the present one.

    Exit code 1: something is lost.

    Example: lab warehouse rebuild
    """
    paths = paths_with_warehouse()
    done = build(paths, Store.configured(paths), force)
    rows = sum(done.rows.values())
    print(f"rebuilt: {len(done.rows)} tables, {rows} rows, {done.rows['trials']} of them trials")
    if not done.compared:
        print("there was no readable warehouse to compare it with")
    elif not done.differences:
        print("equal to the warehouse before, row for row")
    for table, (before, now) in done.differences.items():
        print(f"  {table}: {before} rows only in the old warehouse, {now} only in the new one")
    if done.found:
        print(f"added from the archive without a record: {done.found}")
    for line in [*(f"lost  {x}" for x in done.lost), *(f"aside {x}" for x in done.aside)][:MOST_LINES]:
        print(printable(f"  {line}"))
    if done.old:
        print(f"the old warehouse is now {done.old}")
    if done.lost:
        raise typer.Exit(EXIT_FAILED)


def merge(home: Annotated[Path, typer.Argument(help="LAB_HOME of the other coordinator, or a copy of it.")]) -> None:
    """Add the runs, trials and machines of another coordinator's warehouse, which is only read.

    A run that both have gets the trials of both and keeps its verdicts; to decide it again: lab pipeline.

    Example: lab warehouse merge /mnt/other/.lab
    """
    paths = Paths.local()
    done = take_in(paths, Store.configured(paths), Paths(home.absolute()))
    print(printable(f"runs       {', '.join(done.runs) or 'none new'}"))
    if done.shared:
        print(printable(f"in both    {', '.join(done.shared)}"))
    got = done.collected
    print(f"bundles    {got.ingested} added, {got.replicates} of them second results")
    for name, reason in [*got.quarantined, *got.left]:
        print(printable(f"refused    {name}: {reason}"))
