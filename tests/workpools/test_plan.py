"""Plans: units on unequal machines, each once and only where it fits, near the lower bound, and what dominates."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_host import ALL, made_up_report

from workpools.assess import CapabilityReport
from workpools.plan import (
    ALL_ROUNDS,
    RECORDED,
    REFERENCE_GFLOPS,
    REFERENCE_TEXTS_PER_S,
    REFERENCE_TOKENS_PER_S,
    UNMEASURED,
    Record,
    Round,
    RoundOnHost,
    Speed,
    dominant,
    pooled,
    schedule,
    speed_of,
)
from workpools.shards import START_S
from workpools.tiers import serves, tiers_for

SPEEDS = ("matrix_gflops", "embedding_texts_per_s", "prefill_tokens_per_s")
EMBED = Round("p1", 1, "embedding", "prerequisites", ("embedder",), (120.0, 80.0, 40.0))
SOLVE = Round("e1", 2, "evaluation", "e0_e1", ("embedder", "language_model"), (160.0,) * 6)
TRAIN = Round("e2", 1, "training", "e2", ALL, (50.0, 50.0, 1.0))


def test_a_hundred_thousand_units_on_a_thousand_machines() -> None:
    """The plan of a large laboratory is there at once: 1 s measured on a busy machine, ten allowed; within 5 % too."""
    rng = np.random.default_rng(42)
    reports = [made_up_report(f"host-{i}", matrix_gflops=float(g)) for i, g in enumerate(rng.uniform(15, 900, 1000))]
    costs = tuple(rng.uniform(1, 10, 100_000).tolist())
    started = time.process_time()  # of this process alone, since tests share the machine with others
    (stage,) = schedule([Round("e1", 1, "memos", "e0_e1", ALL, costs)], reports).stages
    assert time.process_time() - started < 10
    assert sorted(itertools.chain(*(s.units for s in stage.shares))) == list(range(100_000))
    assert stage.fit == 1000
    assert stage.lower_bound_s < stage.seconds < START_S + 1.05 * (stage.lower_bound_s - START_S)


@st.composite
def networks(draw: st.DrawFn) -> list[CapabilityReport]:
    """Machines of any size around the thresholds, each with some of the engines and some of the speeds."""
    found = []
    for i, ram in enumerate(draw(st.lists(st.floats(2, 14), max_size=6))):
        engines = draw(st.just(ALL) | st.lists(st.sampled_from(ALL), unique=True).map(tuple))
        speeds = {name: draw(st.none() | st.floats(0, 1e6)) for name in SPEEDS}
        found.append(made_up_report(f"host-{i}", round(ram, 2), engines, **speeds))
    return found


@given(networks(), st.lists(st.floats(0.01, 1e4), min_size=1, max_size=20))
def test_a_plan_is_feasible(reports: list[CapabilityReport], costs: list[float]) -> None:
    """Every unit once, only on machines with the memory and engines that its phase needs, in a pool that they serve; no
    machine is listed with nothing to do; what fits nowhere says why."""
    rounds = [Round(r.phase, r.number, r.name, r.profile, r.needs, tuple(costs)) for r in (EMBED, SOLVE, TRAIN)]
    known = {r.host: r for r in reports}
    planned = schedule(rounds, reports)
    assert [s.round for s in planned.stages] == rounds
    for stage in planned.stages:
        fit = [r for r in reports if r.profiles[stage.round.profile] and set(stage.round.needs) <= set(r.engines)]
        assert stage.fit == len(fit)
        if stage.pool is None:
            assert not fit and not stage.shares and stage.seconds == 0
            assert f"{stage.round.profile} needs a" in stage.reason
            continue
        assert stage.pool in tiers_for(stage.round.profile)
        assert sorted(itertools.chain(*(s.units for s in stage.shares))) == list(range(len(costs)))
        assert all(s.units for s in stage.shares)
        assert {s.host for s in stage.shares} <= {r.host for r in fit}
        assert all(stage.pool in serves(known[s.host].tier) for s in stage.shares)
        assert START_S < stage.lower_bound_s <= stage.seconds * (1 + 1e-9)
        for share in stage.shares:
            work = sum(costs[i] for i in share.units) / share.speed.factor
            assert share.shards >= 1 and share.seconds == pytest.approx(share.shards * START_S + work)
    assert planned.seconds == pytest.approx(sum(s.seconds for s in planned.stages))


def test_rounds_and_phases_follow_each_other() -> None:
    """A round starts when all of the one before has ended, so that durations add up, each the slowest machine's."""
    reports = [
        made_up_report("a", matrix_gflops=REFERENCE_GFLOPS),
        made_up_report("b", matrix_gflops=REFERENCE_GFLOPS / 2),
    ]
    again = Round("e1", 3, "again", "e0_e1", ("language_model",), (30.0,))
    planned = schedule([EMBED, SOLVE, again], reports)
    # 120 + 40 on a, 80 on b at half the speed; 4 x 160 and 2 x 160 in the same way; one unit on a alone.
    assert [s.seconds for s in planned.stages] == [START_S + 160, START_S + 640, START_S + 30]
    assert [[share.host for share in s.shares] for s in planned.stages] == [["a", "b"], ["a", "b"], ["a"]]
    assert planned.seconds == 3 * START_S + 830
    assert {phase: len(stages) for phase, stages in planned.phases.items()} == {"p1": 1, "e1": 2}


