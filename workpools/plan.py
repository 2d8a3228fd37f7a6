"""A plan: the units that each machine does, how long they take, and what dominates, from reports and units' costs.

A cost is the seconds that a unit takes on the reference machine, the two cores on which all costs were measured. Rounds
follow each other; units of one round are independent, and are cut into shards as by the pipeline (workpools/shards.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from common.errors import LabError
from experiments.precision import Precision
from workpools.assess import CapabilityReport
from workpools.needs import needs_model
from workpools.placement import place
from workpools.roles import Pins, elsewhere, with_roles
from workpools.shards import START_S, cut, taken
from workpools.tiers import TIERS, serves

# The reference machine as `lab assess` measures it with nothing else running (two virtual cores of an AMD EPYC Milan).
REFERENCE_GFLOPS = 180.0  # measured: 171 to 189 in 13 runs
REFERENCE_TEXTS_PER_S = 70.0  # measured: 49 to 75 in 10 runs
REFERENCE_TOKENS_PER_S = 400.0  # measured: 325 to 441 in 14 runs
FASTER = 2.0  # times float32's speed from which bfloat16 is worth its wider tolerance
PLAUSIBLE = (1e-3, 1e3)  # speeds relative to the reference; outside, the measurement failed
RECORDED, UNMEASURED = "recorded", "nothing measured"
ALL_ROUNDS = 0


class RoundOnHost(NamedTuple):
    """Key of a record: a phase, the number of a round or ALL_ROUNDS, and a host."""

    phase: str
    number: int
    host: str


Recorded = Mapping[RoundOnHost, "Record"]
Cause = Literal["one machine", "one unit", "all the work"]


@dataclass(frozen=True)
class Round:
    """Units of a phase between two barriers: none waits for another, and the next round waits for all."""

    phase: str
    number: int  # as Unit.round
    name: str  # what its units do
    profile: str
    needs: tuple[str, ...]  # of the machine (workpools.needs.demand)
    costs: tuple[float, ...]  # seconds on the reference machine, one a unit
    precision: Precision = Precision.FLOAT32  # of the language model


@dataclass(frozen=True)
class Record:
    """Recorded work of a host in a round."""

    cost_s: float  # of the units, on the reference machine
    seconds: float  # that it took


@dataclass(frozen=True)
class Speed:
    """A host's speed in a round as a multiple of the reference machine, and its source."""

    factor: float
    basis: str


@dataclass(frozen=True)
class Share:
    """The part of a round that one host does."""

    host: str
    units: tuple[int, ...]  # indices into Round.costs, in their order
    shards: int
    seconds: float  # the shards' starts included
    speed: Speed


@dataclass(frozen=True)
class Stage:
    """A round on its pool. `pool` is None where no host fits; then `reason` names what is missing."""

    round: Round
    pool: str | None
    reason: str
    fit: int = 0  # hosts of the pool that fit
    shares: tuple[Share, ...] = ()  # only hosts with units, in the order of the reports
    lower_bound_s: float = 0.0  # no schedule on these hosts is shorter

    @property
    def seconds(self) -> float:
        """From the round's start until its last shard has ended."""
        return max((s.seconds for s in self.shares), default=0.0)


@dataclass(frozen=True)
class Schedule:
    """All rounds in order."""

    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """The sum over all stages that a host fits."""
        return sum(s.seconds for s in self.stages)

    @property
    def phases(self) -> dict[str, list[Stage]]:
        """Stages by phase, both in order."""
        found: dict[str, list[Stage]] = {}
        for stage in self.stages:
            found.setdefault(stage.round.phase, []).append(stage)
        return found


@dataclass(frozen=True)
class Dominant:
    """The stage that takes longest, and the cause of its length."""

    stage: Stage
    last: Share  # the share that ends last
    of_all: float  # share of the whole duration
    cause: Cause


def lower_bound(costs: Sequence[float], speeds: Sequence[float]) -> float:
    """Return a lower bound in seconds for any schedule: all work on all machines, or the longest unit on the fastest."""
    return max(sum(costs) / sum(speeds), max(costs) / max(speeds))


def schedule(
    rounds: Sequence[Round],
    reports: Sequence[CapabilityReport],
    recorded: Recorded | None = None,
    online: Mapping[str, Sequence[str]] | None = None,
    pins: Pins | None = None,
) -> Schedule:
    """Plan all rounds on these hosts.

    Args:
        rounds: in order, each with at least one unit.
        reports: one a host.
        recorded: work that hosts did before; used before their measured speeds.
        online: the hosts that serve each pool. Each its tier's and those below unless given, as with `lab up`.
        pins: the host or tier that gets a phase, by phase.
    """
    known = {r.host: r for r in reports}
    served: dict[str, Sequence[str]] = {tier: [r.host for r in reports if tier in serves(r.tier)] for tier in TIERS}
    if online is not None:
        served = {tier: [host for host in online.get(tier, ()) if host in known] for tier in TIERS}
    return Schedule(tuple(_stage(one, served, known, recorded or {}, pins or {}) for one in rounds))


