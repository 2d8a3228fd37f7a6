"""Audits: second results are held against the first, stored beside them, never counted, and shown by pairs of hosts."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection as Connection

from experiments.contract import Trial, Unit
from warehouse.database import audits, records
from warehouse.database.audits import Audit
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from warehouse.queries import snapshot

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RUN = "demo-1"
TRIALS = [
    Trial(
        f"p-{i}", "none", seed=100, attempts=i + 1, answer="O(n)", latency_s=0.1 * i, details={"logprobs": [-0.5, -2.0]}
    )
    for i in range(3)
]


def unit(label: str, phase: str = "p1") -> Unit:
    unit_id = hashlib.sha256(label.encode()).hexdigest()[:32]
    identity = {"code": "c", "data": "d", "models": {}}
    return Unit(unit_id, phase, 1, {}, {"label": label}, identity, n_trials=len(TRIALS))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    return Paths(tmp_path)


@pytest.fixture
def con(paths: Paths) -> Iterator[Connection]:
    """A warehouse in which run demo-1 asked for the units a, b and c of P1, and pi-4 has computed each."""
    with writing(paths) as opened:
        records.save_plan(opened, "0f3a", {"scale": "demo"})
        records.save_run(
            opened, records.RunRecord(RUN, "0f3a", "demo", "big_o", "m", "coordinator", "abc", False, {}, {}, {})
        )
        records.save_units(opened, RUN, "p1", [unit(x) for x in "abc"])
        deliver(paths, opened, "pi-4", dict.fromkeys("abc", TRIALS))
        yield opened


def deliver(paths: Paths, con: Connection, host: str, trials: dict[str, list[Trial]], attempt: int = 1) -> None:
    for label, own in trials.items():
        one = unit(label)
        write_bundle(
            paths.spool,
            one,
            own,
            host=host,
            attempt=attempt,
            started_at=NOW,
            finished_at=NOW,
            provenance={"identity": one.identity},
        )
    store = Store.configured(paths)
    store.deliver(paths.spool)
    taken = collect(paths, store, con)
    assert taken.ingested == len(trials), taken


def audit(con: Connection, audit_id: str = "a1") -> Audit:
    found = tuple(audits.finished(con, RUN))
    return Audit(audit_id, RUN, 0, 1.0, len(found), 0, found)


def second(con: Connection, paths: Paths, trials: dict[str, list[Trial]], audit_id: str = "a1") -> None:
    """An audit of all three units on a laptop, which delivers these trials."""
    drawn = audit(con, audit_id)
    ids = [f.unit.unit_id for f in drawn.sample]
    before = audits.bundles_known(con, ids)
    deliver(paths, con, "laptop", trials, attempt=2)
    wrong = {unit("c").unit_id: "out of memory on laptop"}
    audits.conclude(con, drawn, dict.fromkeys(ids, "laptop"), before, wrong)


def test_agreement_is_kept_by_pairs_of_hosts(con: Connection, paths: Paths) -> None:
    """One answer that differs on another machine is named with its unit; the clock that differs as well is not."""
    other = [replace(t, latency_s=9.0, details={"logprobs": [-0.50003, -2.0]}) for t in TRIALS]
    changed = [replace(other[0], answer="O(1)", attempts=2), *other[1:]]
    second(con, paths, {"a": other, "b": changed})
    (pair,) = audits.pairs_of(con, RUN)
    names = ("host", "other", "units", "agreeing", "deviating_units", "without_result", "trials", "deviating_trials")
    assert [pair[n] for n in names] == ["pi-4", "laptop", 3, 1, 1, 1, 9, 1]
    assert pair["largest_difference"] == pytest.approx(3e-5)
    wrong = {r["unit_id"]: (r["deviating"], r["deviation"]) for r in audits.disagreeing(con, RUN)}
    assert wrong == {
        unit("b").unit_id: (1, "trial 0.attempts: 1.0 2.0"),
        unit("c").unit_id: (None, "out of memory on laptop"),
    }


def test_second_results_are_kept_and_never_counted(con: Connection, paths: Paths) -> None:
    """An audit that changed a number of the run would make the result depend on how often somebody looked."""
    counted = con.execute("FROM counted_trials ORDER BY ALL").fetchall()
    results = records.trials_of(con, RUN, "p1")
    second(con, paths, {x: [replace(t, answer="O(1)") for t in TRIALS] for x in "abc"})
    assert con.execute("FROM counted_trials ORDER BY ALL").fetchall() == counted
    assert records.trials_of(con, RUN, "p1") == results
    assert con.execute("SELECT replicate, count(*) FROM bundles GROUP BY 1 ORDER BY 1").fetchall() == [(0, 3), (1, 3)]
    assert [f.host for f in audits.finished(con, RUN)] == ["pi-4"] * 3
    assert [f.attempts for f in audits.finished(con, RUN)] == [2] * 3


def test_only_a_bundle_that_came_since_from_that_host_is_the_second_result(con: Connection, paths: Paths) -> None:
    """A replicate of last week, or one that a third machine sends meanwhile, says nothing about this host now."""
    ids = [unit(x).unit_id for x in "abc"]
    deliver(paths, con, "laptop", {"a": TRIALS}, attempt=2)
    before = audits.bundles_known(con, ids)
    assert len(before) == 4
    deliver(paths, con, "desktop", {"b": TRIALS}, attempt=3)
    where = dict.fromkeys(ids, "laptop")
    assert audits.second_results(con, where, before) == {}
    deliver(paths, con, "laptop", {"b": TRIALS}, attempt=4)
    assert list(audits.second_results(con, where, before)) == [unit("b").unit_id]


def test_the_page_reads_all_audits_of_a_run(con: Connection, paths: Paths) -> None:
    """People look at the pages, not at the command's last output: what two audits found is added up there."""
    second(con, paths, dict.fromkeys("ab", TRIALS))
    second(con, paths, {"c": [replace(TRIALS[0], answer="O(1)"), *TRIALS[1:]]}, "a2")
    assert (audits.audits_before(con, RUN), audits.audits_before(con, "other")) == (2, 0)
    con.execute("CHECKPOINT")
    shutil.copyfile(paths.warehouse, paths.snapshot)
    (pair,) = snapshot.audits(RUN)
    assert {
        k: pair[k] for k in ("host", "other", "audits", "units", "agreeing", "deviating_units", "without_result")
    } == {
        "host": "pi-4",
        "other": "laptop",
        "audits": 2,
        "units": 6,
        "agreeing": 2,
        "deviating_units": 1,
        "without_result": 3,
    }
    assert {"phase": "p1", "unit_id": unit("c").unit_id, "deviation": "trial 0.answer: 'O(n)' 'O(1)'"} in pair[
        "deviations"
    ]
    assert len(pair["deviations"]) == 4
    assert snapshot.audits("other") == []


def test_the_run_decided_last_is_audited_unless_named(con: Connection) -> None:
    """A run without results, planned later, must not hide the one whose results somebody wants to trust."""
    assert audits.latest_run(con) == RUN
    records.save_run(
        con, records.RunRecord("demo-2", "0f3a", "demo", "big_o", "m", "coordinator", "abc", False, {}, {}, {})
    )
    assert audits.latest_run(con) == RUN
    records.save_units(con, "demo-2", "p1", [unit("a")])
    assert audits.latest_run(con) == "demo-2"
