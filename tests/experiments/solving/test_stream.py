"""The memory as a stream with drift: sessions by hand, moments, and simulations at both ends of `topics`."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.solving.stream import stream_of

FAMILIES = ["a", "b", "c", "d"] * 3  # twelve memos, three of each family
SEEDS = range(200)


@pytest.mark.parametrize("topics", [1, 2, 3, 4, 9])
def test_sessions_have_whole_families(topics: int) -> None:
    """Of four families in sessions of three, the last session has one; each memo comes once, each family in one session."""
    for seed in range(20):
        stream = stream_of(FAMILIES, topics, seed)
        assert sorted(stream.order) == list(range(12))
        there = [
            {FAMILIES[i] for i in stream.order[a:b]} for a, b in zip(stream.starts, stream.starts[1:], strict=False)
        ]
        assert [len(s) for s in there] == {1: [1] * 4, 2: [2, 2], 3: [3, 1], 4: [4], 9: [4]}[topics]
        assert set.union(*there) == set("abcd")
        assert all(f in there[session] for f, session in stream.session_of.items())


def test_recent_wrap_round_with_the_newest_last() -> None:
    """Two memos, a then b or b then a: asked at the beginning, the latest are those at the end of the cycle."""
    for seed in range(20):
        stream = stream_of(["a", "b"], 1, seed)
        first, last = (int(i) for i in stream.order)
        shown = {tuple(stream.before(f"q{i}", "ab"[last], 2)) for i in range(20)}
        # Before the last memo the first is the newest; after it, the last itself.
        assert shown == {(last, first), (first, last)}
        assert stream.before("q", "a", 5) in ([0, 1], [1, 0]), "there are no five"


def test_one_topic_at_a_time_shows_the_own_family() -> None:
    """Asked after j of its family's memos, a problem has min(j, k) of them as the newest, and before those other families."""
    k, counts = 2, dict.fromkeys(range(4), 0)
    for seed in SEEDS:
        stream = stream_of(FAMILIES, 1, seed)
        start = int(stream.starts[stream.session_of["c"]])
        shown = stream.before("q", "c", k)
        own = [FAMILIES[i] == "c" for i in shown]
        behind = next(j for j in range(4) if [int(stream.order[(start + j - k + i) % 12]) for i in range(k)] == shown)
        assert own == [i >= k - min(behind, k) for i in range(k)]
        counts[behind] += 1
    # All four moments of a session with three memos are equally likely: 50 of 200 each, within four standard deviations.
    assert all(abs(n - 50) < 4 * (200 * 0.25 * 0.75) ** 0.5 for n in counts.values())


def _share_of_own(families: list[str], topics: int, k: int) -> float:
    """Return the mean share of recent memos that are of the problem's family, over seeds and families."""
    found = [
        np.mean([families[i] == name for i in stream_of(families, topics, seed).before(f"q{name}", name, k)])
        for seed in SEEDS
        for name in sorted(set(families))
    ]
    return float(np.mean(found))


def test_drift_is_between_the_own_family_and_random() -> None:
    """Ten families of 20 memos. All under way at once are random memos, 1 in 10; fewer topics show more of the own family."""
    families = [f"f{i % 10}" for i in range(200)]
    shares = {topics: _share_of_own(families, topics, 3) for topics in (1, 2, 5, 10)}
    # 2,000 draws of three: a standard error of 0.004 at 0.1.
    assert abs(shares[10] - 0.1) < 0.02
    # Of 21 moments the first three have 0, 1, 2 of three own memos before them: (0 + 1/3 + 2/3 + 18) / 21.
    assert abs(shares[1] - 19 / 21) < 0.02
    assert shares[1] > shares[2] > shares[5] > shares[10]


def test_memos_that_are_families_of_their_own_come_in_random_order() -> None:
    """Own data without groups: each memo is among the k latest equally often, whatever `topics`, for any problem."""
    names = [f"m{i}" for i in range(8)]
    seen = np.zeros(8)
    for seed in range(800):
        seen[stream_of(names, 4, seed).before("q", "its own", 2)] += 1
    # Expected 800 * 2 / 8 = 200 each; standard deviation 12.
    assert np.all(np.abs(seen - 200) < 50)


def test_problems_of_a_family_without_memos_have_one_session() -> None:
    """With split: group no family to solve is in memory; its problems still come together, at moments of their own."""
    families = [f"f{i}" for i in range(10) for _ in range(30)]
    spans = []
    for seed in range(20):
        stream = stream_of(families, 1, seed)
        place = {int(i): at for at, i in enumerate(stream.order)}
        ends = [place[stream.before(f"q{i}", "new", 1)[0]] for i in range(10)]
        assert len(set(ends)) > 1
        spans.append((max(ends) - min(ends)) % 300)
    assert (
        sum(span <= 31 for span in spans) >= 18
    )  # the first session's moments may look back over the end of the cycle


def test_a_draw_depends_on_nothing_but_its_seed() -> None:
    """Which other problems a unit asks, and in which order, changes nothing."""
    alone = stream_of(FAMILIES, 2, 100).before("q7", "b", 3)
    stream = stream_of(FAMILIES, 2, 100)
    for i in range(7):
        stream.before(f"q{i}", "a", 3)
    assert stream.before("q7", "b", 3) == alone
    assert {tuple(stream_of(FAMILIES, 2, seed).before("q7", "b", 3)) for seed in SEEDS} != {tuple(alone)}
