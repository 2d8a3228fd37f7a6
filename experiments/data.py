"""The problems of a run: one universe for each domain, size and seed, its version, and splits of it without leaks."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

from common.errors import LabError
from experiments.contract import PhaseConfig
from experiments.domains import Problem, get_domain
from experiments.domains.jsonl import JsonLines
from experiments.domains.leakage import inspect, refuse
from experiments.seeds import generator


@dataclass(frozen=True, eq=False)
class Universe:
    """All problems of a run, and the hash of their ids, texts and labels."""

    problems: tuple[Problem, ...]
    version: str

    def by_id(self) -> dict[str, Problem]:
        return {p.problem_id: p for p in self.problems}

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each problem among those of its class, from 0."""
        seen: Counter[str] = Counter()
        found = {}
        for p in self.problems:
            found[p.problem_id] = seen[p.label]
            seen[p.label] += 1
        return found


@cache
def _universe(domain: str, n: int, seed: int, names: str, balance: str) -> Universe:
    maker = get_domain(domain)
    if balance == "natural":
        if not isinstance(maker, JsonLines):
            raise LabError(f"balance = natural: {domain} makes its classes equal", "leave balance at equal")
        problems = tuple(maker.drawn(n, seed))
    else:
        problems = tuple(maker.problems(n, seed, names))
    digest = hashlib.sha256()
    for p in problems:
        for part in (p.problem_id, p.text, p.label, p.group, *([p.answer] if p.answer else [])):
            digest.update(part.encode() + b"\x00")
    kind = "" if names == "neutral" else f"{names}-"
    return Universe(problems, f"{maker.version}-{kind}{n}-{seed}-{digest.hexdigest()[:16]}")


def universe(config: PhaseConfig) -> Universe:
    """The problems that `config` names. The same config gives the same problems on every host."""
    return _universe(config.domain, config.n_problems, config.data_seed, config.names, config.balance)


