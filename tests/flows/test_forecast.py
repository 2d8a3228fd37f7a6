"""What a run will take: rounds as the phases make them, machines as they registered, durations as they were recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_up_host import made_up_report

from experiments import e1_retrieval_strategies as e1
from experiments.analysis.e2_analysis import CONDITIONS
from experiments.contract import Result, Trial, Unit
from experiments.data import split
from experiments.findings import Earlier
from experiments.protocol import leakage_gate
from experiments.registry import PHASES, configure, expected_findings, get_phase
from experiments.solving.memory_bank import MemoRecord
from flows.chain import advance, open_run
from flows.forecast import expected_seconds, forecast, rounds_of, speeds_at
from flows.plan import Run, plan
from flows.reports import registered
from warehouse.database import durations
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.assess import CapabilityReport
from workpools.placement import Placement
from workpools.plan import RECORDED, Round, speed_of
from workpools.shards import cut

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ADAPTER = "f" * 64
pytestmark = pytest.mark.usefixtures("any_trials")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    return Paths.local()


def measured(host: str, gflops: float = 180.0) -> CapabilityReport:
    """Return the report of a host of 16 GB with this speed."""
    return made_up_report(host, matrix_gflops=gflops)


def costs(rounds: Sequence[Round], phase: str) -> list[list[float]]:
    return [list(r.costs) for r in rounds if r.phase == phase]


def results(units: Sequence[Unit]) -> list[Result]:
    """Made-up results that a phase's next round can be planned on."""
    done = []
    for unit in units:
        problems = unit.spec.get("problems", ["x"])
        details = {"adapter": ADAPTER, "order": 0, "guesses": [], "query": "a loop"}
        condition = str(unit.spec.get("role"))
        done.append(
            Result(
                unit, [Trial(p, condition, attempts=1, solved=True, truth="O(1)", details=details) for p in problems]
            )
        )
    return done


def rounds_by_phase(configs: Any, phase: str, findings: Earlier) -> list[list[float]]:
    """Costs of all rounds as the phase itself and the leakage gate make them."""
    module, config = get_phase(phase), configs[phase]
    first = leakage_gate.next_units(phase, config, findings, [])
    found, so_far = [[u.cost for u in first]], [r for r in results(first) if r[0].spec.get("role") != "leakage"]
    while more := module.units(config, findings, so_far):
        found.append([u.cost for u in more])
        so_far += results(more)
    return found


def findings_by(configs: Any, hypothesis: str) -> Earlier:
    """The findings of E1 for E2, with every problem of its memory solved."""
    memory, test = split(configs["e1"], configs["e1"].n_memory, configs["e1"].n_test)
    memos = tuple(MemoRecord(problem_id=p.problem_id, answer=p.label, order=i) for i, p in enumerate(memory))
    found = e1.Findings(hypothesis=hypothesis, best="semantic", memos=memos, test=tuple(p.problem_id for p in test))
    return Earlier((found, *expected_findings().findings))


@pytest.mark.parametrize("hypothesis", CONDITIONS)
@pytest.mark.parametrize("scale", ["smoke", "demo"])
def test_the_rounds_foreseen_are_those_that_come(scale: str, hypothesis: str) -> None:
    """Later rounds depend on results, so they are foreseen by rules of the forecast's own: units and costs must be the same
    as the phases' own once the results are there, for each hypothesis that E1 may find."""
    configs = {name: configure(name, scale) for name in PHASES}
    findings = findings_by(configs, hypothesis)
    rounds = rounds_of(configs, findings)
    assert list(dict.fromkeys(r.phase for r in rounds)) == list(PHASES)
    for phase in PHASES if hypothesis == "weak_signal" else ["e2"]:
        coming = rounds_by_phase(configs, phase, findings)
        assert len(costs(rounds, phase)) == len(coming)
        for foreseen, come in zip(costs(rounds, phase), coming, strict=True):
            assert sorted(foreseen) == pytest.approx(sorted(come))
    assert [r.number for r in rounds if r.phase == "e2"] == [1, 2, 3]
    assert {r.profile for r in rounds if r.phase == "e1"} == {"e0_e1"}


