"""Forecast a run: its rounds with their units' costs, the registered machines, and recorded durations.

A phase itself gives the units of its first round. Later rounds depend on results that are not there yet; their units are
counted by the same rules, and tests compare them with the phases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from duckdb import DuckDBPyConnection

from experiments import e1_retrieval_strategies as e1
from experiments.contract import PhaseConfig, Unit
from experiments.findings import Earlier
from experiments.precision import Precision
from experiments.protocol import leakage_gate
from experiments.registry import PHASES, expected_findings, get_phase
from experiments.solving.solving import effort
from flows.plan import Run
from warehouse.database import durations, records
from workpools.assess import CapabilityReport
from workpools.needs import demand
from workpools.plan import Record, Recorded, Round, RoundOnHost, Schedule, measured, pooled, schedule, speed_of
from workpools.roles import Pins

NAMES = {
    ("p1", 1): "embedding",
    ("p2", 1): "solving",
    ("p3", 1): "training and the base's answers",
    ("p3", 2): "the tuned model's answers",
    ("e0", 1): "sweep",
    ("e1", 1): "memos",
    ("e1", 2): "evaluation",
    ("e2", 1): "training",
    ("e2", 2): "evaluation",
    ("e2", 3): "crossed writers and solvers",
}


def rounds_of(configs: Mapping[str, PhaseConfig], findings: Earlier | None = None) -> list[Round]:
    """Return all rounds of all phases, in order.

    Args:
        configs: by phase.
        findings: of phases of this run that are decided.
    """
    known = Earlier((*(findings.findings if findings else ()), *expected_findings().findings))
    found = list[Round]()
    for phase in PHASES:
        config = configs[phase]
        profile, needs = demand(phase, config)
        costs = _costs(phase, configs, known)
        search = leakage_gate.SEARCH_S * _texts(phase, configs, known)
        if config.near_duplicates == "refuse":
            found.append(Round(phase, 1, "search for near pairs", profile, needs, (search,), config.precision))
        else:
            costs[0] = [search, *costs[0]]
        for number, units in enumerate(costs, 1):
            name = NAMES.get((phase, number), f"round {number}")
            found.append(Round(phase, number, name, profile, needs, tuple(units), config.precision))
    return found


def _costs(phase: str, configs: Mapping[str, PhaseConfig], known: Earlier) -> list[list[float]]:
    """Return the seconds of every unit on the reference machine, by round."""
    module: Any = get_phase(phase)
    config: Any = configs[phase]
    if phase == "e2":
        each, trainings = module.EVALUATION_S * effort(config), len(config.train_seeds)
        by_tokens = min(config.n_by_tokens, trainings)
        training = [module.TRAINING_S * config.n_train * config.lora.epochs] * (2 * trainings + by_tokens)
        asked, tests = module.asked(config, known.of(e1.Findings).hypothesis), _e2_tests(configs)
        crossed = _parts(min(tests, config.n_crossed), config.per_unit, each) * len(module.CROSSED)
        return [training, _parts(tests, config.per_unit, each) * len(asked), *([crossed] if crossed else [])]
    if phase == "p2":
        return [[u.cost for u in units] for units in module.rounds(config, known)]  # all, though a look may end it
    units = module.units(config, known, [])
    first = [u.cost for u in units]
    if phase == "p3":
        # The tuned model is asked what the base was asked.
        return [first, [u.cost for u in units if u.spec["role"] == "base"]]
    if phase == "e1":
        return [first, _parts(config.n_test, config.per_unit, module.problem_s(config) * effort(config))]
    return [first]


def _parts(problems: int, per_unit: int, seconds: float) -> list[float]:
    return [seconds * min(per_unit, problems - i) for i in range(0, problems, per_unit)]


def _e2_tests(configs: Mapping[str, PhaseConfig]) -> int:
    """Return the number of test problems of E2, which are among E1's."""
    e1, e2 = (configs[name].model_dump() for name in ("e1", "e2"))
    return int(min(e1["n_test"], e2["n_test"]))


def _texts(phase: str, configs: Mapping[str, PhaseConfig], known: Earlier) -> int:
    """Return the number of texts that the search for near pairs embeds."""
    if phase == "e2":
        e1: Any = configs["e1"]
        return int(e1.n_memory) + _e2_tests(configs)
    memory, test = get_phase(phase).sides(configs[phase], known)
    return len(memory) + len(test or ())


def forecast(
    run: Run,
    reports: Sequence[CapabilityReport],
    con: DuckDBPyConnection | None = None,
    online: Mapping[str, Sequence[str]] | None = None,
    pins: Pins | None = None,
) -> Schedule:
    """Plan the whole run, from its first unit, on these hosts.

    Args:
        run: the planned run.
        reports: one a host.
        con: of the warehouse; its recorded durations at this scale, domain, model and precision count before measured
            speeds.
        online: the hosts that serve each pool; by their tiers unless given.
        pins: the host or tier that gets a phase, by phase.
    """
    findings = records.findings_of(con, run.run_id) if con else None
    return schedule(rounds_of(run.configs, findings), reports, _recorded(run, con) if con else None, online, pins)


def in_each_precision(
    run: Run,
    reports: Sequence[CapabilityReport],
    con: DuckDBPyConnection | None = None,
    online: Mapping[str, Sequence[str]] | None = None,
    pins: Pins | None = None,
) -> dict[Precision, float]:
    """Return the seconds of the whole run in float32 and in bfloat16; {} where machines were not measured in both."""
    both = (Precision.FLOAT32, Precision.BFLOAT16)
    able = [r for r in reports if "language_model" in r.engines]
    measured_in_both = all(r.prefill_tokens_per_s and r.prefill_bfloat16_tokens_per_s for r in able)
    if not able or not measured_in_both or any(c.precision not in both for c in run.configs.values()):
        return {}
    configs = {p: {name: c.model_copy(update={"precision": p}) for name, c in run.configs.items()} for p in both}
    return {p: forecast(replace(run, configs=configs[p]), reports, con, online, pins).seconds for p in both}


def _recorded(run: Run, con: DuckDBPyConnection) -> Recorded:
    """Return what hosts did before of the run's phases, at its scale, domain, model and precision."""
    return pooled(
        (RoundOnHost(r.phase, r.round, r.host), Record(r.cost_s, r.seconds))
        for r in durations.durations_of(con, run.scale)
        if (c := run.configs.get(r.phase)) and (r.domain, r.model, r.precision) == (c.domain, c.model, c.precision)
    )


def speeds_at(
    run: Run, phase: str, units: Sequence[Unit], reports: Sequence[CapabilityReport], con: DuckDBPyConnection
) -> dict[str, float | None]:
    """Return each registered host's speed at these units of one phase, as in the plan; None where nothing was measured."""
    config = run.configs[phase]
    one = Round(phase, max(u.round for u in units), "", *demand(phase, config), (), config.precision)
    recorded = _recorded(run, con)
    return measured({r.host: speed_of(one, r, recorded) for r in reports})


def expected_seconds(run: Run) -> dict[str, float]:
    """Return the work of each phase in seconds on two cores, by the costs of its units; later rounds by the same rates."""
    found = dict.fromkeys(PHASES, 0.0)
    for one in rounds_of(run.configs):
        found[one.phase] += sum(one.costs)
    return found
