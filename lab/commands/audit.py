"""The command `audit`: repeat a sample of finished units and compare the results."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from common.environment import host_name
from common.errors import LabError
from common.text import printable
from flows import audit as again
from flows.audit import Reruns, compare, rerun_local
from lab.commands.options import AsJson
from lab.exit_codes import EXIT_FAILED
from lab.services.up import api_url, auth_for, connected
from lab.tables import print_table
from warehouse.database.audits import Audit, bundles_known, disagreeing, latest_run, pairs_of, tied
from warehouse.database.connection import writing
from warehouse.database.record_files import refuse_lost
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths

if TYPE_CHECKING:
    from flows.audit_hosts import Others

FRACTION = 0.05  # of the finished units; a fault in 2 % of the units is found after a few audits of 5 %


def audit(
    fraction: Annotated[
        float, typer.Option(help="Share of the finished units, above 0 up to 1; at least one unit.")
    ] = FRACTION,
    run: Annotated[str | None, typer.Option(help="The run; by default the one decided last.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Repeat them on this machine; by default on another machine if there is one.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the sample; by default each audit draws a new sample.")
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Show the results of earlier audits, and run nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Repeat a random sample of finished units, if possible on another machine, and compare.

    Problems, labels, answers, attempts and tokens must be equal; numbers with a fraction must agree within the tolerance of
    the run's precision (docs/science.md), and attempts that differ by a near tie within it are counted as ties. Times are
    not compared. The second results are stored as replicates and never counted. Exit code 1: a unit
    deviates or has no second result.

    Example: lab audit --fraction 0.05
    """
    paths = Paths.local()
    audit_id = None
    if stored:
        run = _stored_run(paths, run)
    else:
        store = Store.configured(paths)
        drawn = again.draw(paths, store, run, fraction, seed, host)
        run, audit_id = drawn.run_id, drawn.audit_id
        _run_again(paths, store, drawn, host)
    pairs, wrong, ties = _found(paths, run, audit_id)
    if as_json:
        shown = {"run_id": run, "audit_id": audit_id, "pairs": pairs, "disagreeing": wrong, "ties": ties}
        print(json.dumps(shown, indent=1, default=str))
    else:
        _print(run, pairs, wrong, ties)
    if wrong and not stored:
        raise typer.Exit(EXIT_FAILED)


def _stored_run(paths: Any, run: str | None) -> str:
    refuse_lost(paths)
    found = run
    if found is None and paths.warehouse.exists():
        with writing(paths) as con:
            found = latest_run(con)
    if found is None:
        raise LabError("no unit is finished yet", "lab pipeline, or lab run p1 --scale smoke")
    return found


def _run_again(paths: Any, store: Any, drawn: Audit, host: str | None) -> None:
    """Repeat the units on other hosts as far as possible, the rest in another process of this machine."""

    def say(text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    n = len(drawn.sample)
    others = f"; {drawn.left_out} others cannot be repeated with the code, data and models of this machine"
    left_out = others if drawn.left_out else ""
    say(f"run {drawn.run_id}: {n} of {drawn.finished} finished units, seed {drawn.seed}{left_out}")
    with writing(paths) as con:
        before = bundles_known(con, [f.unit.unit_id for f in drawn.sample])
    reruns = Reruns()
    where = _elsewhere(paths, store, drawn, host, before, reruns)
    if left := [f for f in drawn.sample if f.unit.unit_id not in where]:
        rerun_local(store, drawn, left, reruns, say)
    compare(paths, store, drawn, before, reruns)


def _elsewhere(paths: Any, store: Any, drawn: Audit, host: str | None, before: set[str], reruns: Reruns) -> Others:
    """Repeat units on other hosts and return which; none if no server answers, unless the user chose `host`."""
    if host == host_name():
        return {}
    try:
        client = connected()
    except LabError:
        if host is not None:
            raise
        return {}
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    from flows.audit_hosts import others, rerun_on_hosts

    where = others(client, store, drawn, host)
    if where:
        with temporary_settings({PREFECT_API_URL: api_url(), PREFECT_API_AUTH_STRING: auth_for(api_url())}):
            rerun_on_hosts(paths, store, drawn, where, before, reruns)
    return where


class Found(NamedTuple):
    """Outcomes of one audit, or of all audits of a run: rows of warehouse.database.audits."""

    pairs: list[dict[str, Any]]  # a row for each pair of hosts
    wrong: list[dict[str, Any]]  # a row for each unit that does not agree
    ties: list[dict[str, Any]]  # a row for each unit that agrees but for near ties


def _found(paths: Paths, run: str, audit_id: str | None) -> Found:
    with writing(paths) as con:
        found = pairs_of(con, run), disagreeing(con, run), tied(con, run)
    return Found(*([r for r in rows if audit_id in (None, r["audit_id"])] for rows in found))


def _print(
    run: str, pairs: Sequence[Mapping[str, Any]], wrong: Sequence[Mapping[str, Any]], ties: Sequence[Mapping[str, Any]]
) -> None:
    if not pairs:
        print(printable(f"run {run} was not audited; lab audit --run {run}"))
        return
    numbers = ("units", "agree", "deviate", "no result", "trials", "deviating", "largest difference")
    keys = ("units", "agreeing", "deviating_units", "without_result", "trials", "deviating_trials")
    rows = []
    for p in pairs:
        largest = "" if p["largest_difference"] is None else f"{p['largest_difference']:.1e}"
        other = "another process there" if p["other"] == p["host"] else p["other"]
        rows.append((p["audit_id"], p["host"], other, *(str(p[k]) for k in keys), largest))
    print_table(f"audits of run {run}", ("audit", "computed on", "again on", *numbers), rows, right=numbers)
    for r in wrong:
        kind = "no result" if r["deviating"] is None else f"{r['deviating']} of {r['trials']} trials deviate"
        print(printable(f"{r['phase']} unit {r['unit_id']}, {r['host']} and {r['other']}: {kind}; {r['deviation']}"))
    for r in ties:
        print(
            printable(f"{r['phase']} unit {r['unit_id']}, {r['host']} and {r['other']}: agree, with {r['deviation']}")
        )
