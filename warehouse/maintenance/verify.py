"""Proving that the warehouse holds what was computed: bundles, trials, records and schema against each other.

Each check gives findings; a fault is something that may not be, a note something to know. Nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import sha256_of
from common.errors import LabError
from experiments.contract import Json, Unit
from warehouse.database import record_files
from warehouse.database.connection import migrate, migrations, schema_version
from warehouse.database.records import OF_BUNDLES
from warehouse.database.statements import number_of, rows_of
from warehouse.delivery import signing
from warehouse.delivery.bundles import NAME, BadBundle, Bundle, read_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.trial_rows import ROWS, row_of, table_of
from warehouse.paths import Paths

BATCH_TRIALS = 50_000  # compared at a time
Attached = tuple[str, str, str]  # SHA-256 of the bundle, name of the file, its SHA-256
Check = Literal["migrations", "plans", "bundles", "trials", "files", "records", "units", "metrics", "verdicts"]


@dataclass(frozen=True)
class Finding:
    """Something found: a fault, or a note."""

    check: Check
    what: str
    about: str = ""  # SHA-256 of the bundle, name of the file, id of the unit or run
    fault: bool = True


@dataclass
class Verified:
    """What was looked at, and what was found."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        return [f for f in self.findings if f.fault]

    @property
    def notes(self) -> list[Finding]:
        return [f for f in self.findings if not f.fault]


def check_schema(con: Connection, done: Verified) -> None:
    """Migrations applied as they are in this version, and nothing changed by hand since."""
    known = migrations()
    applied = dict(con.execute("SELECT number, sha256 FROM schema_migrations").fetchall())
    done.counts["migrations"] = len(applied)
    with duckdb.connect() as fresh:
        migrate(fresh, known[: schema_version(con)])
        wanted = dict(fresh.execute("SELECT number, sha256 FROM schema_migrations").fetchall())
        if applied != wanted:
            numbers = sorted(n for n in applied.keys() | wanted.keys() if applied.get(n) != wanted.get(n))
            done.findings.append(Finding("migrations", f"migrations {numbers} are not those of this version"))
        here, there = _objects(con), _objects(fresh)
    for name in sorted(here.keys() | there.keys()):
        if name not in there:
            done.findings.append(Finding("migrations", f"{name} is of no migration", name, fault=False))
        elif here.get(name) != there[name]:
            done.findings.append(Finding("migrations", f"{name} is {'changed' if name in here else 'missing'}", name))


def _objects(con: Connection) -> dict[str, str]:
    """Table, view or index -> its definition."""
    rows = con.execute(
        "SELECT table_name, sql FROM duckdb_tables() WHERE NOT internal AND database_name = current_database() UNION ALL "
        "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND database_name = current_database() UNION ALL "
        "SELECT index_name, sql FROM duckdb_indexes() WHERE database_name = current_database()"
    ).fetchall()
    return dict(rows)


def check_plans(con: Connection, done: Verified) -> None:
    """Plans are what was stored before the data: content, hash and name fit, and so do units and their ids."""
    # Its public form would be a change of the code that every unit's id is made of.
    from experiments.protocol.identity import _unit_id

    rows = con.execute("SELECT plan_id, content, sha256 FROM plans").fetchall()
    done.counts["plans"] = len(rows)
    for plan_id, content, sha256 in rows:
        if sha256_of(json.loads(content)) != sha256 or not sha256.startswith(plan_id):
            done.findings.append(Finding("plans", f"plan {plan_id} is not what was stored", plan_id))
    runs = con.execute("SELECT run_id FROM runs WHERE plan_id NOT IN (SELECT plan_id FROM plans)").fetchall()
    done.findings += [Finding("plans", f"run {run_id} has no plan", run_id) for (run_id,) in runs]
    for (spec,) in con.execute("SELECT DISTINCT spec FROM units").fetchall():
        unit = Unit.from_json(json.loads(spec))
        if unit.unit_id != _unit_id(unit.phase, unit.config, unit.spec, unit.files, unit.identity):
            done.findings.append(Finding("plans", f"unit {unit.unit_id[:8]} does not hash to its id", unit.unit_id))


def check_bundles(con: Connection, paths: Paths, done: Verified, phase: str | None = None) -> list[Attached]:
    """Every bundle's file against its name, its row and its trials; returns what is attached to them."""
    found = rows_of(
        con,
        "SELECT sha256, unit_id, host, attempt, size_bytes, schema_version, manifest FROM bundles "
        "WHERE ? IS NULL OR (manifest ->> 'phase') = ?",
        [phase, phase],
    )
    rows = {row.pop("sha256"): row for row in found}
    done.counts |= {"bundles": len(rows), "trials": 0}
    seen: set[str] = set()
    attached: list[Attached] = []
    batch, trials = dict[str, pa.Table](), 0
    for path, bundle in _archive(paths, done, phase):
        if bundle.sha256 in seen:
            continue
        seen.add(bundle.sha256)
        if bundle.sha256 not in rows:
            done.findings.append(Finding("bundles", f"{path.name} is in no row of the warehouse", bundle.sha256))
            continue
        _check_row(bundle, rows[bundle.sha256], done)
        if bundle.signature and (refused := _forged(paths, bundle)):
            done.findings.append(Finding("bundles", f"{path.name}: {refused}", bundle.sha256))
        attached += [(bundle.sha256, a.name, a.sha256) for a in bundle.attachments]
        batch[bundle.sha256] = table_of(bundle)
        trials += bundle.trials.num_rows
        if trials > BATCH_TRIALS:
            _compare_trials(con, batch, done)
            batch, trials = {}, 0
    _compare_trials(con, batch, done)
    damaged = {f.about for f in done.findings if f.check == "bundles"}
    for sha256 in rows.keys() - seen - damaged:
        done.findings.append(Finding("bundles", f"bundle {sha256[:12]} has no file in {paths.bundles}", sha256))
    _check_counting(con, done)
    return attached


