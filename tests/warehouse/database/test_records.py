"""Records: what the chain stores it reads back unchanged, in the order it gave, as often as it stores it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection as Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments import p1_embedding_validity as p1
from experiments.contract import Metric, Metrics, NextStep, Status, Trial, Unit, Verdict
from experiments.findings import Earlier
from experiments.solving.retrieval import RetrievalConfig
from warehouse.database import durations, records
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STEPS = (NextStep("lab run p1 --set k=3", "fewer neighbours"),)
pytestmark = pytest.mark.usefixtures("any_trials")
MAIN = Metric("similarity_ratio", 1.31, 1.2, 1.4, 70, 2, "minilm", "bootstrap, 1000 resamples", True)


def make_unit(label: str, phase: str = "p1", round: int = 1) -> Unit:
    unit_id = hashlib.sha256(label.encode()).hexdigest()[:32]
    return Unit(
        unit_id,
        phase,
        round,
        {"n": 0.1},
        {"label": label, "é": [1, None]},
        {"code": "c", "data": "d", "models": {}},
        ("0" * 32,),
        ("f" * 64,),
        3,
        0.1,
    )


def give(paths: Paths, unit: Unit, trials: list[Trial], host: str = "pi-4", attempt: int = 1) -> None:
    store = Store(paths.home / "results", paths.spool, paths.bundles)
    write_bundle(
        store.inbox,
        unit,
        trials,
        host=host,
        attempt=attempt,
        started_at=NOW,
        finished_at=NOW,
        provenance={"identity": unit.identity},
    )


def take(paths: Paths, con: Connection) -> None:
    collect(paths, Store(paths.home / "results", paths.spool, paths.bundles), con)


@pytest.fixture
def con(paths: Paths) -> Iterator[Connection]:
    with writing(paths) as opened:
        yield opened


def save_run(con: Connection, commit: str = "abc") -> None:
    run = records.RunRecord(
        run_id="run",
        plan_id="plan",
        scale="smoke",
        domain="big_o",
        model="m",
        host="pi-4",
        code_commit=commit,
        dirty=False,
        versions={"duckdb": "1.5.5"},
        arguments_given={"n": 1},
        arguments_defaulted={},
    )
    records.save_run(con, run)


@settings(max_examples=15, deadline=None)
@given(floats=st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=6), text=st.text(max_size=10))
def test_floats_survive_to_the_last_bit(floats: list[tuple[float, float]], text: str) -> None:
    """From a phase through bundle, collector and warehouse back to metrics() no number moves by even one bit."""
    if any(0xD800 <= ord(c) < 0xE000 for c in text):
        text = "x"
    trials = [
        Trial("p", "none", latency_s=a, answer=text, details={"b": b, f"_{text}": [a, {"c": b}]}) for a, b in floats
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        unit = make_unit("a")
        give(paths, unit, trials)
        with writing(paths) as con:
            records.save_units(con, "run", "p1", [unit])
            take(paths, con)
            ((found_unit, found),) = records.trials_of(con, "run", "p1")
    assert found_unit == unit
    assert found == trials
    assert [float.hex(t.latency_s) for t in found if t.latency_s is not None] == [a.hex() for a, _ in floats]
    assert [t.details["b"].hex() for t in found] == [b.hex() for _, b in floats]


def test_units_keep_the_order_in_which_they_were_asked_for(con: Connection) -> None:
    """Rounds follow each other, storing the same again changes nothing, and phases and runs are separate."""
    first, second = [make_unit(f"a{i}") for i in range(5)], [make_unit(f"b{i}", round=2) for i in range(3)]
    records.save_units(con, "run", "p1", first)
    records.save_units(con, "run", "p1", [*first, *second])
    records.save_units(con, "run", "p1", [])
    records.save_units(con, "run", "p2", [make_unit("c", "p2")])
    records.save_units(con, "other", "p1", first[:1])
    assert records.units_of(con, "run", "p1") == [*first, *second]
    assert records.units_of(con, "other", "p1") == first[:1]
    assert records.units_of(con, "nowhere", "p1") == []


def test_a_unit_counts_once_and_each_host_has_its_own(paths: Paths, con: Connection) -> None:
    """Trials come in the order of the units with the bundle that counts; a host's first bundle where a host is named;
    a unit done with no trials is there and empty, one not done is not there."""
    units = [make_unit(label) for label in ("z", "a", "m", "empty", "missing")]
    records.save_units(con, "run", "p1", units)
    for unit in (units[2], units[0], units[1]):
        give(paths, unit, [Trial(f"{i}", "none", answer="pi-4") for i in range(12)])
        take(paths, con)
    give(paths, units[3], [])
    take(paths, con)
    for attempt in (1, 2):
        give(paths, units[0], [Trial("0", "none", answer=f"mac {attempt}")], "mac", attempt)
        take(paths, con)
    found = records.trials_of(con, "run", "p1")
    assert [u for u, _ in found] == units[:4]
    assert [[t.problem_id for t in trials] for _, trials in found] == [[str(i) for i in range(12)]] * 3 + [[]]
    assert {t.answer for _, trials in found for t in trials} == {"pi-4"}
    ((unit, trials),) = records.trials_of(con, "run", "p1", "mac")
    assert (unit, [t.answer for t in trials]) == (units[0], ["mac 1"])
    assert records.trials_of(con, "run", "p1", "nobody") == []
    assert records.hosts_of(con, "run", "p1") == ["mac", "pi-4"]
    assert records.done_units(con, [u.unit_id for u in units]) == {u.unit_id for u in units[:4]}
    assert records.done_units(con, []) == set()


def test_a_result_of_another_run_counts(paths: Paths, con: Connection) -> None:
    """The same unit in a second run needs no second computation."""
    unit = make_unit("a")
    records.save_units(con, "one", "p1", [unit])
    give(paths, unit, [Trial("p", "none")])
    take(paths, con)
    records.save_units(con, "two", "p1", [unit])
    assert records.trials_of(con, "two", "p1") == records.trials_of(con, "one", "p1") != []


def test_metrics_are_replaced_as_a_whole(con: Connection) -> None:
    """A second conclusion leaves none of the first's numbers, touches no other host, and may be empty."""
    save_run(con)
    records.save_metrics(con, "run", "p1", "all", Metrics((MAIN, Metric("accuracy", 0.5, n=3, condition="none"))))
    records.save_metrics(con, "run", "p1", "pi-4", Metrics((MAIN,)))
    records.save_metrics(con, "run", "p1", "all", Metrics((MAIN, Metric("accuracy", None, method="no trials"))))
    rows = con.execute("SELECT metric, condition, value, low, n, method, timing FROM phase_metrics ORDER BY position")
    assert rows.fetchall() == [
        ("similarity_ratio", "minilm", 1.31, 1.2, 70, "bootstrap, 1000 resamples", True),
        ("accuracy", "", None, None, 0, "no trials", False),
    ]
    records.save_metrics(con, "run", "p1", "all", Metrics(()))
    assert con.execute("SELECT count(*) FROM phase_metrics").fetchone() == (0,)
    assert con.execute("SELECT host, count(*) FROM host_comparison GROUP BY host").fetchall() == [("pi-4", 1)]


