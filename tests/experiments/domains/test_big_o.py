"""The domain big_o: distinct problems, labels confirmed by counting steps, nothing that tells the answer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from counting import fitted, steps_of
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments.domains import Problem
from experiments.domains.big_o.domain import FAMILIES, BigO
from experiments.domains.big_o.families import Family
from experiments.domains.big_o.features import normal_form
from experiments.domains.big_o.template import fill
from experiments.seeds import generator

DOMAIN = BigO()
DRAWS = 2  # functions of each template


def sizes_of(family: Family) -> tuple[int, ...]:
    """Arguments large enough to tell the curves apart, small enough to run."""
    if family.label == "O(2^n)":
        return (6, 7, 8, 9, 10, 11, 12)
    if family.label == "O(n^2)":
        return (16, 32, 64, 128, 256)
    if family.label in ("O(1)", "O(log n)"):
        return tuple(2**k for k in ((8, 12, 16, 20, 24, 28) if family.takes == "int" else (6, 8, 10, 12, 14, 16)))
    return (128, 256, 512, 1024) if family.deep else (256, 1024, 4096)


def arguments(family: Family, n: int) -> list[tuple[object, ...]]:
    """Argument tuples of size n among which a worst case lies; lists are fresh, a call may change them."""
    if family.takes == "int":
        # One below a power of two has every bit set.
        return [(n,), (n - 1,)]
    ascending = list(range(1, n + 1))
    shuffled = [int(v) for v in np.random.default_rng(n).permutation(ascending)]
    if family.takes == "list":
        return [(ascending,), (ascending[::-1],), (shuffled,)]
    return [(list(ascending), goal) for goal in (0, n // 2 + 1, n + 1)]


@pytest.fixture
def deep_recursion() -> object:
    """Families that call themselves n deep need more than Python's thousand frames."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.label} {f.name}")
def test_label_is_confirmed_by_measurement(family: Family, deep_recursion: object) -> None:
    """A family with a wrong label would poison every phase: steps at growing n must follow its curve."""
    sizes = sizes_of(family)
    for number, template in enumerate(family.templates):
        for draw in range(DRAWS):
            text = fill(template, generator(draw, family.name, number))
            counts = [max(steps_of(text, given) for given in arguments(family, n)) for n in sizes]
            assert fitted(sizes, counts) == family.label, f"{counts}\n{text}"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("def f(xs):\n    return xs[0]\n", "O(1)"),
        ("def f(xs):\n    return sum(xs)\n", "O(n)"),
        ("def f(xs):\n    return sorted(xs)\n", "O(n log n)"),
        ("def f(xs):\n    return [x for x in xs if -x in xs]\n", "O(n^2)"),
        ("def f(xs):\n    ys = []\n    while xs:\n        ys.append(xs.pop(0))\n", "O(n^2)"),
    ],
)
def test_the_measurement_sees_hidden_work(text: str, label: str) -> None:
    """Sums, sorts and searches run in C, where no line is traced; were they free, wrong labels would pass."""
    rng = np.random.default_rng(1)
    sizes = (32, 64, 128, 256)
    counts = [steps_of(text, ([int(v) for v in rng.permutation(n)],)) for n in sizes]
    assert fitted(sizes, counts) == label, counts


def test_ten_families_a_class() -> None:
    """The protocol asks for ten; a class of few would be told by its look."""
    for label in DOMAIN.options:
        assert sum(f.label == label for f in FAMILIES) >= 10
    assert len({f.name for f in FAMILIES}) == len(FAMILIES)


def test_full_scale_makes_1880_distinct_problems() -> None:
    """The full protocol needs 1,880 problems, no two equal once comments, layout and names are gone."""
    problems = DOMAIN.problems(1880, 42)
    assert len({DOMAIN.normalise(p) for p in problems}) == 1880
    assert len({p.problem_id for p in problems}) == 1880
    assert problems == DOMAIN.problems(1880, 42)


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 90), st.integers(0, 10_000))
def test_problems_are_balanced_distinct_and_tell_nothing(n: int, seed: int) -> None:
    """For any seed: classes equal to within one, distinct, and no text holds an option."""
    problems = DOMAIN.problems(n, seed)
    counts = [sum(p.label == o for p in problems) for o in DOMAIN.options]
    assert max(counts) - min(counts) <= 1
    assert len({DOMAIN.normalise(p) for p in problems}) == n
    for p in problems:
        assert not any(o in p.text or o in DOMAIN.describe(p) for o in DOMAIN.options)
        assert np.isfinite(DOMAIN.features(p)).all()


def test_normal_form_ignores_names_comments_and_layout_only() -> None:
    """A duplicate must not hide behind another name; another constant is another problem."""
    a = "def f(xs):\n    t = 0\n    for x in xs:\n        t += x\n    return t\n"
    b = 'def g(data):\n    """Doc."""\n    s = 0  # start\n    for y in data: s += y\n    return (s)\n'
    assert normal_form(a) == normal_form(b)
    assert normal_form(a) != normal_form(a.replace("t = 0", "t = 1"))


def test_features_and_sentence_are_read_off_the_text_alone() -> None:
    """Features that knew the label would leak it into retrieval: a changed label changes nothing."""
    text = "def f(xs):\n    xs.sort()\n    t = 0\n    for x in xs:\n        for y in xs:\n            t += x\n    return t\n"
    one, other = (Problem("p", text, label, "g") for label in ("O(1)", "O(n^2)"))
    assert (DOMAIN.features(one) == DOMAIN.features(other)).all()
    named = dict(zip(DOMAIN.feature_names, DOMAIN.features(one), strict=True))
    assert (named["loop_depth"], named["loops"], named["ordering_calls"], named["recursive_calls"]) == (2, 2, 1, 0)
    assert DOMAIN.describe(one) == "A loop inside a loop, a sort, heap or bisect call."


def test_nearness_of_answers_is_their_distance_in_rank() -> None:
    """Relevance and hypothesis quality rest on it: 1 for the same, 0 for the two ends."""
    assert DOMAIN.similarity("O(n)", "O(n)") == 1.0
    assert DOMAIN.similarity("O(1)", "O(2^n)") == 0.0
    assert DOMAIN.similarity("O(n)", "O(n^2)") == pytest.approx(0.6)
    with pytest.raises(LabError, match="no answer of big_o"):
        DOMAIN.similarity("O(n)", "O(n^3)")


def test_too_many_problems_is_a_clear_error() -> None:
    """The domain says how many it can make instead of looping for ever."""
    with pytest.raises(LabError, match="1 to 3000"):
        DOMAIN.problems(100_000, 42)
