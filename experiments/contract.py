"""The records that phases share: configs, units, trials, metrics, findings, verdicts, next steps.

A phase is a module with the names and functions of `experiments.registry.Phase`.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from experiments.findings import PhaseFindings
from experiments.precision import Precision

if TYPE_CHECKING:
    from experiments.domains import Problem

Json = dict[str, Any]
Trainer = Literal["peft", "mlx"]  # trains LoRA adapters
# Values that follow from the domain, or from a model's prefix, where none are given.
OF_DOMAIN: Mapping[str, Json] = {"big_o": {"names": "natural"}}  # docs/science.md, "The default task"
OF_PREFIX: Mapping[str, Json] = {"ollama": {"precision": Precision.STORED.value}, "mlx": {"trainer": "mlx"}}


class Sides(NamedTuple):
    """The two sides of a phase's test; `test` is None where the problems in `memory` are split among themselves."""

    memory: Sequence[Problem]
    test: Sequence[Problem] | None


class PhaseConfig(BaseModel):
    """The settings that all phases share; each phase's Config adds its own. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str = Field("big_o", description="domain name (docs/science.md), or jsonl:/path/to/your/file.jsonl")
    names: Literal["neutral", "natural"] = Field(
        "neutral", description="of functions in big_o: natural says what they do (its default), neutral says nothing"
    )
    n_problems: int = Field(1880, ge=12, description="problems made in all; every phase draws from them")
    balance: Literal["equal", "natural"] = Field(
        "equal", description="of classes: equal, or as often as in your own data, of which then all rows count"
    )
    data_seed: int = Field(42, description="seed of data and splits (docs/science.md)")
    split: Literal["variant", "group"] = Field("variant", description="whole groups on one side, or only variants")
    run_seeds: tuple[int, ...] = Field((100, 200, 300), min_length=1, description="seeds of every stochastic condition")
    model: str = Field("smollm2-135m", description="language model name")
    precision: Precision = Field(
        Precision.FLOAT32, description="numbers of the language model: float32, bfloat16, int8, 4-bit or stored"
    )
    trainer: Trainer = Field("peft", description="of LoRA adapters; mlx for models of MLX unless given")
    temperature: float = Field(0.3, gt=0, description="of the softmax over option log-probabilities (docs/science.md)")
    calibration: Literal["none", "contextual", "batch"] = Field(
        "none", description="of option log-probabilities: against a prompt without content, or over a unit's problems"
    )
    option_order: Literal["balanced", "listed", "reversed"] = Field(
        "balanced", description="of the options in a prompt: balanced over problems, or one order for all"
    )
    memory_draw: int = Field(
        0, ge=0, description="which problems are remembered where there are more than asked for: each number is a draw"
    )
    max_guesses: int = Field(20, ge=2, description="guesses at most, where answers are guessed (docs/science.md)")
    # Measured with SmolLM2-135M: at 0.5 five of six guesses are formulas and differ, at 0.8 two of three are none.
    guess_temperature: float = Field(0.5, gt=0, description="of the softmax over tokens, where answers are guessed")
    near_similarity: float = Field(0.98, gt=0, le=1, description="cosine from which the leakage gate reports a pair")
    near_duplicates: Literal["report", "refuse"] = Field("report", description="what the leakage gate does with them")
    allow_leakage: str | None = Field(
        None, min_length=1, description="why to go on with data that leak; marks all results"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_others(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        domain = values.get("domain", cls.model_fields["domain"].default)
        return {
            **OF_DOMAIN.get(str(domain), {}),
            **OF_PREFIX.get(str(values.get("model")).partition("/")[0], {}),
            **values,
        }

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

    unit_id is the hash of what decides the result: phase, config with the precision, spec, data version, model digests,
    engines with their versions and the phase's code version (experiments.protocol.identity). The same id is never computed
    twice and can run on any host that computes in these numbers.
    """

    unit_id: str
    phase: str
    round: int  # which call of units() asked for it, from 1
    config: Json  # the phase's Config as plain JSON
    spec: Json  # what this unit is to do, in the phase's own words
    identity: (
        Json  # versions that decide the result (experiments.protocol.identity); units before 0.2 have no "engines"
    )
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
    """One observation: one problem under one condition. A failed one carries its error, never a zero.

    Its seed is None where nothing was drawn.
    """

    problem_id: str
    condition: str
    seed: int | None = None
    attempts: float | None = None  # guesses needed, the main outcome; expected ones where log-probabilities give them
    solved: bool | None = None
    answer: str | None = None
    truth: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_s: float | None = None
    first_right: float | None = None  # probability that the first guess is right; from `attempts` where they were drawn
    error: str | None = None
    details: Json = field(default_factory=dict)  # prompt, retrieved memos, option log-probabilities, vectors

    def __post_init__(self) -> None:
        if self.first_right is None and self.attempts is not None:
            object.__setattr__(self, "first_right", float(self.attempts == 1))


class Result(NamedTuple):
    """A unit that was computed, with its trials."""

    unit: Unit
    trials: Sequence[Trial]


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
class LabRun:
    """The command `lab run PHASE --set KEY=VALUE`; a key with a dot names another phase's value (e1.n_test)."""

    phase: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the command line, quoted for a shell."""
        given = (
            f"{k}={v if isinstance(v, str) else json.dumps(v, separators=(',', ':'))}" for k, v in self.settings.items()
        )
        return " ".join([f"lab run {self.phase}", *(f"--set {shlex.quote(g)}" for g in given)])


@dataclass(frozen=True)
class NextStep:
    """A command to try after a FAIL or INCONCLUSIVE, and the reason for it."""

    command: LabRun | str
    reason: str = ""

    def __str__(self) -> str:
        """Return both as one line; two spaces stand between them, so that the command can be copied by itself."""
        return f"{self.command}  ({self.reason})" if self.reason else str(self.command)

    def to_json(self) -> Json:
        return {"command": str(self.command), "reason": self.reason}

    @classmethod
    def from_json(cls, stored: Mapping[str, str] | str) -> NextStep:
        """Return a stored step; runs before schema 8 stored the line as it is shown."""
        return cls(stored) if isinstance(stored, str) else cls(**stored)


@dataclass(frozen=True)
class Verdict:
    """The decision of a gate."""

    status: Status
    reason: str  # one sentence
    findings: PhaseFindings | None  # for later phases
    main: Metric  # the number that the gate looked at
    threshold: float | None = None  # of `main`; None when the gate is not a threshold
    next_steps: tuple[NextStep, ...] = ()  # the failure protocol
