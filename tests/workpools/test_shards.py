"""Shards: every unit in one, each machine as much as suits it, and never so many that the server breaks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workpools.placement import Placement
from workpools.plan import lower_bound
from workpools.shards import (
    MOST_SHARDS,
    SHARD_SECONDS,
    SHARED_MAY_COST,
    START_S,
    Load,
    Part,
    balance,
    cut,
    meant_for,
    spread,
    taken,
)

LPT_RATIO = 1 + 1 / math.sqrt(3)  # Kovács 2010: how far LPT on uniform machines is from the best, at most

costs_of = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)
speeds_of = st.lists(st.floats(0.05, 20), min_size=1, max_size=8)


def placed(*hosts: str, unfit: tuple[str, ...] = ()) -> Placement:
    return Placement("strong", hosts, "because", unfit=unfit)


def ends(parts: list[list[int]], costs: list[float], speeds: list[float]) -> list[float]:
    return [sum(costs[i] for i in part) / speed for part, speed in zip(parts, speeds, strict=True)]


def test_a_small_placement_by_hand() -> None:
    """Costs 6, 5, 4, 3 on speeds 1 and 2: 6 ends first on the fast machine (3 s against 6), then 5 at 5 s on the slow one
    (5.5), 4 at 5 s on the fast one (9), and 3 at 6.5 s on the fast one (8). The bound is 18 / 3 = 6 s."""
    assert spread([3.0, 4.0, 5.0, 6.0], [1.0, 2.0]) == [[2], [0, 1, 3]]
    assert lower_bound([3.0, 4.0, 5.0, 6.0], [1.0, 2.0]) == 6
    assert lower_bound([3.0, 30.0], [1.0, 2.0]) == 15
    assert spread([1.0, 1.0, 1.0], [1.0, 1.0]) == [[0, 2], [1]]
    assert spread([8.0, 1.0], [0.01, 1.0]) == [[], [0, 1]]


@given(costs_of, speeds_of)
def test_every_unit_is_placed_once_and_no_later_than_is_proven(costs: list[float], speeds: list[float]) -> None:
    """A unit left out would never run, one placed twice would run for nothing; the end lies between the lower bound and
    LPT's own upper bound, whatever the units and machines."""
    parts = spread(costs, speeds)
    assert sorted(itertools.chain(*parts)) == list(range(len(costs)))
    assert len(parts) == len(speeds) and all(part == sorted(part) for part in parts)
    last = max(ends(parts, costs, speeds))
    assert lower_bound(costs, speeds) <= last * (1 + 1e-9)
    assert last <= (sum(costs) + (len(speeds) - 1) * max(costs)) / sum(speeds) * (1 + 1e-9)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.lists(st.floats(0.1, 10), min_size=1, max_size=3))
def test_it_is_near_the_best_of_all_placements(costs: list[float], speeds: list[float]) -> None:
    """Against every placement there is: never shorter than the best, nor longer than theory allows."""
    every = itertools.product(range(len(speeds)), repeat=len(costs))
    best = min(
        max(sum(c for c, j in zip(costs, where, strict=True) if j == m) / s for m, s in enumerate(speeds))
        for where in every
    )
    last = max(ends(spread(costs, speeds), costs, speeds))
    assert lower_bound(costs, speeds) <= best * (1 + 1e-9)
    assert best <= last * (1 + 1e-9)
    assert last <= LPT_RATIO * best * (1 + 1e-9)


