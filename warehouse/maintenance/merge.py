"""Merge another coordinator's warehouse into this one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from common.errors import LabError
from common.files import copy_whole
from warehouse.database.connection import open_to_read, schema_version, writing
from warehouse.database.statements import column_of, transaction
from warehouse.delivery.bundles import NAME
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.ingest.outcome import Collected
from warehouse.paths import Paths

# Tables of a run that only the other warehouse has; summaries, bundles and files are made from its bundles.
OF_A_RUN = ("runs", "units", "given_up", "metrics", "predictions", "verdicts", "host_verdicts", "assignments")
NUMBERED = ("verdicts", "assignments")  # with the number of the last bundle that was there


@dataclass
class Merged:
    """Contents that came from the other warehouse."""

    runs: list[str] = field(default_factory=list)  # that only the other had, with all their records
    shared: list[str] = field(default_factory=list)  # that both had: trials are merged, verdicts stay
    collected: Collected = field(default_factory=Collected)


def merge(paths: Paths, store: Store, other: Paths) -> Merged:
    """Copy another warehouse's runs, bundles and reports into this one; the other is only read.

    Bundles pass through the inbox like all others, so a crash loses and doubles nothing; a second merge adds nothing.

    Raises:
        LabError: the other home is this one, has no snapshot, or its schema is different.
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
        known_hosts = column_of(con, "SELECT host FROM hosts")
        for host, content in Store(other.home / "results", other.spool, other.bundles).reports().items():
            if host not in known_hosts:
                store.put_report(host, content)
        found.collected = collect(paths, store, con)
    return found


def _records(con: duckdb.DuckDBPyConnection, snapshot: Path, found: Merged) -> None:
    """Copy plans and records of the runs that only the other has, in one transaction."""
    with open_to_read(snapshot, "lab collect, on that coordinator") as there:
        if (theirs := schema_version(there)) != (ours := schema_version(con)):
            what = f"its schema is {theirs}, the schema here {ours}"
            raise LabError(what, "bring both to the same version: lab collect, on each")
    con.execute(f"ATTACH '{str(snapshot).replace(chr(39), chr(39) * 2)}' AS other (READ_ONLY)")
    try:
        sql = "SELECT run_id, run_id IN (SELECT run_id FROM runs) FROM other.runs ORDER BY started_at, run_id"
        rows = con.execute(sql).fetchall()
        found.runs, found.shared = ([run for run, here in rows if here is shared] for shared in (False, True))
        with transaction(con):
            # Its bundles arrive here, after all others, and in another order than there.
            plans = "SELECT * REPLACE (NULL AS arrivals) FROM other.plans"
            con.execute(f"INSERT INTO plans BY NAME {plans} ON CONFLICT DO NOTHING")
            for table in OF_A_RUN:
                columns = "* REPLACE (NULL AS arrivals)" if table in NUMBERED else "*"
                there = f"SELECT {columns} FROM other.{table} WHERE run_id IN (SELECT unnest(?))"  # noqa: S608 - fixed words
                sql = f"INSERT INTO {table} BY NAME {there}"
                con.execute(sql, [found.runs])
    finally:
        con.execute("DETACH other")
