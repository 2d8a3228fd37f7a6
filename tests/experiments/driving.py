"""Drives a phase as the chain does, in this process: units, checked and sent through JSON, their trials, their files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from common.canonical_json import canonical
from experiments.backends.model_cache import Backends
from experiments.contract import Json, Result, Trial, Unit, Verdict
from experiments.expected import Columns
from experiments.findings import Earlier, PhaseFindings
from experiments.protocol.identity import check_unit
from experiments.registry import PHASES, configure, get_phase


def required_of(kind: type[PhaseFindings]) -> set[str]:
    """Names of the findings that a phase always has."""
    return {name for name, field in kind.model_fields.items() if field.is_required()}


def earlier(findings: Json) -> Earlier:
    """The findings of earlier phases from all their values in one dictionary; a phase without a value there has none."""
    kinds = [get_phase(name).Findings for name in PHASES]
    there = [kind for kind in kinds if (asked := required_of(kind)) and asked <= findings.keys()]
    return Earlier(tuple(kind.model_validate(findings) for kind in there))


def drive(
    name: str, given: Json, findings: Json, backends: Backends, files: dict[str, bytes]
) -> tuple[list[Result], Verdict]:
    """All units of a phase with their trials, and its verdict; what every phase promises is asserted on the way."""
    phase, config = get_phase(name), configure(name, "smoke", given)
    done: list[Result] = []
    while planned := phase.units(config, earlier(findings), done):
        for sent in planned:
            unit = Unit.from_json(json.loads(json.dumps(sent.to_json())))
            check_unit(unit, config)
            trials = phase.run(unit, backends)
            # An embedder that cannot be loaded leaves one row a problem, not one for every cell of E0's grid.
            skipped = name == "e0" and all(t.error for t in trials)
            assert skipped or len(trials) == unit.n_trials, f"{unit.spec}: {len(trials)} of {unit.n_trials} trials"
            for trial in trials:
                check_trial(trial)
            attached = {a.sha256: a.content for a in backends.take_attachments()}
            files.update(attached)
            assert phase.expected(unit).wrong(columns_of(trials), list(attached)) is None
            done.append(Result(unit, trials))
    trials = [t for _, own in done for t in own]
    found = phase.metrics(trials, config)
    for m in found.values:
        assert all(v is None or math.isfinite(v) for v in (m.value, m.low, m.high)), m
        assert m.value is not None or m.method, m
        assert m.low is None or m.high is None or m.low <= m.high, m
    verdict = phase.gate(found, config)
    assert verdict.reason and "nan" not in verdict.reason and "\n" not in verdict.reason
    if verdict.findings:
        canonical(verdict.findings.model_dump(mode="json"))
    return done, verdict


def columns_of(trials: Sequence[Trial]) -> Columns:
    """Trials as they lie in a bundle."""
    names = [f.name for f in fields(Columns) if f.name != "details"]
    details = [canonical(t.details).encode() for t in trials]
    return Columns(**{name: [getattr(t, name) for t in trials] for name in names}, details=details)


def check_trial(trial: Trial) -> None:
    """A failed trial has its error and no number, any other no error; details are JSON without NaN, seconds positive."""
    canonical(trial.details)
    assert trial.problem_id and trial.condition
    if trial.error is not None:
        assert trial.error and "\n" not in trial.error
        assert trial.attempts is trial.solved is trial.answer is None
    for number in (trial.attempts, trial.tokens_in, trial.latency_s):
        assert number is None or number > 0
    assert trial.tokens_out is None or trial.tokens_out >= 0


def by_condition(done: list[Result]) -> dict[str, list[Trial]]:
    """Trials of each condition, in order."""
    found: dict[str, list[Any]] = {}
    for _, trials in done:
        for t in trials:
            found.setdefault(t.condition, []).append(t)
    return found