def test_a_verdict_comes_back_whole_and_an_override_stays(con: Connection) -> None:
    """The verdict is read as it was given; deciding again renews it, and who overrode it and why stays on record."""
    save_run(con)
    verdict = Verdict(
        Status.FAIL, "ratio 1.1 is under 1.2", p1.Findings(embedder="minilm", text_weight=0.5), MAIN, 1.2, STEPS
    )
    assert records.verdict_of(con, "run", "p1") is None
    records.save_metrics(con, "run", "p1", "all", Metrics((MAIN,)))
    records.save_verdict(con, "run", "p1", verdict, "pi-4", "known weak embedder")
    assert records.verdict_of(con, "run", "p1") == verdict
    records.save_verdict(con, "run", "p1", verdict)
    (row,) = records.chain_of(con, "run")
    assert (row["overridden_by"], row["why"], row["status"], row["threshold"]) == (
        "pi-4",
        "known weak embedder",
        "FAIL",
        1.2,
    )


def test_findings_come_back_as_records_of_the_phases_before(con: Connection) -> None:
    """Each phase reads what earlier ones found, in the order of the chain; a phase without findings is left out."""
    save_run(con)
    embedder, retrieval = p1.Findings(embedder="minilm", text_weight=0.5), e0.Findings(retrieval=RetrievalConfig(k=7))
    for phase, findings in (("e0", retrieval), ("p2", None), ("p1", embedder)):
        records.save_verdict(con, "run", phase, Verdict(Status.PASS, "yes", findings, MAIN))
    assert records.findings_of(con, "run") == Earlier((embedder, retrieval))
    assert records.findings_of(con, "run", before="e0") == Earlier((embedder,))
    assert [row["phase"] for row in records.chain_of(con, "run")] == ["p1", "p2", "e0"]
    assert records.findings_of(con, "nowhere") == Earlier()