def _archive(paths: Paths, done: Verified, phase: str | None) -> Iterator[tuple[Path, Bundle]]:
    for path in sorted(paths.bundles.glob("*.parquet")):
        named = NAME.fullmatch(path.name)
        try:
            bundle = read_bundle(path)
        except BadBundle as error:
            done.findings.append(Finding("bundles", f"{path.name}: {error}", named[2] if named else path.name))
            continue
        if phase in (None, bundle.manifest["phase"]):
            yield path, bundle


def _forged(paths: Paths, bundle: Bundle) -> str | None:
    host = bundle.manifest["host"]
    key = signing.key_of(paths, host)
    right = key is None or signing.signature(key, host, bundle.sha256) == bundle.signature
    return None if right else f"the signature is not {host}'s"


def _check_row(bundle: Bundle, row: Mapping[str, object], done: Verified) -> None:
    if row != row_of(bundle):
        done.findings.append(
            Finding("bundles", f"the row of bundle {bundle.sha256[:12]} is not what its file says", bundle.sha256)
        )


def _compare_trials(con: Connection, batch: Mapping[str, pa.Table], done: Verified) -> None:
    """Row by row, as often as each row is, both ways."""
    if not batch:
        return
    done.counts["trials"] += sum(t.num_rows for t in batch.values())
    con.register("incoming", pa.concat_tables(batch.values()))
    try:
        theirs = f"SELECT {ROWS} FROM incoming"  # noqa: S608 - fixed words
        ours = f"FROM trials WHERE {OF_BUNDLES}"
        found = con.execute(
            f"SELECT DISTINCT bundle_sha256 FROM (({ours} EXCEPT ALL {theirs}) UNION ALL "  # noqa: S608 - fixed words
            f"(SELECT * FROM ({theirs}) EXCEPT ALL {ours})) ORDER BY 1",
            [list(batch)] * 2,
        ).fetchall()
    finally:
        con.unregister("incoming")
    done.findings += [
        Finding("trials", f"trials of bundle {sha[:12]} are not those in its file", sha) for (sha,) in found
    ]


def _check_counting(con: Connection, done: Verified) -> None:
    """Every trial belongs to a bundle, and of each unit one bundle counts."""
    orphans = con.execute(
        "SELECT DISTINCT bundle_sha256 FROM trials WHERE bundle_sha256 NOT IN (SELECT sha256 FROM bundles)"
    ).fetchall()
    done.findings += [Finding("trials", f"trials of bundle {s[:12]}, which has no row", s) for (s,) in orphans]
    wrong = con.execute(
        "SELECT unit_id FROM bundles GROUP BY 1 HAVING list_sort(list(replicate)) <> range(count(*)) ORDER BY 1"
    ).fetchall()
    done.findings += [Finding("bundles", f"bundles of unit {u[:8]} do not count once", u) for (u,) in wrong]


def check_summaries(con: Connection, done: Verified) -> None:
    """What pages count is what there is to count."""
    wrong = con.execute(
        "SELECT sha256 FROM (SELECT n.sha256, sum(a.trials) AS counted FROM bundle_numbers n JOIN attempt_counts a "
        "USING (number) GROUP BY 1) FULL JOIN (SELECT bundle_sha256 AS sha256, count(*) AS there FROM trials GROUP BY 1) "
        "USING (sha256) WHERE there IS DISTINCT FROM counted ORDER BY 1"
    ).fetchall()
    done.findings += [Finding("trials", f"the summary of bundle {s[:12]} counts other trials", s) for (s,) in wrong]


def check_files(store: Store, attached: Sequence[Attached], done: Verified) -> None:
    """Attachments, such as adapters, lie in the results store as they came."""
    for bundle_sha256, name, sha256 in attached:
        done.counts["files"] = done.counts.get("files", 0) + 1
        try:
            store.get_file(sha256)
        except (LabError, OSError) as error:
            done.findings.append(Finding("files", f"{name} of bundle {bundle_sha256[:12]}: {error}", bundle_sha256))


def check_records(paths: Paths, done: Verified) -> None:
    """The files from which the warehouse can be built anew are whole."""
    try:
        _, files = record_files.read_index(paths)
    except LabError as error:
        done.findings.append(Finding("records", str(error), record_files.INDEX))
        return
    done.counts["record files"] = len(files)
    for name, kept in files.items():
        if reason := record_files.damage(paths.records / name, kept):
            done.findings.append(Finding("records", f"records/{name}: {reason}", name))


def check_units(con: Connection, done: Verified, phase: str | None = None) -> None:
    """Units without a result: missing where their phase is decided, still to come where it is not."""
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
        done.findings.append(Finding("units", what, unit_id, fault=status is not None and why is None))


def _assigned(last: Json | None) -> str:
    if last is None:
        return "never assigned to a machine"
    where = f"{last['host']} ({last['place']})" if last["host"] else f"any machine of {last['place']}"
    return f"last assigned to {where}, try {last['attempt']}, {last['assigned_at']:%Y-%m-%d %H:%M} UTC"