@st.composite
def many_small(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Machines up to 80 times as fast as others, and units that are small against the whole: thirty and more a machine."""
    speeds = draw(st.lists(st.floats(0.05, 4), min_size=1, max_size=20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread_of_costs = draw(st.sampled_from([1.0, 3.0, 10.0]))
    return rng.uniform(1, spread_of_costs, draw(st.integers(30, 200)) * len(speeds)).tolist(), speeds


@given(many_small())
def test_small_units_end_within_a_twentieth_of_the_lower_bound(case: tuple[list[float], list[float]]) -> None:
    """Where units are small against the whole, unequal machines end nearly together: at most 5 % is lost."""
    costs, speeds = case
    assert max(ends(spread(costs, speeds), costs, speeds)) <= 1.05 * lower_bound(costs, speeds)


known_speeds = st.dictionaries(
    st.sampled_from([f"h{i}" for i in range(9)]), st.none() | st.floats(0.05, 20), max_size=9
)


@given(
    st.lists(st.floats(0.1, 500), min_size=1, max_size=60),
    st.integers(1, 9),
    known_speeds,
    st.booleans(),
    st.integers(0, 30),
)
def test_every_unit_is_in_one_shard_and_shards_are_bounded(
    costs: list[float], workers: int, speeds: Mapping[str, float | None], unfit: bool, others: int
) -> None:
    """A unit left out would never be computed; too many shards at once bring the server down; and what is meant for a host
    must be meant for one that is fit and has registered under that name, or nobody would ever take it."""
    hosts = [f"h{i}" for i in range(workers)]
    parts = cut(costs, placed(*hosts, unfit=("old",) if unfit else ()), speeds, others)
    assert sorted(i for part in parts for i in part.units) == list(range(len(costs)))
    assert all(part.units and list(part.units) == sorted(part.units) for part in parts)
    meant = {part.host for part in parts} - {None}
    if meant:
        # Where none has, a plain worker polls the queue of its name as well as all others.
        registered = set(hosts) & set(speeds) or set(hosts)
        assert meant <= registered and len(parts) == len(meant)
        assert unfit or all(speeds.get(h) for h in hosts)
    else:
        assert not unfit
        assert len(parts) <= max(1, min(MOST_SHARDS - others, round(sum(costs) / SHARD_SECONDS)))


def test_a_slow_machine_gets_what_it_can_do_in_the_time_of_the_others() -> None:
    """Equal parts would make everybody wait for the slowest: a Pi with a third of the work of a desktop 25 times as fast."""
    work = [60.0] * 30
    three = {"pi": 0.1, "laptop": 1.0, "desktop": 3.0}
    parts = cut(work, placed(*three), three)
    assert {p.host: len(p.units) for p in parts} == {"laptop": 7, "desktop": 23}  # a unit alone takes the Pi 600 s
    small = cut([10.0] * 180, placed(*three), three)
    assert {p.host: len(p.units) for p in small} == {"pi": 4, "laptop": 44, "desktop": 132}
    assert [p.host for p in cut([10.0, 10.0], placed(*three), three)] == ["desktop"]  # not whoever asks first


def test_machines_that_are_alike_share_what_is_left() -> None:
    """Parts that anybody may take serve a machine that joins later, as long as they cost next to nothing."""
    alike = {"a": 1.0, "b": 1.0}
    long = cut([60.0] * 30, placed("a", "b"), alike)
    assert [p.host for p in long] == [None] * 6
    assert {p.host for p in cut([60.0] * 4, placed("a", "b"), alike)} == {"a", "b"}  # two starts more would show
    assert [p.host for p in cut([60.0] * 30, placed("a"), {"a": 1.0})] == [None]
    many = {f"h{i}": 1.0 for i in range(40)}
    assert sorted(str(p.host) for p in cut([60.0] * 100, placed(*many), many)) == sorted(many)  # none stands idle


def test_what_is_sent_again_is_for_whoever_is_free() -> None:
    """A machine may be stuck with the shard that was not finished: what is meant for it would be stuck as well."""
    three = {"pi": 0.1, "laptop": 1.0, "desktop": 3.0}
    assert {p.host for p in cut([60.0] * 30, placed(*three), three, again=True)} == {None}
    assert {p.host for p in cut([60.0] * 30, placed("laptop", unfit=("pi",)), three, again=True)} == {"laptop"}


def test_nothing_is_meant_for_a_machine_of_which_nothing_is_known() -> None:
    """A worker without --name has a queue of nobody's; what was meant for it would lie there for ever."""
    unnamed = "ProcessWorker 1234"
    for speeds in ({}, {"a": 2.0}, {"a": 2.0, unnamed: None}):
        assert {p.host for p in cut([60.0] * 30, placed("a", unnamed), speeds)} == {None}
    assert [p.host for p in cut([60.0] * 30, placed("a", unnamed, unfit=("old",)), {"a": None})] == ["a"]
    assert {p.host for p in cut([60.0] * 30, placed(unnamed, unfit=("old",)), {})} == {None}


def test_who_takes_what_by_hand() -> None:
    """The plan foretells by it: of machines that are free at once the fastest takes the next, and each start is counted."""
    parts, costs = [Part((0, 1)), Part((2,)), Part((3,))], [30.0, 30.0, 60.0, 60.0]
    assert taken(parts, costs, {"slow": 0.5, "fast": 2.0}) == {
        "slow": Load((2,), 1, START_S + 120),
        "fast": Load((0, 1, 3), 2, 2 * START_S + 60),
    }
    assert taken([Part((0,), "slow")], [30.0], {"slow": 0.5, "fast": 2.0}) == {"slow": Load((0,), 1, START_S + 60)}
    assert balance([5, 1, 4, 2], 2) == [[0, 1], [2, 3]] and balance([5], 3) == [[0]]


@given(costs_of, speeds_of)
def test_what_is_shared_costs_little(costs: list[float], speeds: list[float]) -> None:
    """Whatever the machines, the parts chosen end at most a twentieth later than parts made for each of them."""
    known = {f"h{i}": speed for i, speed in enumerate(speeds)}
    chosen, meant = (
        max(load.seconds for load in taken(parts, costs, known).values())
        for parts in (cut(costs, placed(*known), known), meant_for(costs, known))
    )
    assert chosen <= SHARED_MAY_COST * meant * (1 + 1e-9)
