"""The problems of a run: one universe for each domain, size and seed, its version, and splits of it without leaks."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from common.errors import LabError
from experiments.contract import PhaseConfig
from experiments.domains import Problem, get_domain
from experiments.domains.leakage import inspect, refuse
from experiments.seeds import generator


@dataclass(frozen=True)
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
def _universe(domain: str, n: int, seed: int, names: str) -> Universe:
    maker = get_domain(domain)
    problems = tuple(maker.problems(n, seed, names))
    digest = hashlib.sha256()
    for p in problems:
        for part in (p.problem_id, p.text, p.label, p.group, *([p.answer] if p.answer else [])):
            digest.update(part.encode() + b"\x00")
    kind = "" if names == "neutral" else f"{names}-"
    return Universe(problems, f"{maker.version}-{kind}{n}-{seed}-{digest.hexdigest()[:16]}")


def universe(config: PhaseConfig) -> Universe:
    """The problems that `config` names. The same config gives the same problems on every host."""
    return _universe(config.domain, config.n_problems, config.data_seed, config.names)


def balanced(problems: Sequence[Problem], n: int) -> list[Problem]:
    """`n` problems in their given order, classes equal to within one.

    Raises:
        LabError: there are too few problems of some class.
    """
    by_class: dict[str, list[Problem]] = defaultdict(list)
    for p in problems:
        by_class[p.label].append(p)
    classes = sorted(by_class)
    wanted = {c: n // len(classes) + (i < n % len(classes)) for i, c in enumerate(classes)}
    short = [c for c in classes if len(by_class[c]) < wanted[c]]
    if short:
        raise LabError(
            f"{n} problems asked for, but only {len(by_class[short[0]])} of class {short[0]!r} are there",
            "raise n_problems, or ask for fewer",
        )
    chosen = {p.problem_id for c in classes for p in by_class[c][: wanted[c]]}
    return [p for p in problems if p.problem_id in chosen]


def parts(problems: Sequence[Problem], size: int) -> list[list[str]]:
    """Return the problems' ids in their order, `size` at a time."""
    return [[p.problem_id for p in problems[i : i + size]] for i in range(0, len(problems), size)]


class Split(NamedTuple):
    """Problems in memory, in solving order, and problems to solve."""

    memory: list[Problem]
    test: list[Problem]


def split(config: PhaseConfig, n_memory: int, n_test: int) -> Split:
    """Return memory and test, both balanced; with split: group no group is on both sides.

    Raises:
        LabError: too few problems, or they leak and allow_leakage gives no reason to go on.
    """
    problems = universe(config).problems
    rng = generator(config.data_seed, "split", config.split)
    if config.split == "group":
        test = _whole_groups(problems, n_test, rng)
        groups = {p.group for p in test}
        memory = balanced([p for p in problems if p.group not in groups], n_memory)
    else:
        test = balanced(problems, n_test)
        ids = {p.problem_id for p in test}
        memory = balanced([p for p in problems if p.problem_id not in ids], n_memory)
    if config.allow_leakage is None:
        refuse(inspect(get_domain(config.domain), memory, test))
    order = rng.permutation(len(memory))
    return Split([memory[i] for i in order], test)


def _whole_groups(problems: Sequence[Problem], n: int, rng: np.random.Generator) -> list[Problem]:
    """Problems of whole groups, a class at a time, until each class has its share of n."""
    by_class: dict[str, dict[str, list[Problem]]] = defaultdict(lambda: defaultdict(list))
    for p in problems:
        by_class[p.label][p.group].append(p)
    chosen: list[Problem] = []
    for label in sorted(by_class):
        groups = sorted(by_class[label])
        taken: list[Problem] = []
        for i in rng.permutation(len(groups)):
            if len(taken) * len(by_class) >= n + len(by_class):
                break
            taken += by_class[label][groups[i]]
        chosen += taken
    return balanced(chosen, n)
