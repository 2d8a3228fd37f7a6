"""Several coordinators' warehouses in one: what another planned, computed and decided comes beside what is here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from common.errors import LabError
from common.files import copy_whole
from warehouse.database.connection import schema_version, writing
from warehouse.database.statements import transaction
from warehouse.delivery.bundles import NAME
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.ingest.outcome import Collected
from warehouse.paths import Paths

# Of a run that only the other knows; what is computed from trials (summaries, bundles, files) is made here again.
OF_A_RUN = ("runs", "units", "given_up", "metrics", "predictions", "verdicts", "assignments")


@dataclass
class Merged:
    """What came from the other warehouse."""

    runs: list[str] = field(default_factory=list)  # that only the other knew, with all their records
    shared: list[str] = field(default_factory=list)  # that both knew: their trials come together, verdicts stay
    collected: Collected = field(default_factory=Collected)


def merge(paths: Paths, store: Store, other: Paths) -> Merged:
    """Take another warehouse's runs, bundles and reports into this one; the other is only read. Run again it adds nothing.

    Bundles go the way of all bundles, each checked and taken in exactly once, so a crash in between loses and doubles nothing.

    Raises:
        LabError: there is no snapshot in the other home, it is this one, or its schema is another.
    """
    if other.home.resolve() == paths.home.resolve():
        raise LabError(f"{other.home} is this warehouse", "give the LAB_HOME of another coordinator, or a copy of it")
    if not other.snapshot.is_file():
        raise LabError(f"there is no {other.snapshot}", "lab collect, on that coordinator")
    found = Merged()
    with writing(paths, publish=True) as con:
        _records(con, other.snapshot, found)
        for path in sorted(other.bundles.glob("*.parquet")):
            named = NAME.fullmatch(path.name)
            known = named and con.execute("SELECT 1 FROM bundles WHERE sha256 = ?", [named[2]]).fetchone()
            if named and not known and path.is_file() and not path.is_symlink():
                copy_whole(path, store.inbox / path.name)
        known_hosts = {host for (host,) in con.execute("SELECT host FROM hosts").fetchall()}
        for host, content in Store(other.home / "results", other.spool, other.bundles).reports():
            if host not in known_hosts:
                store.put_report(host, content)
        found.collected = collect(paths, store, con)
    return found


def _records(con: duckdb.DuckDBPyConnection, snapshot: Path, found: Merged) -> None:
    """Plans and records of the runs that are not here, in one transaction."""
    with duckdb.connect(str(snapshot), read_only=True) as there:
        if (theirs := schema_version(there)) != (ours := schema_version(con)):
            raise LabError(
                f"its schema is {theirs}, this one's {ours}", "bring both to the same version: lab collect, on each"
            )
    con.execute(f"ATTACH '{str(snapshot).replace(chr(39), chr(39) * 2)}' AS other (READ_ONLY)")
    try:
        rows = con.execute(
            "SELECT run_id, run_id IN (SELECT run_id FROM runs) FROM other.runs ORDER BY started_at, run_id"
        ).fetchall()
        found.runs, found.shared = ([run for run, here in rows if here is shared] for shared in (False, True))
        with transaction(con):
            con.execute("INSERT INTO plans BY NAME FROM other.plans ON CONFLICT DO NOTHING")
            for table in OF_A_RUN:
                con.execute(
                    f"INSERT INTO {table} BY NAME FROM other.{table} WHERE run_id IN (SELECT unnest(?))", [found.runs]
                )
    finally:
        con.execute("DETACH other")
