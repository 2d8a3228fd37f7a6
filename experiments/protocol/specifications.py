"""Specifications of a study: the choices beside its question that could have been made otherwise, and that a verdict should survive.

A verdict that holds in one specification only rests on it (Steegen, Tuerlinckx, Gelman and Vanpaemel 2016, Perspectives on
Psychological Science 11:702; Simonsohn, Simmons and Nelson 2020, Nature Human Behaviour 4:1208). Specifications explain a
verdict; no gate reads them, and a better one is no reason to change the plan.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from common.errors import LabError
from common.text import value_text
from experiments.contract import Json, PhaseConfig
from experiments.data import split
from experiments.domains import get_domain
from experiments.precision import Precision

ROBUST = ("p2", "e1", "e2")  # phases whose verdict is a test
OTHER_SEEDS = 300  # from a run seed to that of the other draw: 100, 200, 300 become 400, 500, 600
DRAWS = 2  # other memories
K_STEP = 2  # memos fewer and more: from the protocol's 5 to 3 and 7, the next of E0's grid
# Factors of a specification, all fields of a phase's configuration, in the order in which they are listed.
FACTORS = ("option_order", "calibration", "memory_draw", "run_seeds", "precision", "k", "topics")


@dataclass(frozen=True)
class Specification:
    """The values in which a study differs from the one that is asked about; none for itself."""

    settings: Mapping[str, Any]

    def __str__(self) -> str:
        """Return "k 3, option_order reversed"; "as planned" for the study itself."""
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.settings.items()) or "as planned"


def specifications(
    phase: str, config: PhaseConfig, precisions: Sequence[Precision], every: bool
) -> list[Specification]:
    """Return the specifications of a study, itself first.

    Args:
        phase: one of ROBUST.
        config: of the study.
        precisions: those in which this machine can compute the model.
        every: all combinations; else one factor at a time.

    Raises:
        LabError: the phase has none.
    """
    if phase not in ROBUST:
        raise LabError(f"the verdict of {phase} is no test of differences", f"choose one of: {', '.join(ROBUST)}")
    others = alternatives(phase, config, precisions)
    if not every:
        return [Specification({}), *(Specification({name: v}) for name, values in others.items() for v in values)]
    grid = itertools.product(*([None, *values] for values in others.values()))
    return [Specification({n: v for n, v in zip(others, row, strict=True) if v is not None}) for row in grid]


def alternatives(phase: str, config: PhaseConfig, precisions: Sequence[Precision]) -> dict[str, tuple[Any, ...]]:
    """Return the other values of each factor that can be varied in this study.

    A memory that has all there is cannot be drawn otherwise; E2's memory is E1's. Where answers are guessed there are no options.
    """
    found: dict[str, tuple[Any, ...]] = {}
    if get_domain(config.domain).answers == "choice":
        for name in ("option_order", "calibration"):
            known = get_args(type(config).model_fields[name].annotation)
            found[name] = tuple(v for v in known if v != getattr(config, name))
    if phase != "e2":
        found["memory_draw"] = _draws(config)
    found["run_seeds"] = (tuple(seed + OTHER_SEEDS for seed in config.run_seeds),)
    found["precision"] = tuple(
        p for p in (Precision.FLOAT32, Precision.BFLOAT16) if p in precisions and p != config.precision
    )
    k = int(getattr(config, "k"))  # noqa: B009 - a field of the three phases, not of all
    found["k"] = tuple(n for n in (k - K_STEP, k + K_STEP) if 0 < n <= getattr(config, "n_memory", n))
    if phase == "e1":  # in P2 the gate does not ask about recent memos
        topics = int(getattr(config, "topics"))  # noqa: B009
        found["topics"] = tuple(n for n in (topics // 2, topics * 2) if n > 0)
    return {name: values for name, values in found.items() if values}


def _draws(config: PhaseConfig) -> tuple[int, ...]:
    """Return the numbers of other draws of the memory; none where they would all draw the same problems."""

    def ids(draw: int) -> frozenset[str]:
        drawn = config.model_copy(update={"memory_draw": draw})
        return frozenset(p.problem_id for p in split(drawn, drawn.n_memory, drawn.n_test).memory)  # type: ignore[attr-defined]

    own = ids(config.memory_draw)
    return tuple(n for n in (config.memory_draw + 1 + i for i in range(DRAWS)) if ids(n) != own)


def difference(phase: str, configs: Json, other: Json) -> Specification | None:
    """Return what another plan's phase differs in, if it is a specification of the same study; else None, also if nothing does.

    Args:
        configs, other: the configurations of all phases in a plan, as stored.
    """
    if (
        phase not in configs
        or configs.keys() != other.keys()
        or any(configs[p] != other[p] for p in configs if p != phase)
    ):
        return None
    own, theirs = configs[phase], other[phase]
    names = [n for n in {**own, **theirs} if own.get(n) != theirs.get(n)]
    if not names or not set(names) <= set(FACTORS):
        return None
    return Specification({n: theirs.get(n) for n in FACTORS if n in names})


def conclusion(status: str, findings: Json) -> str:
    """Return what a verdict concludes: its status, and in E1 the hypothesis that it chooses ("PASS, awakening").

    Args:
        findings: as stored; {} where there are none.
    """
    chosen = findings.get("hypothesis")
    return f"{status}, {chosen}" if chosen else status


def as_given(specification: Specification) -> dict[str, Any]:
    """Return its values as a command line or a plan gives them: plain JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(specification.settings)))
    return plain
