"""Verify that the warehouse holds what was computed: bundles, trials, records and schema against each other.

Each check adds findings: a fault is an error in the data, a note is information. Nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import sha256_of
from common.errors import LabError
from experiments.contract import Json, Unit
from warehouse.database import record_files
from warehouse.database.connection import migrate, migrations, schema_version
from warehouse.database.records import OF_BUNDLES
from warehouse.database.statements import column_of, insert_arrow, number_of, rows_of
from warehouse.delivery import signing
from warehouse.delivery.bundles import NAME, BadBundle, Bundle
from warehouse.delivery.reading import read_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.arrival import planned_units, wrong_trials
from warehouse.ingest.read_ahead import LOOK_UP
from warehouse.ingest.trial_rows import ROWS, row_of, table_of
from warehouse.paths import Paths

BATCH_TRIALS = 50_000  # compared at a time
Check = Literal[
    "blocks", "migrations", "plans", "bundles", "trials", "files", "records", "units", "metrics", "verdicts", "hosts"
]


class Attached(NamedTuple):
    """A file that came with a bundle."""

    bundle_sha256: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """A fault, or a note."""

    check: Check
    what: str
    about: str = ""  # SHA-256 of the bundle, name of the file, id of the unit or run
    fault: bool = True


@dataclass
class Verified:
    """Number of items checked, by kind, and the findings."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, check: Check, what: str, about: str = "", fault: bool = True) -> None:
        """Add a finding."""
        self.findings.append(Finding(check, what, about, fault))

    @property
    def faults(self) -> list[Finding]:
        return [f for f in self.findings if f.fault]

    @property
    def notes(self) -> list[Finding]:
        return [f for f in self.findings if not f.fault]


def check_schema(con: Connection, done: Verified) -> None:
    """Check that the schema is that of the applied migrations, and these are this version's."""
    known = migrations()
    applied = dict(con.execute("SELECT number, sha256 FROM schema_migrations").fetchall())
    done.counts["migrations"] = len(applied)
    with duckdb.connect() as fresh:
        migrate(fresh, known[: schema_version(con)])
        wanted = dict(fresh.execute("SELECT number, sha256 FROM schema_migrations").fetchall())
        if applied != wanted:
            numbers = sorted(n for n in applied.keys() | wanted.keys() if applied.get(n) != wanted.get(n))
            done.add("migrations", f"migrations {numbers} are not those of this version")
        actual, expected = _objects(con), _objects(fresh)
    for name in sorted(actual.keys() | expected.keys()):
        if name not in expected:
            done.add("migrations", f"{name} comes from no migration", name, fault=False)
        elif actual.get(name) != expected[name]:
            done.add("migrations", f"{name} is {'changed' if name in actual else 'missing'}", name)


def _objects(con: Connection) -> dict[str, str]:
    """Return table, view or index -> its definition."""
    rows = con.execute(
        "SELECT table_name, sql FROM duckdb_tables() WHERE NOT internal AND database_name = current_database() UNION ALL "
        "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND database_name = current_database() UNION ALL "
        "SELECT index_name, sql FROM duckdb_indexes() WHERE database_name = current_database()"
    ).fetchall()
    return dict(rows)


def check_plans(con: Connection, done: Verified) -> None:
    """Check that plans are unchanged (content, hash and id fit), and that units hash to their ids."""
    from experiments.protocol.identity import _unit_id

    rows = con.execute("SELECT plan_id, content, sha256 FROM plans").fetchall()
    done.counts["plans"] = len(rows)
    for plan_id, content, sha256 in rows:
        if sha256_of(json.loads(content)) != sha256 or not sha256.startswith(plan_id):
            done.add("plans", f"plan {plan_id} is not what was stored", plan_id)
    for run_id in column_of(con, "SELECT run_id FROM runs WHERE plan_id NOT IN (SELECT plan_id FROM plans)"):
        done.add("plans", f"run {run_id} has no plan", run_id)
    for spec in column_of(con, "SELECT DISTINCT spec FROM units"):
        unit = Unit.from_json(json.loads(spec))
        if unit.unit_id != _unit_id(unit.phase, unit.config, unit.spec, unit.files, unit.identity):
            done.add("plans", f"unit {unit.unit_id[:8]} does not hash to its id", unit.unit_id)