def _stage(
    planned: Round,
    served: Mapping[str, Sequence[str]],
    known: Mapping[str, CapabilityReport],
    recorded: Recorded,
    pins: Pins,
) -> Stage:
    kept = elsewhere(pins, planned.phase, known, known.values())
    try:
        fit = place(planned.profile, planned.needs, served, list(known.values()), "registered", excluded=kept)
    except LabError as error:
        return Stage(planned, None, error.what)
    able = {host: speed_of(planned, known[host], recorded) for host in fit.hosts}
    placed = with_roles(fit, planned.costs, measured(able), {r.host: r.tier for r in known.values()})
    speeds = {host: able[host] for host in placed.hosts}
    factors = {host: speed.factor for host, speed in speeds.items()}
    loads = taken(cut(planned.costs, placed, measured(speeds)), planned.costs, factors)
    shares = tuple(Share(host, load.units, load.shards, load.seconds, speeds[host]) for host, load in loads.items())
    bound = START_S + lower_bound(planned.costs, list(factors.values()))
    return Stage(planned, placed.pool, placed.reason, len(able), shares, bound)


def measured(speeds: Mapping[str, Speed]) -> dict[str, float | None]:
    """Return speed factors by host as `cut` takes them: None where nothing was measured."""
    return {host: None if speed.basis == UNMEASURED else speed.factor for host, speed in speeds.items()}


def speed_of(planned: Round, report: CapabilityReport, recorded: Recorded) -> Speed:
    """Return a host's speed in a round: recorded in this round, else in this phase, else measured.

    The measured speed nearest to the round's work comes first. Without any, a host counts as the reference machine.
    """
    for number in (planned.number, ALL_ROUNDS):
        record = recorded.get(RoundOnHost(planned.phase, number, report.host))
        if record and record.seconds > 0 and _plausible(factor := record.cost_s / record.seconds):
            return Speed(factor, RECORDED)
    nearest = (report.embedding_texts_per_s, REFERENCE_TEXTS_PER_S, "texts/s")
    if needs_model(planned.needs):
        read = report.prefill_tokens_per_s
        if planned.precision is Precision.BFLOAT16:
            read = report.prefill_bfloat16_tokens_per_s or read
        nearest = (read, REFERENCE_TOKENS_PER_S, "tokens/s")
    for value, reference, unit in (nearest, (report.matrix_gflops, REFERENCE_GFLOPS, "GFLOPS")):
        if value is not None and _plausible(factor := value / reference):
            return Speed(factor, f"{value:.3g} {unit}")
    return Speed(1.0, UNMEASURED)


def auto_precision(reports: Sequence[CapabilityReport]) -> Precision:
    """Return bfloat16 if every machine with a language model reads FASTER times as fast in it, else float32.

    A machine that was not measured in both is taken not to be faster.
    """
    able = [r for r in reports if r.tier in TIERS and "language_model" in r.engines]
    ratios = [
        r.prefill_bfloat16_tokens_per_s / r.prefill_tokens_per_s
        if r.prefill_bfloat16_tokens_per_s and r.prefill_tokens_per_s
        else 0.0
        for r in able
    ]
    return Precision.BFLOAT16 if able and min(ratios) >= FASTER else Precision.FLOAT32


def _plausible(factor: float) -> bool:
    return PLAUSIBLE[0] <= factor <= PLAUSIBLE[1]


def pooled(records: Iterable[tuple[RoundOnHost, Record]]) -> dict[RoundOnHost, Record]:
    """Sum the records of each round, and of all rounds of each phase, by host."""
    found: dict[RoundOnHost, Record] = {}
    for one, record in records:
        for key in (one, one._replace(number=ALL_ROUNDS)):
            before = found.get(key, Record(0.0, 0.0))
            found[key] = Record(before.cost_s + record.cost_s, before.seconds + record.seconds)
    return found


def dominant(planned: Schedule) -> Dominant | None:
    """Return the stage that takes longest, the first of equals; None if no stage has a machine."""
    placed = [s for s in planned.stages if s.shares]
    if not placed:
        return None
    longest = max(placed, key=lambda s: s.seconds)
    last = max(longest.shares, key=lambda s: s.seconds)
    fastest = max(s.speed.factor for s in longest.shares)
    cause: Cause = "all the work"
    if longest.fit == 1:
        cause = "one machine"
    elif START_S + max(longest.round.costs) / fastest >= longest.lower_bound_s:
        # The longest unit makes the bound, so another machine would not shorten it.
        cause = "one unit"
    return Dominant(longest, last, longest.seconds / planned.seconds, cause)