def test_the_order_of_reports_decides_nothing_but_ties() -> None:
    """The plan of the same machines is the same, in whichever order their reports were read."""
    reports = [made_up_report(h, matrix_gflops=g) for h, g in (("a", 100.0), ("b", 250.0), ("c", 420.0))]
    plans = [schedule([SOLVE, TRAIN], list(order)) for order in itertools.permutations(reports)]
    shares = [{(s.round.name, x.host, x.units) for s in p.stages for x in s.shares} for p in plans]
    assert all(s == shares[0] for s in shares)


def test_speed_is_that_of_what_dominates_a_phase() -> None:
    """Embedding phases go by embedding speed, all others by the model's, and by matrix products where that is missing."""
    all_three = made_up_report("a", matrix_gflops=360.0, embedding_texts_per_s=35.0, prefill_tokens_per_s=1200.0)
    assert (REFERENCE_GFLOPS, REFERENCE_TEXTS_PER_S, REFERENCE_TOKENS_PER_S) == (180, 70, 400)
    assert speed_of(EMBED, all_three, {}) == Speed(0.5, "35 texts/s")
    assert speed_of(SOLVE, all_three, {}) == speed_of(TRAIN, all_three, {}) == Speed(3.0, "1.2e+03 tokens/s")
    only_matrix = made_up_report("a", matrix_gflops=360.0)
    assert speed_of(EMBED, only_matrix, {}) == speed_of(SOLVE, only_matrix, {}) == Speed(2.0, "360 GFLOPS")


@pytest.mark.parametrize("gflops", [None, 0.0, 1e-9, 1e9])
def test_what_was_not_measured_is_said_and_not_made_up(gflops: float | None) -> None:
    """A machine without a speed, or with one that no machine has, counts as the reference and says on what that rests."""
    assert speed_of(SOLVE, made_up_report("a", matrix_gflops=gflops), {}) == Speed(1.0, UNMEASURED)


def test_what_was_recorded_counts_for_more_than_what_was_measured() -> None:
    """After a first run the forecast rests on it: by round, else by phase, and only for the machine that it was."""
    recorded = pooled(
        [
            (RoundOnHost("e1", 1, "a"), Record(30.0, 60.0)),
            (RoundOnHost("e1", 2, "a"), Record(10.0, 5.0)),
            (RoundOnHost("e1", 2, "a"), Record(10.0, 5.0)),
            (RoundOnHost("e2", 2, "a"), Record(10.0, 40.0)),
            (RoundOnHost("p1", 1, "a"), Record(1.0, 0.0)),
        ]
    )
    assert recorded["e1", 2, "a"] == Record(20.0, 10.0)
    assert recorded["e1", ALL_ROUNDS, "a"] == Record(50.0, 70.0)
    a, b = made_up_report("a", matrix_gflops=18.0), made_up_report("b", matrix_gflops=18.0)
    assert speed_of(SOLVE, a, recorded) == Speed(2.0, RECORDED)
    assert speed_of(TRAIN, a, recorded) == Speed(0.25, RECORDED)
    assert speed_of(SOLVE, b, recorded) == speed_of(EMBED, a, recorded) == Speed(0.1, "18 GFLOPS")
    (stage,) = schedule([SOLVE], [a], recorded).stages
    assert stage.seconds == START_S + 480


def test_what_dominates_is_named_with_its_cause() -> None:
    """Whoever wants to be done sooner must know what to add: another machine that fits, a faster one, or nothing."""
    a, b = made_up_report("a", engines=(*ALL, "mlx"), matrix_gflops=180.0), made_up_report("b", matrix_gflops=180.0)
    train = Round("e2", 1, "training", "e2", (*ALL, "mlx"), (700.0, 700.0, 1.0))
    found = dominant(schedule([EMBED, SOLVE, train], [a, b]))
    assert found is not None
    assert (found.stage.round, found.last.host, found.cause) == (train, "a", "one machine")
    # Of 120 s of P1 (120 and 80 + 40), 480 of E1 in three shards a machine, 1401 of E2.
    assert found.of_all == pytest.approx((START_S + 1401) / (5 * START_S + 120 + 480 + 1401))
    found = dominant(schedule([EMBED, SOLVE], [a, b]))
    assert found is not None and (found.stage.round, found.cause) == (SOLVE, "all the work")
    long = Round("p3", 1, "training", "prerequisites", ALL, (900.0, 20.0, 20.0))
    found = dominant(schedule([SOLVE, long], [a, b]))
    assert found is not None and (found.stage.round, found.last.host, found.cause) == (long, "a", "one unit")
    single = Round("p3", 1, "training", "prerequisites", ALL, (90.0,))
    found = dominant(schedule([single], [a, b]))
    assert found is not None and (found.last.host, found.cause) == ("a", "one unit")
    assert dominant(schedule([train], [b])) is None
    assert dominant(schedule([], [a])) is None