def check_bundles(con: Connection, paths: Paths, done: Verified, phase: str | None = None) -> list[Attached]:
    """Check every bundle's file against its name, its row and its trials; return the files attached to bundles."""
    columns = "sha256, unit_id, host, attempt, size_bytes, schema_version, manifest"
    sql = f"SELECT {columns} FROM bundles WHERE ? IS NULL OR (manifest ->> 'phase') = ?"  # noqa: S608 - fixed words
    rows = {row.pop("sha256"): row for row in rows_of(con, sql, [phase, phase])}
    done.counts |= {"bundles": len(rows), "trials": 0}
    seen: set[str] = set()
    attached: list[Attached] = []
    batch, trials = dict[str, pa.Table](), 0
    rejected = set(column_of(con, "SELECT sha256 FROM rejections"))
    for path, bundle, unit in _archive(con, paths, done, phase):
        if bundle.sha256 in seen:
            continue
        seen.add(bundle.sha256)
        if bundle.sha256 not in rows:
            lacks = (
                "was rejected, and is still in the archive"
                if bundle.sha256 in rejected
                else "has no row in the warehouse"
            )
            done.add("bundles", f"{path.name} {lacks}", bundle.sha256)
            continue
        if unit and (why := wrong_trials(unit, bundle)):
            done.add(
                "bundles",
                f'{path.name}: {why}; take it out: lab reject {bundle.sha256[:12]} --why "REASON"',
                bundle.sha256,
            )
        if rows[bundle.sha256] != row_of(bundle):
            done.add("bundles", f"the row of bundle {bundle.sha256[:12]} is not what its file says", bundle.sha256)
        if bundle.signature and (refused := _forged(paths, bundle)):
            done.add("bundles", f"{path.name}: {refused}", bundle.sha256)
        attached += [Attached(bundle.sha256, a.name, a.sha256) for a in bundle.attachments]
        batch[bundle.sha256] = table_of(bundle)
        trials += bundle.trials.num_rows
        if trials > BATCH_TRIALS:
            _compare_trials(con, batch, done)
            batch, trials = {}, 0
    _compare_trials(con, batch, done)
    damaged = {f.about for f in done.findings if f.check == "bundles"}
    for sha256 in rows.keys() - seen - damaged:
        done.add("bundles", f"bundle {sha256[:12]} has no file in {paths.bundles}", sha256)
    _check_counting(con, done)
    return attached


def _archive(
    con: Connection, paths: Paths, done: Verified, phase: str | None
) -> Iterator[tuple[Path, Bundle, Unit | None]]:
    """Yield each bundle of the archive with its unit, which is None where no plan asks for it any more."""
    every = iter(sorted(paths.bundles.glob("*.parquet")))
    while some := list(islice(every, LOOK_UP)):
        units = planned_units(con, [named[1] for path in some if (named := NAME.fullmatch(path.name))])
        for path in some:
            named = NAME.fullmatch(path.name)
            try:
                bundle = read_bundle(path)
            except (BadBundle, OSError) as error:
                done.add("bundles", f"{path.name}: {error}", named[2] if named else path.name)
                continue
            if phase in (None, bundle.manifest["phase"]):
                yield path, bundle, units.get(bundle.manifest["unit_id"])


def _forged(paths: Paths, bundle: Bundle) -> str | None:
    host = bundle.manifest["host"]
    key = signing.key_of(paths, host)
    right = key is None or signing.signature(key, host, bundle.sha256) == bundle.signature
    return None if right else f"the signature is not {host}'s"


def _compare_trials(con: Connection, batch: Mapping[str, pa.Table], done: Verified) -> None:
    """Compare trials row by row in both directions; repeated rows count as often as they occur."""
    if not batch:
        return
    done.counts["trials"] += sum(t.num_rows for t in batch.values())
    con.execute("CREATE OR REPLACE TEMP TABLE incoming AS FROM trials LIMIT 0")
    insert_arrow(con, "incoming", pa.concat_tables(batch.values()), ROWS)
    try:
        ours = f"FROM trials WHERE {OF_BUNDLES}"
        differ = f"({ours} EXCEPT ALL FROM incoming) UNION ALL (FROM incoming EXCEPT ALL {ours})"
        sql = f"SELECT DISTINCT bundle_sha256 FROM ({differ}) ORDER BY 1"  # noqa: S608 - fixed words
        found = column_of(con, sql, [list(batch)] * 2)
    finally:
        con.execute("DROP TABLE temp.incoming")
    for sha256 in found:
        done.add("trials", f"trials of bundle {sha256[:12]} are not those in its file", sha256)