def balanced(problems: Sequence[Problem], n: int) -> list[Problem]:
    """`n` problems in their given order, classes equal to within one.

    Raises:
        LabError: there are too few problems of some class.
    """
    by_class = _by_class(problems)
    classes = sorted(by_class)
    wanted = {c: n // len(classes) + (i < n % len(classes)) for i, c in enumerate(classes)}
    short = [c for c in classes if len(by_class[c]) < wanted[c]]
    if short:
        raise LabError(
            f"{n} problems asked for, but only {len(by_class[short[0]])} of class {short[0]!r} are there",
            "raise n_problems, or ask for fewer",
        )
    return _first_of_each(problems, wanted)


def natural(problems: Sequence[Problem], n: int) -> list[Problem]:
    """`n` problems in their given order, each class with its share of them, and at least one where n allows it.

    Shares are rounded by largest remainders (Hamilton's method).

    Raises:
        LabError: there are fewer than n problems.
    """
    if n > len(problems):
        raise LabError(
            f"{n} problems asked for, but only {len(problems)} are there", "raise n_problems, or ask for fewer"
        )
    by_class = _by_class(problems)
    exact = {c: n * len(own) / len(problems) for c, own in by_class.items()}
    wanted = {c: max(int(x), min(1, n // len(by_class))) for c, x in exact.items()}
    by_remainder = sorted(exact, key=lambda c: (wanted[c] - exact[c], c))
    while (left := n - sum(wanted.values())) > 0:
        for c in [c for c in by_remainder if wanted[c] < len(by_class[c])][:left]:
            wanted[c] += 1
    while sum(wanted.values()) > n:
        wanted[max((c for c in wanted if wanted[c] > 1), key=lambda c: (wanted[c] - exact[c], c))] -= 1
    return _first_of_each(problems, wanted)


def _by_class(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = defaultdict(list)
    for p in problems:
        found[p.label].append(p)
    return found


def _first_of_each(problems: Sequence[Problem], wanted: Mapping[str, int]) -> list[Problem]:
    """Return the first problems of each class, as many as wanted, in their given order."""
    chosen = {p.problem_id for c, own in _by_class(problems).items() for p in own[: wanted[c]]}
    return [p for p in problems if p.problem_id in chosen]


def parts(problems: Sequence[Problem], size: int) -> list[list[str]]:
    """Return the problems' ids in their order, `size` at a time."""
    return [[p.problem_id for p in problems[i : i + size]] for i in range(0, len(problems), size)]


def batches(problems: Sequence[Problem], size: int) -> list[list[Problem]]:
    """Return the problems in batches of at least `size` but the last: whole groups, the classes' groups in turn.

    So each batch is of new groups, and of all classes as evenly as its size allows.
    """
    groups: dict[str, list[Problem]] = defaultdict(list)
    for p in problems:
        groups[p.group].append(p)
    by_class: dict[str, list[list[Problem]]] = defaultdict(list)
    for own in groups.values():
        by_class[own[0].label].append(own)
    turns = [((i + 0.5) / len(own), label, i) for label, own in by_class.items() for i in range(len(own))]
    found: list[list[Problem]] = [[]]
    for _, label, i in sorted(turns):
        if len(found[-1]) >= size:
            found.append([])
        found[-1] += by_class[label][i]
    return found


class Split(NamedTuple):
    """Problems in memory, in solving order, and problems to solve."""

    memory: list[Problem]
    test: list[Problem]


@dataclass(frozen=True)
class Zones:
    """The three sides of a universe, which no problem shares; in the order in which a phase takes problems of each."""

    test: tuple[Problem, ...]  # P2, E1 and E2 report on it
    tuning: tuple[Problem, ...]  # P1 and E0 choose on it
    memory: tuple[Problem, ...]


ZONE = 10  # one in ten problems of a class is for the test, one for tuning, at least one each
TEST_GROUPS, TUNING_GROUPS = 3, 6  # with split: group one in three groups of a class, rounded up, and one in six


def zone_of(n: int) -> int:
    """Return how many of n problems of a class are for the test, and how many for tuning."""
    return max(1, n // ZONE)


def split(config: PhaseConfig, n_memory: int, n_test: int, side: Literal["test", "tuning"] = "test") -> Split:
    """Return memory and the problems to solve; with split: group no group is on two sides.

    More problems to solve than their zone has are taken from the memory's.

    Args:
        side: tuning for a phase that chooses, so that no phase reports on what it was chosen by.

    Raises:
        LabError: too few problems, or they leak and allow_leakage gives no reason to go on.
    """
    zones = zones_of(config)
    own: tuple[Problem, ...] = getattr(zones, side)
    take = natural if config.balance == "natural" else balanced
    try:
        test = take(own, n_test)
    except LabError:
        if config.split == "group":
            raise
        test = take((*own, *zones.memory), n_test)
    ids = {p.problem_id for p in test}
    memory = take(_drawn([p for p in zones.memory if p.problem_id not in ids], config), n_memory)
    if config.allow_leakage is None:
        refuse(inspect(get_domain(config.domain), memory, test))
    order = generator(config.data_seed, "split", config.split).permutation(len(memory))
    return Split([memory[i] for i in order], test)


def _drawn(problems: Sequence[Problem], config: PhaseConfig) -> Sequence[Problem]:
    """Return the problems in the order in which the memory takes them: as they are, or as `memory_draw` draws them."""
    if not config.memory_draw:
        return problems
    order = generator(config.data_seed, "memory", config.memory_draw).permutation(len(problems))
    return [problems[i] for i in order]


def zones_of(config: PhaseConfig) -> Zones:
    """Return the three sides of the config's problems.

    Raises:
        LabError: with split: group, the groups of a class cannot be on all three.
    """
    return _zones(universe(config), config.split, config.data_seed)


@cache
def _zones(known: Universe, split: str, seed: int) -> Zones:
    zone: dict[str, str] = {}
    if split == "group":
        zone = _of_groups(known.problems, seed)
    else:
        for own in _by_class(known.problems).values():
            zone |= _of_variants(own)
    sides = {name: [p for p in known.problems if zone.get(p.problem_id) == name] for name in ("test", "tuning")}
    memory = tuple(p for p in known.problems if p.problem_id not in zone)
    return Zones(tuple(_spread(sides["test"])), tuple(_spread(sides["tuning"])), memory)


def _spread(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems with one of each group first, then a second one: any first few have many groups."""
    seen: Counter[str] = Counter()
    turns = []
    for p in problems:
        turns.append(seen[p.group])
        seen[p.group] += 1
    return [problems[i] for i in sorted(range(len(problems)), key=lambda i: turns[i])]


def _of_variants(problems: Sequence[Problem]) -> dict[str, str]:
    """Return the zone of problems of one class that are not for the memory."""
    n = zone_of(len(problems))
    order = _spread(problems)
    return dict.fromkeys([p.problem_id for p in order[:n]], "test") | dict.fromkeys(
        [p.problem_id for p in order[n : 2 * n]], "tuning"
    )


def _of_groups(problems: Sequence[Problem], seed: int) -> dict[str, str]:
    """Return the zone of problems whose groups are not for the memory; a group with several classes has one zone."""
    side: dict[str, str] = {}
    groups_of = {label: sorted({p.group for p in own}) for label, own in _by_class(problems).items()}
    # The class with the fewest groups first: it has the least choice.
    for label in sorted(groups_of, key=lambda c: (len(groups_of[c]), c)):
        groups = groups_of[label]
        order = generator(seed, "zones", label).permutation(len(groups))
        free = [groups[i] for i in order if groups[i] not in side]
        wanted = {"test": -(-len(groups) // TEST_GROUPS), "tuning": max(1, len(groups) // TUNING_GROUPS)}
        for name, n in wanted.items():
            more = max(0, n - sum(side.get(g) == name for g in groups))
            side |= dict.fromkeys(free[:more], name)
            free = free[more:]
        side |= dict.fromkeys(free, "memory")
    for label, groups in groups_of.items():
        if {side[g] for g in groups} != {"memory", "test", "tuning"}:
            what = f"class {label!r} has {len(groups)} groups, too few or with too many classes each for"
            raise LabError(f"{what} memory, tuning and test apart", "use split: variant")
    return {p.problem_id: side[p.group] for p in problems if side[p.group] != "memory"}