def test_what_earlier_versions_stored_is_still_read(con: Connection) -> None:
    """Before schema 8 memos were lists, steps were lines and e0 had other fields: an old run is read, and shown, as it was."""
    save_run(con)
    records.save_verdict(con, "run", "e1", Verdict(Status.PASS, "yes", None, MAIN))
    memos = [["a", "O(n)", 0, 2, True, ["O(1)", "O(n)"]], ["b", "O(1)", 1, 1, False, []]]
    old = {"hypothesis": "weak_signal", "best": "semantic", "memos": memos, "test": ["c"], "no longer known": 1}
    con.execute("UPDATE verdicts SET findings = ?, next_steps = ?", [json.dumps(old), '["lab run e1  (why)"]'])
    found = records.findings_of(con, "run").of(e1.Findings)
    first, second = found.memos
    assert (first.problem_id, first.answer, first.attempts, first.guesses) == ("a", "O(n)", 2, ("O(1)", "O(n)"))
    assert (second.order, second.success, found.test) == (1, False, ("c",))
    verdict = records.verdict_of(con, "run", "e1")
    assert verdict is not None and [str(step) for step in verdict.next_steps] == ["lab run e1  (why)"]


def test_damaged_findings_name_the_phase_and_what_is_wrong(con: Connection) -> None:
    """A KeyError from the middle of a later phase would not say what is damaged."""
    save_run(con)
    records.save_verdict(con, "run", "p1", Verdict(Status.PASS, "yes", None, MAIN))
    con.execute("""UPDATE verdicts SET findings = '{"embedder": "minilm"}'""")
    with pytest.raises(LabError, match="the stored findings of p1 cannot be read: text_weight: Field required"):
        records.findings_of(con, "run")


def test_plan_run_and_prediction_keep_their_first_record(con: Connection) -> None:
    """A plan is what was written before the data; resuming a run changes neither its start nor its provenance."""
    records.save_plan(con, "plan", {"b": 1, "a": [0.1]})
    records.save_plan(con, "plan", {"b": 2})
    assert con.execute("SELECT content FROM plans").fetchall() == [('{"a":[0.1],"b":1}',)]
    save_run(con)
    first = con.execute("SELECT * FROM runs").fetchall()
    save_run(con, commit="def")
    assert con.execute("SELECT * FROM runs").fetchall() == first
    records.finish_run(con, "run")
    ended = con.execute("SELECT finished_at FROM runs").fetchone()
    records.finish_run(con, "run")
    assert ended
    assert ended == con.execute("SELECT finished_at FROM runs").fetchone() != (None,)
    durations.save_prediction(con, "run", "p1", 10.5)
    durations.save_prediction(con, "run", "p1", 99.0)
    durations.finish_prediction(con, "run", "p1", 12.25)
    durations.finish_prediction(con, "run", "p1", 0.5)
    assert con.execute("SELECT * FROM predictions").fetchall() == [("run", "p1", 10.5, 12.25)]


def test_a_plan_that_came_after_its_trials_says_so(paths: Paths, con: Connection) -> None:
    """Trials may serve a later plan, but that plan announced nothing; only one that was there before is a registration."""
    assert records.stands_under(con, "run") == "a plan without results"
    records.save_plan(con, "plan", {"a": 1})
    save_run(con)
    records.save_units(con, "run", "p1", [make_unit("one"), make_unit("two")])
    give(paths, make_unit("one"), [Trial("p", "none")])
    take(paths, con)
    assert records.stands_under(con, "run") == "plan plan, stored before the first trial"
    records.save_plan(con, "later", {"a": 2})
    con.execute("UPDATE runs SET plan_id = 'later'")
    give(paths, make_unit("two"), [Trial("p", "none")])
    take(paths, con)
    assert (
        records.stands_under(con, "run")
        == "plan later, stored when 1 of its 2 units had results of an earlier plan already"
    )
