"""Commands for the stored results: clean, backup, restore, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from common.errors import LabError
from common.text import printable, size
from lab.commands.options import paths_with_warehouse
from lab.commands.warehouse import MOST_LINES, show
from lab.exit_codes import EXIT_FAILED
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.backup import backup as write_backup
from warehouse.maintenance.backup import backup_into
from warehouse.maintenance.clean import age_of, removable, remove
from warehouse.maintenance.restore import restore as read
from warehouse.maintenance.verifications import verified
from warehouse.paths import Paths
from warehouse.queries.export import Format
from warehouse.queries.export import export as write_view


def clean(
    older_than: Annotated[str, typer.Option(help="Remove what is older than this: 30d, 12h or 4w.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also remove bundles on which a verdict depends; it can then not be verified."),
    ] = False,
) -> None:
    """Remove old files that nothing needs.

    These are refused bundles, temporary files, logs, embeddings, and results of runs that were never decided. Files on
    which a stored verdict or an audit depends stay, unless --force.

    Example: lab clean --older-than 30d --dry-run
    """
    age = age_of(older_than)
    paths = paths_with_warehouse()
    store = Store.configured(paths)
    with writing(paths, publish=not dry_run) as con:
        found = removable(con, paths, store, age, force)
        if not dry_run:
            remove(con, found)
    for one in found[:MOST_LINES]:
        print(printable(f"  {one.kind}  {size(one.size_bytes)}  {one.path}  ({one.why})"))
    if len(found) > MOST_LINES:
        print(f"  and {len(found) - MOST_LINES} more")
    total = size(sum(one.size_bytes for one in found))
    print(f"{'would be removed' if dry_run else 'removed'}: {len(found)}, {total}; older than {older_than}")


def backup(
    target: Annotated[
        str | None,
        typer.Argument(
            help="The tar file to write, or a folder or URL (sftp:, s3:, gs:, abfs:) for a file named by host, date and time. "
            "By default this folder."
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help="Also write one there each 1h, 12h or 7d from now on, as a Prefect deployment; never: stop that."
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Remove all but the newest so many of this host's there.")
    ] = None,
) -> None:
    """Write all results into one file, from which lab restore rebuilds the warehouse.

    Work may go on meanwhile. Keys are not in it.

    Example: lab backup /mnt/nas/backups --every 1h --keep 24
    """
    server = _server_for(every) if every is not None else None
    if every is not None and server is None:
        return
    paths = paths_with_warehouse()
    store = Store.configured(paths)
    with writing(paths, publish=True) as con:
        collect(paths, store, con)
    place = "." if target is None else target
    as_file = "://" not in place and not place.endswith("/") and not Path(place).is_dir()
    if as_file and (every or keep):
        raise LabError(f"{place} is no folder, and --every and --keep need one", f"mkdir -p {place}")
    if as_file:
        done = write_backup(paths, store, Path(place).absolute())
    else:
        place = place if "://" in place else str(Path(place).absolute())
        done = backup_into(paths, store, place, keep)
    print(f"{done.path}: {done.files} files ({done.bundles} bundles), {size(done.size_bytes)}")
    for name in done.removed:
        print(f"  removed  {name}")
    print(f"to restore it: LAB_HOME=/an/empty/folder lab restore {done.path}")
    if every is not None:
        from flows.scheduled_backups import DEPLOYMENT, schedule_backups

        schedule_backups(server, place, every, keep)
        print(
            f"another one every {every}, by Prefect's deployment {DEPLOYMENT}; to stop that: lab backup --every never"
        )
    if done.damaged:
        print(f"{len(done.damaged)} files in it are damaged, first {done.damaged[0]}: lab verify", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)


def _server_for(every: str) -> Any:
    """Return a client of the server, before anything is written; None if the schedule was to be removed, which is done."""
    from flows.scheduled_backups import interval_of, stop_backups
    from lab.services.up import connected

    if every != "never":
        interval_of(every)
        return connected()
    print("no backups are scheduled any more" if stop_backups(connected()) else "no backups were scheduled")
    return None


def restore(
    source: Annotated[str, typer.Argument(help="A file that lab backup wrote, or a folder or URL: the newest there.")],
) -> None:
    """Restore a backup into an empty LAB_HOME, rebuild its warehouse and verify it.

    Example: lab restore lab-backup.tar
    """
    paths = Paths.local()
    store = Store.configured(paths)
    path, files, done = read(paths, store, source)
    print(f"restored {path} into {paths.home}:")
    print(f"{files} files, {done.rows['bundles']} bundles, {done.rows['trials']} trials")
    for line in done.lost[:MOST_LINES]:
        print(printable(f"  lost  {line}"))
    with writing(paths, publish=True) as con:
        found = verified(con, paths, store, None, deep=False)
    show(found, deep=False)
    if found.faults or done.lost:
        raise typer.Exit(EXIT_FAILED)


def export(
    view: Annotated[str, typer.Argument(help="A view or table of docs/schema.md, or run_notes, your notes on runs.")],
    format: Annotated[str, typer.Option(help="parquet, csv or json.")] = "parquet",
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default named after the view, in this folder.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only the rows of this run.")] = None,
) -> None:
    """Write a view of the published results to a file for other programs.

    Example: lab export phase_metrics --format csv
    """
    target = (out or Path(f"{view}.{format}")).absolute()
    rows = write_view(Paths.local(), view, target, cast(Format, format), run)
    print(f"{target}: {rows} rows")
