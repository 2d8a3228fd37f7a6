"""The contract that every phase fulfils, and the records that pass between the floors.

A phase is a module with NAME, TITLE, QUESTION, BLOCKING, PROFILE, NEEDS, PLANNED, SCALES, Config, the four functions
units -> run -> metrics -> gate, and `sides` for the leakage gate (see `Phase`). Everything else - shards, bundles,
resuming, the pages - follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from experiments.domains import Problem

Json = dict[str, Any]
Sides = tuple[Sequence["Problem"], Sequence["Problem"] | None]  # (memory, test); test None: memory is split within


class PhaseConfig(BaseModel):
    """What all phases share; each phase's Config adds its own fields. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str = Field("big_o", description="domain name (docs/science.md), or jsonl:/path/to/your/file.jsonl")
    names: Literal["neutral", "natural"] = Field(
        "neutral", description="of functions in big_o: told by code alone, or not"
    )
    n_problems: int = Field(1650, ge=12, description="problems made in all; every phase draws from them")
    data_seed: int = Field(42, description="seed of data and splits (docs/science.md)")
    split: Literal["variant", "group"] = Field("variant", description="keep whole groups on one side, or only variants")
    run_seeds: tuple[int, ...] = Field((100, 200, 300), min_length=1, description="seeds of every stochastic condition")
    model: str = Field("smollm2-135m", description="language model name")
    temperature: float = Field(0.3, gt=0, description="of the softmax over option log-probabilities (docs/science.md)")
    max_guesses: int = Field(20, ge=2, description="guesses at most, where answers are guessed (docs/science.md)")
    # Measured with SmolLM2-135M: at 0.5 five of six guesses are formulas and differ, at 0.8 two of three are none.
    guess_temperature: float = Field(0.5, gt=0, description="of the softmax over tokens, where answers are guessed")
    near_similarity: float = Field(0.98, gt=0, le=1, description="cosine from which the leakage gate reports a pair")
    near_duplicates: Literal["report", "refuse"] = Field("report", description="what the leakage gate does with them")
    allow_leakage: str | None = Field(
        None, min_length=1, description="why to go on with data that leak; marks all results"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        # Settings within settings too: JSON, in which a plan is stored, has no infinity.
        if not _is_finite(value):
            raise ValueError("numbers must be finite")
        return value


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@dataclass(frozen=True)
class Unit:
    """One independent piece of work.

    unit_id is the hash of what decides the result: phase, config, spec, data version, model digests and the phase's
    code version (experiments.protocol.identity). The same id is never computed twice and can run on any host.
    """

    unit_id: str
    phase: str
    round: int  # which call of units() asked for it, from 1
    config: Json  # the phase's Config as plain JSON
    spec: Json  # what this unit is to do, in the phase's own words
    identity: Json  # versions that decide the result: {"code", "data", "models": {name: digest}}
    depends_on: tuple[str, ...] = ()  # unit ids whose results went into spec
    files: tuple[str, ...] = ()  # SHA-256 of files it needs (adapters left by earlier units)
    n_trials: int = 1  # trials it will return
    cost: float = 1.0  # seconds on two cores, rough (measured at demo scale); used to balance shards and foretell

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unit:
        return cls(**{**data, "depends_on": tuple(data["depends_on"]), "files": tuple(data["files"])})


@dataclass(frozen=True)
class Trial:
    """One observation: one problem under one condition with one seed. A failed one carries its error, never a zero."""

    problem_id: str
    condition: str
    seed: int | None = None
    attempts: int | None = None  # guesses needed, the main outcome
    solved: bool | None = None
    answer: str | None = None
    truth: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_s: float | None = None
    error: str | None = None
    details: Json = field(default_factory=dict)  # prompt, retrieved memos, option log-probabilities, vectors


@dataclass(frozen=True)
class Attachment:
    """A file that a unit leaves beside its trials (`Backends.attach`): an adapter. It travels in the unit's bundle."""

    name: str
    sha256: str
    content: bytes


@dataclass(frozen=True)
class Metric:
    """One number with its uncertainty. `value` None means undefined, and `method` says why."""

    metric: str  # field's standard term: similarity_ratio, accuracy, cliffs_delta
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0  # independent observations behind it
    failed: int = 0  # trials left out because they failed
    condition: str = ""  # embedder, condition, category or pair the number is about
    method: str = ""  # test or interval, with its parameters
    timing: bool = False  # True when it rests on a clock, so that it differs between two runs


@dataclass(frozen=True)
class Metrics:
    """All numbers of a phase, and the facts that are no numbers (what was skipped, the memos, the front)."""

    values: tuple[Metric, ...]
    facts: Json = field(default_factory=dict)

    def find(self, metric: str, condition: str = "") -> Metric | None:
        return next((m for m in self.values if m.metric == metric and m.condition == condition), None)


class Status(StrEnum):
    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Verdict:
    """What a gate decided: one sentence of reason, the number it looked at, what later phases need of it, what to try next."""

    status: Status
    reason: str
    findings: Json
    main: Metric
    threshold: float | None = None  # of `main`; None when the gate is not a threshold
    next_steps: tuple[str, ...] = ()  # the failure protocol, as commands where there is one
