"""The domain equations: solvable problems, labels confirmed by fitting, losses by hand, nothing that tells the answer."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments.data import universe
from experiments.domains import Problem, get_domain
from experiments.domains.equations import NOISE, Equations, normalised_loss, points
from experiments.domains.expressions import BadExpression, parse
from experiments.registry import configure

DOMAIN = Equations()
PROBLEMS = DOMAIN.problems(96, 42)


def fitted(x: np.ndarray, y: np.ndarray) -> str:
    """The first family, in the order of simplicity, whose best formula has a normalised loss under 0.1."""

    def loss(*columns: np.ndarray) -> float:
        table = np.stack(columns, axis=1)
        return normalised_loss(table @ np.linalg.lstsq(table, y, rcond=None)[0], y)

    one = np.ones_like(x)
    for label, candidates in (
        ("linear", [(x, one)]),
        ("quadratic", [(x**2, x, one)]),
        ("exponential", [(b**x,) for b in np.arange(1.05, 3.05, 0.01)]),
        ("trigonometric", [(np.sin(b * x), one) for b in np.arange(0.45, 2.05, 0.01)]),
    ):
        if min(loss(*columns) for columns in candidates) < 0.1:
            return label
    return "none"


def test_labels_are_confirmed_by_fitting() -> None:
    """A noisy flat parabola is a line; with a wrong label it would count against every memory that finds lines."""
    for p in PROBLEMS[:48]:
        assert fitted(*points(p.text)) == p.label, p.answer


def test_every_problem_is_solved_by_its_own_formula() -> None:
    """Noise on a flat curve could make a problem that nobody can solve; attempts would measure nothing there."""
    for p in PROBLEMS:
        judged = DOMAIN.judge(p, p.answer)
        assert judged.solved and judged.loss is not None
        x, y = points(p.text)
        residuals = y - parse(p.answer).at(x)
        assert float(np.abs(residuals).max()) < 5 * NOISE


N = r"(-?[0-9.]+(?:e-[0-9]+)?)"
RANGES = {
    "linear": (rf"{N}\*x [+-] {N}", [(-10, 10), (-20, 20)]),
    "quadratic": (rf"{N}\*x\*\*2 [+-] {N}\*x [+-] {N}", [(-5, 5)] * 3),
    "exponential": (rf"{N}\*{N}\*\*x", [(1, 5), (1.1, 3)]),
    "trigonometric": (rf"{N}\*sin\({N}\*x\) [+-] {N}", [(1, 10), (0.5, 2), (-5, 5)]),
}


def test_problems_are_as_the_protocol_says() -> None:
    """The families and ranges of docs/science.md, "Problems", ten points in [-10, 10], four equal classes, groups of a class equal."""
    assert Counter(p.label for p in PROBLEMS) == dict.fromkeys(RANGES, 24)
    assert set(Counter(p.group for p in PROBLEMS).values()) == {6}
    for p in PROBLEMS:
        x, _ = points(p.text)
        assert len(x) == 10 and x.min() >= -10 and x.max() <= 10 and np.diff(x).min() >= 0.5
        form, ranges = RANGES[p.label]
        numbers = re.fullmatch(form, p.answer)
        assert numbers, p.answer
        for number, (low, high) in zip(numbers.groups(), ranges, strict=True):
            assert low <= float(number) <= high


def test_full_scale_makes_1880_distinct_problems() -> None:
    """The full protocol needs 1,880; neither points nor formulas repeat, and the same seed gives the same."""
    problems = DOMAIN.problems(1880, 42)
    assert len({DOMAIN.normalise(p) for p in problems}) == len({p.answer for p in problems}) == 1880
    assert len({p.problem_id for p in problems}) == 1880
    assert problems == DOMAIN.problems(1880, 42)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_texts_and_sentences_tell_no_family(n: int, seed: int) -> None:
    """For any seed: balanced, finite features, and no text or sentence that names a family or shows the formula."""
    problems = DOMAIN.problems(n, seed)
    counts = [sum(p.label == o for p in problems) for o in DOMAIN.options]
    assert len(problems) == n and max(counts) - min(counts) <= 1
    for p in problems:
        said = f"{p.text} {DOMAIN.describe(p)}".lower()
        assert not any(word in said for word in (*DOMAIN.options, *DOMAIN.telling, p.answer))
        assert DOMAIN.features(p).shape == (len(DOMAIN.feature_names),)
        assert np.isfinite(DOMAIN.features(p)).all()


def test_normal_form_ignores_layout_only() -> None:
    """A duplicate must not hide behind another order of points or blanks; another value is another problem."""
    p = PROBLEMS[0]
    pairs = p.text.strip().replace(") (", ")|(").split("|")
    shuffled = Problem("q", "\n  ".join(reversed(pairs)), "other", "other")
    assert DOMAIN.normalise(shuffled) == DOMAIN.normalise(p)
    x, _ = points(p.text)
    moved = Problem("q", p.text.replace(f"({x[0]:g},", f"({x[0] + 0.01:g},"), p.label, p.group)
    assert DOMAIN.normalise(moved) != DOMAIN.normalise(p)


def test_the_loss_by_hand() -> None:
    """RMSE over the standard deviation of y: 1 for the mean, 0 for the truth, finite where squares would overflow."""
    y = np.array([1.0, 3.0])
    assert normalised_loss(np.array([2.0, 2.0]), y) == 1.0
    assert normalised_loss(y, y) == 0.0
    assert normalised_loss(np.array([1.0, 3.0 + 0.2]), y) == pytest.approx(0.2 / 2**0.5)
    assert normalised_loss(np.array([1e200, 1e200]), y) == pytest.approx(1e200)
    with pytest.raises(BadExpression, match="too large"):
        normalised_loss(np.array([-1.7e308, 1.7e308]), np.array([0.0, 1e-3]))


@pytest.mark.parametrize("text", ["{}", "y = {}", "f(x) = {}", "  {}  \nand so on", "\n{}"])
def test_forms_in_which_a_model_writes_a_formula_are_read(text: str) -> None:
    """A right formula must not fail for what stands around it."""
    p = next(p for p in PROBLEMS if p.label == "quadratic")
    assert DOMAIN.judge(p, text.format(p.answer)).solved
    assert DOMAIN.judge(p, text.format(p.answer.replace("**", "^"))).solved
    assert not DOMAIN.judge(p, text.format("0")).solved


def test_features_by_hand() -> None:
    """A line with slope 2 through the origin: every feature is known without a computer."""
    x = np.array([-9.0, -7, -5, -3, -1, 1, 3, 5, 7, 9])
    text = " ".join(f"({a:g}, {2 * a:.2f})" for a in x)
    named = dict(zip(DOMAIN.feature_names, DOMAIN.features(Problem("p", text, "linear", "g")), strict=True))
    assert named["y_mean"] == pytest.approx(0)
    assert named["y_std"] == pytest.approx(np.log1p(132**0.5))
    assert named["y_range"] == pytest.approx(np.log1p(36))
    assert named["y_skew"] == pytest.approx(0)
    assert named["xy_correlation"] == pytest.approx(1)
    assert named["slope_mean"] == pytest.approx(np.log1p(2))
    assert named["slope_variance"] == pytest.approx(0)
    assert named["curvature_mean"] == pytest.approx(0)
    assert named["spectral_peak"] == 0.0


def test_the_spectral_peak_is_the_frequency() -> None:
    """The one feature that tells waves apart: for sin(b*x) it must lie near b."""
    waves = [p for p in PROBLEMS if p.label == "trigonometric"]
    at = DOMAIN.feature_names.index("spectral_peak")
    near = [abs(DOMAIN.features(p)[at] - float(p.answer.split("(")[1].split("*")[0])) < 0.2 for p in waves]
    assert sum(near) > 0.8 * len(near)


def test_nearness_of_answers() -> None:
    """Relevance and hypothesis quality rest on it: same form and curve 1, another family less, no formula nothing."""
    near = DOMAIN.similarity
    assert near("2*x + 1", "-3*x - 4") == pytest.approx(1.0)
    assert near("2*1.5**x", "3*1.6**x") > near("2*1.5**x", "2*x + 1") > 0
    assert near("2*x + 1", "2*x + 1") == near("linear", "linear") == 1.0
    assert near("linear", "quadratic") == near("2*x", "no formula") == near("x", "linear") == 0.0
    assert near("x", "10**60*x**5") == near("10**60*x**5", "x")


def test_the_memory_keeps_formulas() -> None:
    """Problem.truth is what memos, prompts and training show; a choice domain's is its label."""
    assert all(p.truth == p.answer != p.label for p in PROBLEMS)
    other = get_domain("big_o").problems(6, 42)[0]
    assert other.truth == other.label
    assert get_domain("big_o").judge(other, f" {other.label}\n").solved
    assert not get_domain("big_o").judge(other, "O(n!)").solved


def test_another_formula_is_another_data_version() -> None:
    """Units planned for other answers must not count as done: the version holds the formulas too."""
    one = universe(configure("p2", "smoke", {"domain": "equations", "n_problems": 24}))
    other = universe(configure("p2", "smoke", {"domain": "equations", "n_problems": 24, "data_seed": 43}))
    assert one.version.startswith("equations-1-24-42-")
    assert one.version != other.version


def test_limits_are_clear_errors() -> None:
    """What the domain cannot do it says, before any work."""
    with pytest.raises(LabError, match="1 to 10000"):
        DOMAIN.problems(10_001, 42)
    with pytest.raises(LabError, match="have no names"):
        DOMAIN.problems(10, 42, "natural")