@pytest.mark.parametrize("domain", ["big_o", "equations"])
def test_odd_counts_and_guessed_answers_are_foreseen_too(domain: str) -> None:
    """Units that do not come out even, more problems for E2 than E1 has, and equations, which take many guesses a problem: a
    forecast that took them for choices would be hours short."""
    given: Any = {
        "p2": {"n_test": 12, "per_unit": 2, "look_every": 5},
        "e1": {"n_test": 7, "per_unit": 2},
        "e2": {"n_test": 20, "per_unit": 3},
    }
    configs = {name: configure(name, "smoke", {"domain": domain} | given.get(name, {})) for name in PHASES}
    findings = findings_by(configs, "correction")
    for phase in ("p2", "e1", "e2"):
        coming, foreseen = rounds_by_phase(configs, phase, findings), costs(rounds_of(configs, findings), phase)
        assert [sorted(c) for c in foreseen] == [pytest.approx(sorted(c)) for c in coming]


def test_a_search_that_may_refuse_is_a_round_of_its_own() -> None:
    """With near_duplicates=refuse the phase waits for the search, on one machine: the forecast must not spread it."""
    configs = {name: configure(name, "smoke", {"near_duplicates": "refuse"}) for name in PHASES}
    first = leakage_gate.next_units("p2", configs["p2"], expected_findings(), [])
    found = costs(rounds_of(configs), "p2")
    assert found[0] == pytest.approx([u.cost for u in first])
    assert found[1:] == [[u.cost for u in get_phase("p2").units(configs["p2"], expected_findings(), [])]]


def test_work_expected_is_the_work_planned() -> None:
    """The demo's announcement, the progress line and the plan must not tell three different stories."""
    run = plan("smoke").run
    rounds = rounds_of(run.configs)
    assert expected_seconds(plan("smoke").run) == {p: pytest.approx(sum(map(sum, costs(rounds, p)))) for p in PHASES}
    alone = forecast(run, [measured("a")])
    assert alone.seconds > sum(expected_seconds(plan("smoke").run).values())


def test_registered_machines_are_those_with_a_sound_report_of_their_own(home: Paths) -> None:
    """One torn report must not keep the plan of all others, and a report under another's name is not believed."""
    store = Store.configured(home)
    assert registered(store) == ([], [])
    good = measured("a").model_dump_json().encode()
    for host, content in (("a", good), ("b", good), ("c", good[:200])):
        store.put_report(host, content)
    found, wrong = registered(store)
    assert found == [measured("a")]
    assert [w[:3] for w in wrong] == ["b: ", "c: "]
    assert "names another host, a" in wrong[0] and "not JSON" in wrong[1]


def deliver(
    home: Paths, unit: Unit, host: str, seconds: float, error: str | None = None, started: datetime = NOON
) -> None:
    """A bundle with one made-up trial that took `seconds` on `host`."""
    write_bundle(
        home.spool,
        unit,
        [Trial("x", "made up", error=error)],
        host=host,
        attempt=1,
        started_at=started,
        finished_at=started + timedelta(seconds=seconds),
        provenance={"identity": unit.identity},
    )
    Store.configured(home).deliver(home.spool)


def first_run(home: Paths, scale: str = "smoke") -> tuple[Run, list[Unit]]:
    """A run whose P1 was asked for its units: the search, then one an embedder."""
    with writing(home) as con:
        run = open_run(con, plan(scale))
        return run, list(advance(con, run, "p1").units)


