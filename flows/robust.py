"""Decide one study in several specifications, in this process: `lab robust`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from common.errors import LabError
from experiments.backends.remembered import RememberingBackends
from experiments.contract import Unit, Verdict
from experiments.domains import get_domain
from experiments.protocol.specifications import Specification, as_given
from flows.local import run_local
from flows.plan import Plan, plan
from warehouse.database import records
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths


@dataclass(frozen=True)
class Decided:
    """One specification with its verdict, or why it has none."""

    specification: Specification
    run_id: str  # "" where there is no verdict
    verdict: Verdict | None
    why_not: str = ""


def decide_each(
    paths: Paths,
    study: Plan,
    phase: str,
    wanted: Sequence[Specification],
    on_unit: Callable[[Specification, int, int], None],
) -> list[Decided]:
    """Run the phase in each specification and return its verdicts, in their order; the first is the study itself.

    Units with a result are not computed again, and no prompt is sent to the same model twice. A specification that this
    machine cannot compute has the reason in place of a verdict.

    Args:
        study: the plan that is asked about.
        on_unit: called as on_unit(specification, done, total) after each unit and once before the first.

    Raises:
        LabError: the study itself cannot be decided.
    """
    backends = RememberingBackends(Store.configured(paths).get_file)
    found: list[Decided] = []
    for one in wanted:
        try:
            planned = study if not one.settings else _varied(study, phase, one)
            verdict = run_local(paths, planned, phase, partial(_report, on_unit, one), backends=backends)
        except LabError as error:
            if not one.settings:
                raise
            found.append(Decided(one, "", None, str(error)))
            continue
        found.append(Decided(one, planned.run.run_id, verdict))
        if not one.settings:
            _remember(paths, study, phase, backends)
    return found


def _report(
    on_unit: Callable[[Specification, int, int], None], one: Specification, done: int, total: int, _: Unit
) -> None:
    on_unit(one, done, total)


def _varied(study: Plan, phase: str, one: Specification) -> Plan:
    run = study.run
    given: Mapping[str, Mapping[str, Any]] = {**run.given, phase: {**run.given.get(phase, {}), **as_given(one)}}
    return replace(plan(run.scale, given, (phase,)), specification_of=run.run_id)


def _remember(paths: Paths, study: Plan, phase: str, backends: RememberingBackends) -> None:
    """Keep what the study's own trials know of the model, wherever they were computed: the same plan, so the same numbers."""
    config = study.run.configs[phase]
    options = [f" {option}" for option in get_domain(config.domain).options]  # as experiments.solving scores them
    with writing(paths) as con:
        results = records.trials_of(con, study.run.run_id, phase)
    backends.remember(
        config.model, config.precision, (t for r in results if not r.unit.files for t in r.trials), options
    )