def _check_counting(con: Connection, done: Verified) -> None:
    """Check that every trial belongs to a bundle, and that one bundle of each unit counts."""
    orphans = "SELECT DISTINCT bundle_sha256 FROM trials WHERE bundle_sha256 NOT IN (SELECT sha256 FROM bundles)"
    for sha256 in column_of(con, orphans):
        done.add("trials", f"trials of bundle {sha256[:12]}, which has no row", sha256)
    wrong = "SELECT unit_id FROM bundles GROUP BY 1 HAVING list_sort(list(replicate)) <> range(count(*)) ORDER BY 1"
    for unit_id in column_of(con, wrong):
        done.add("bundles", f"unit {unit_id[:8]} does not have exactly one bundle that counts", unit_id)


def check_summaries(con: Connection, done: Verified) -> None:
    """Check that the summaries for the pages count all trials."""
    wrong = column_of(
        con,
        "SELECT sha256 FROM (SELECT n.sha256, sum(a.trials) AS counted FROM bundle_numbers n JOIN attempt_counts a "
        "USING (number) GROUP BY 1) FULL JOIN (SELECT bundle_sha256 AS sha256, count(*) AS there FROM trials GROUP BY 1) "
        "USING (sha256) WHERE there IS DISTINCT FROM counted ORDER BY 1",
    )
    for sha256 in wrong:
        done.add("trials", f"the summary of bundle {sha256[:12]} does not count its trials", sha256)


def check_files(store: Store, attached: Sequence[Attached], done: Verified) -> None:
    """Check that attachments, such as adapters, are unchanged in the results store."""
    for one in attached:
        done.counts["files"] = done.counts.get("files", 0) + 1
        try:
            store.get_file(one.sha256)
        except (LabError, OSError) as error:
            done.add("files", f"{one.name} of bundle {one.bundle_sha256[:12]}: {error}", one.bundle_sha256)


def check_records(paths: Paths, done: Verified) -> None:
    """Check that the files from which the warehouse can be rebuilt are whole."""
    try:
        files = record_files.read_index(paths).files
    except LabError as error:
        done.add("records", str(error), record_files.INDEX)
        return
    done.counts["record files"] = len(files)
    for name, entry in files.items():
        if reason := record_files.damage(paths.records / name, entry):
            done.add("records", f"records/{name}: {reason}", name)


def check_units(con: Connection, done: Verified, phase: str | None = None) -> None:
    """List units without a result: a fault where their phase is decided, else a note."""
    rows = con.execute(
        """
        SELECT u.run_id, u.phase, u.unit_id, u.position, v.status, g.why,
               (SELECT arg_max(struct_pack(place, host, attempt, assigned_at), assigned_at) FROM assignments a
                WHERE a.run_id = u.run_id AND a.unit_id = u.unit_id) AS last
        FROM units u LEFT JOIN verdicts v USING (run_id, phase) LEFT JOIN given_up g USING (run_id, unit_id)
        WHERE u.unit_id NOT IN (SELECT unit_id FROM bundles) AND (? IS NULL OR u.phase = ?)
        ORDER BY u.run_id, u.phase, u.position
        """,
        [phase, phase],
    ).fetchall()
    asked = number_of(con, "SELECT count(*) FROM units WHERE ? IS NULL OR phase = ?", [phase, phase])
    done.counts |= {"units": asked, "units with a result": asked - len(rows)}
    for run_id, name, unit_id, position, status, why, last in rows:
        what = f"{run_id} {name}: unit {position + 1} ({unit_id[:8]}) has no result; {_assigned(last)}"
        if why:
            what += f"; given up: {why}"
        done.add("units", what, unit_id, fault=status is not None and why is None)


def _assigned(last: Json | None) -> str:
    if last is None:
        return "never sent to a host"
    where = f"{last['host']} ({last['place']})" if last["host"] else f"any host of pool {last['place']}"
    return f"last sent to {where}, attempt {last['attempt']}, {last['assigned_at']:%Y-%m-%d %H:%M} UTC"