def test_what_a_machine_took_decides_the_next_forecast(home: Paths) -> None:
    """After a run the forecast rests on real durations: those of the same phase, scale, domain and model, on that machine."""
    run, units = first_run(home)
    for unit in units:
        deliver(home, unit, "a", unit.cost / 4)
    with writing(home) as con:
        collect(home, Store.configured(home), con)
        rows = durations.durations_of(con, "smoke")
        assert [(r.phase, r.round, r.host, r.domain, r.model) for r in rows] == [
            ("p1", 1, "a", "big_o", "smollm2-135m")
        ]
        total = sum(u.cost for u in units)
        assert (rows[0].cost_s, rows[0].seconds) == (pytest.approx(total), pytest.approx(total / 4))
        assert durations.durations_of(con, "demo") == []
        planned = forecast(run, [measured("a"), measured("b")], con)
        other = plan("smoke", {p: {"domain": "equations"} for p in PHASES}).run
        speeds = [s.speed.basis for s in forecast(other, [measured("a")], con).stages[0].shares]
    p1, p2 = planned.stages[:2]
    speed_of_a = next(s.speed for s in p1.shares if s.host == "a")
    assert (speed_of_a.factor, speed_of_a.basis) == (pytest.approx(4.0), RECORDED)
    assert {s.speed.basis for s in p1.shares if s.host != "a"} <= {"180 GFLOPS"}
    assert {s.speed.basis for s in p2.shares} == {"180 GFLOPS"}
    assert speeds == ["180 GFLOPS"]


def test_the_pipeline_cuts_as_the_plan_tells(home: Paths) -> None:
    """A plan of shards that nobody submits would foretell times that nobody sees: machine by machine they have to be the same
    units, also when one of them turned out slower than it was measured."""
    reports = [measured("a", 36.0), measured("b", 18.0), measured("c", 540.0)]
    run, units = first_run(home, "demo")
    deliver(home, units[-1], "c", units[-1].cost * 2)
    with writing(home) as con:
        collect(home, Store.configured(home), con)
        stage = forecast(run, reports, con).stages[0]
        speeds = speeds_at(run, "p1", units, reports, con)
    assert stage.pool and speeds == {"a": 0.2, "b": 0.1, "c": pytest.approx(0.5)}
    parts = cut([u.cost for u in units], Placement(stage.pool, ("a", "b", "c"), ""), speeds)
    sent = {p.host: [units[i].cost for i in p.units] for p in parts}
    assert sent == {s.host: pytest.approx([stage.round.costs[i] for i in s.units]) for s in stage.shares}
    assert len(sent) > 1 and stage.seconds > 0


def test_a_refusal_or_a_wrong_clock_is_no_duration(home: Paths) -> None:
    """A missing model answers in a moment, and a clock that was set back makes units end before they start: neither says how
    fast a machine is. A repeat elsewhere counts there, and a unit shared by two runs once."""
    _, (search, *units) = first_run(home)
    deliver(home, search, "a", 0.001, error="no embedder")
    deliver(home, units[0], "a", -5)
    deliver(home, units[1], "a", 7, started=NOON.astimezone(None))
    deliver(home, units[1], "b", 3)
    with writing(home) as con:
        collect(home, Store.configured(home), con)
        con.execute(
            "INSERT INTO runs SELECT * REPLACE ('another' AS run_id) FROM runs; "
            "INSERT INTO units SELECT * REPLACE ('another' AS run_id) FROM units"
        )
        rows = durations.durations_of(con, "smoke")
    assert [(r.host, r.cost_s, r.seconds) for r in rows] == [
        ("a", units[1].cost, pytest.approx(7)),
        ("b", units[1].cost, pytest.approx(3)),
    ]


def test_an_unfinished_phase_has_a_prediction_and_no_actual(home: Paths) -> None:
    """What was foreseen and what it took are told apart from what never ended."""
    with writing(home) as con:
        durations.save_prediction(con, "run", "p1", 10.5)
        durations.save_prediction(con, "run", "p2", 20.0)
        durations.finish_prediction(con, "run", "p1", 12.25)
        assert durations.predictions_of(con, "run") == {"p1": (10.5, 12.25), "p2": (20.0, None)}
        assert durations.predictions_of(con, "other") == {}


def test_the_reference_takes_as_long_as_its_costs(home: Paths) -> None:
    """A machine measured like the reference is expected to take each unit's own cost."""
    run = plan("smoke").run
    (one,) = [r for r in rounds_of(run.configs) if r.phase == "p2"]
    assert speed_of(one, measured("a", 180.0), {}).factor == 1
