"""The statistics: each against a fixture small enough to compute by hand, and every edge case."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import mean_tests, power
from experiments import statistics as s

numbers = st.lists(st.integers(1, 6).map(float), min_size=2, max_size=30)
pairs = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(1, 6).map(float)), min_size=2, max_size=30)
shares = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
ps = st.lists(st.none() | st.floats(0, 1), max_size=8)
# No deadline: the first example pays for importing scipy and statsmodels, and the machine may be shared.
quick = settings(max_examples=30, deadline=None)


def test_wilcoxon_by_hand():
    """Five positive differences: the exact two-sided p is 2 / 2^5."""
    found = s.wilcoxon_paired([2, 4, 6, 8, 10], [1, 2, 3, 4, 5])
    assert found.p == pytest.approx(2 / 32)
    assert s.wilcoxon_paired([1, 2, 3, 4, 5], [2, 4, 6, 8, 10], "less").p == pytest.approx(1 / 32)


def test_wilcoxon_of_equal_values_says_so():
    """No difference at all is p = 1 with a note, not a crash or NaN."""
    assert s.wilcoxon_paired([1, 1], [1, 1]) == s.Test(1.0, 2, "all differences are zero")
    assert s.wilcoxon_paired([], []) == s.Test(None, 0, "no pairs")


def test_wilcoxon_drops_zeros_and_stays_exact():
    """Equal pairs carry no direction: five differences of six pairs still give 2 / 2^5."""
    found = s.wilcoxon_paired([2, 4, 6, 8, 10, 7], [1, 2, 3, 4, 5, 7])
    assert found.n == 6
    assert found.p == pytest.approx(2 / 32)


def test_wilcoxon_with_ties_is_exact_for_few_pairs():
    """Three differences of +1: of the eight ways to sign them one is all positive."""
    assert s.wilcoxon_paired([2, 3, 4], [1, 2, 3], "greater").p == pytest.approx(1 / 8)


@quick
@given(pairs)
def test_wilcoxon_is_symmetric(rows):
    """Swapping the sides swaps the one-sided questions and leaves the two-sided one."""
    a, b = zip(*rows, strict=True)
    assert s.wilcoxon_paired(a, b).p == pytest.approx(s.wilcoxon_paired(b, a).p)
    assert s.wilcoxon_paired(a, b, "less").p == pytest.approx(s.wilcoxon_paired(b, a, "greater").p)
    assert 0 <= s.wilcoxon_paired(a, b).p <= 1


def test_shares_have_the_ranks_of_their_counts():
    """0.6 - 0.4 is 0.2 less 5e-17: ranks by the last bits made p 0.031 of a difference with p 0.45."""
    counts, others = np.array([2, 5, 2, 3] * 2 + [2, 5] * 4), np.array([3, 4] * 8)
    for side in ("two-sided", "less", "greater"):
        by_counts = s.wilcoxon_paired(counts, others, side)
        assert by_counts == s.wilcoxon_paired(
            1 - counts / 10, 1 - others / 10, {"less": "greater", "greater": "less"}.get(side, side)
        )
    assert s.rank_biserial_paired(counts / 10, others / 10) == s.rank_biserial_paired(counts, others)
    assert s.wilcoxon_paired([0.1 + 0.2, 1], [0.3, 1]).note == "all differences are zero"


def test_wilcoxon_is_scipys_where_that_is_exact():
    """Differences without ties: scipy counts exactly up to 50 pairs, with the same result to the last digits."""
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(17)
    for n in (3, 12, 40):
        a = rng.normal(0.3, 1, n)
        for side in ("two-sided", "less", "greater"):
            assert s.wilcoxon_paired(a, np.zeros(n), side).p == pytest.approx(wilcoxon(a, alternative=side).pvalue)


def test_wilcoxon_by_group_by_hand():
    """Ranks 1 to 4; groups of (1, 2), (3), (4) have the sums 3, 3, 4: of eight ways to sign them one gives 10, one -10."""
    a, zeros = [1.0, 2.0, 3.0, 4.0], [0.0] * 4
    assert s.wilcoxon_paired(a, zeros, groups=["x", "x", "y", "z"]).p == pytest.approx(2 / 8)
    assert s.wilcoxon_paired(a, zeros, "greater", ["x", "x", "y", "z"]).p == pytest.approx(1 / 8)
    assert s.wilcoxon_paired(a, zeros, groups=list("abcd")).p == s.wilcoxon_paired(a, zeros).p == pytest.approx(2 / 16)
    # Ten copies of one problem are one observation: no p under 1.
    assert s.wilcoxon_paired([1.0] * 10, [0.0] * 10, groups=["x"] * 10).p == 1.0
    assert s.wilcoxon_paired([1.0, -1.0], [0.0, 0.0], groups=["x", "x"]).note == "the ranks of each group cancel"


def test_many_pairs_are_approximated_to_the_third_digit():
    """1,500 pairs would take four seconds; the normal approximation says that it is one."""
    a = np.random.default_rng(5).normal(0.05, 1, 1500)
    found = s.wilcoxon_paired(a, np.zeros(1500))
    assert found.note == "normal approximation"
    few = s.wilcoxon_paired(a[:400], np.zeros(400))
    assert few.note == ""
    from scipy.stats import wilcoxon

    assert found.p == pytest.approx(wilcoxon(a, method="asymptotic").pvalue, abs=1e-3)
    assert few.p == pytest.approx(wilcoxon(a[:400], method="asymptotic").pvalue, abs=1e-3)


@quick
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3)), min_size=1, max_size=30))
def test_wilcoxon_by_group_is_what_counting_all_signs_gives(rows):
    """The shift algorithm against all 2^4 ways to flip the signs of four groups."""
    from itertools import product

    from scipy.stats import rankdata

    a, groups = [float(d) for d, _ in rows], [f"g{g}" for _, g in rows]
    kept = [(d, g) for d, g in zip(a, groups, strict=True) if d]
    if not kept:
        return
    signed = rankdata([abs(d) for d, _ in kept]) * np.sign([d for d, _ in kept])
    names = sorted({g for _, g in kept})
    sums = [sum(r for r, (_, g) in zip(signed, kept, strict=True) if g == name) for name in names]
    all_signs = [sum(x * y for x, y in zip(sums, flips, strict=True)) for flips in product((1, -1), repeat=len(sums))]
    wanted = np.mean([abs(t) >= abs(sum(sums)) - 1e-9 for t in all_signs])
    assert s.wilcoxon_paired(a, [0.0] * len(a), groups=groups).p == pytest.approx(wanted)


def test_the_standard_error_by_hand():
    """Single values 1, 2, 3: s / sqrt(3) = 1 / sqrt(3). In groups (1, 3) and (2, 6): means without each 4 and 2 about 3."""
    assert s.standard_error([1, 2, 3]) == pytest.approx((1 / math.sqrt(3), 2))
    # sqrt(1/2 * (1^2 + 1^2)) = 1, with one degree of freedom.
    assert s.standard_error([1, 3, 2, 6], ["x", "x", "y", "y"]) == pytest.approx((1.0, 1))
    assert s.standard_error([1, 2], ["x", "x"]) is None


def test_the_jackknife_by_hand():
    """The mean of 1 and 4 is 2.5; without each 4 and 1: error of the log sqrt((log 1.6^2 + log 0.4^2) / 2), one degree."""
    values = np.array([1.0, 4.0])
    found = s.jackknife("mean", lambda i: float(values[i].mean()), 2)
    half = math.tan(0.475 * math.pi) * math.sqrt((math.log(1.6) ** 2 + math.log(0.4) ** 2) / 2)
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.5 * math.exp(-half), 2.5 * math.exp(half)))
    assert s.jackknife("mean", lambda i: 0.0, 3).low is None
    assert s.jackknife("mean", lambda i: 1.0, 3, ["x"] * 3).low is None
    assert s.jackknife("mean", lambda i: 1.0 if len(i) == 3 else None, 3).low is None
    assert s.jackknife("mean", lambda i: 1.0, 0).value is None


BAD = [1.0, math.nan, 2.0, 3.0]
GOOD = [1.0, 2.0, 3.0, 5.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: s.wilcoxon_paired(BAD, GOOD),
        lambda: s.wilcoxon_paired([1.0, math.inf, 2.0, 3.0], [1.0, math.inf, 2.0, 3.0]),
        lambda: s.friedman([BAD, GOOD, GOOD]),
        lambda: s.adjusted([0.1, math.nan], "holm"),
        lambda: s.adjusted([0.1, 1.5], "bonferroni"),
        lambda: s.cliffs_delta(BAD, GOOD),
        lambda: s.rank_biserial_paired(GOOD, BAD),
        lambda: mean_tests.tost_paired(BAD, GOOD, 0.25),
        lambda: s.bootstrap_mean(BAD, 42),
        lambda: s.bootstrap_ratio(GOOD, BAD, 42),
        lambda: s.correlation(BAD, GOOD),
        lambda: power.required_n(math.nan),
        lambda: s.wilcoxon_paired(GOOD, GOOD, groups=["a"]),
        lambda: s.share(BAD),
        lambda: s.wilcoxon_paired(GOOD, GOOD[:3]),
        lambda: s.wilcoxon_paired(GOOD, GOOD, "sideways"),
        lambda: s.friedman([[1, 2, 3], [1, 2], [1, 2, 3]]),
        lambda: mean_tests.tost_paired(GOOD, GOOD, 0.0),
        lambda: mean_tests.noninferiority_paired(GOOD, GOOD, 0.0),
        lambda: mean_tests.noninferiority_paired(BAD, GOOD, 0.25),
        lambda: s.bootstrap_mean([[1.0, 2.0]], 42),
        lambda: s.bootstrap_mean(GOOD, 42, groups=["a"]),
        lambda: s.wilson(3, 2),
        lambda: s.wilson(-1, 2),
        lambda: s.mcnemar_exact(1, -1, 0, 0),
    ],
)
def test_mistakes_are_refused(call):
    """A missing value must not slip into a mean, nor a wrong call give a number that looks right."""
    with pytest.raises(ValueError):  # noqa: PT011
        call()


def test_friedman_by_hand():
    """Three problems with the same order of three conditions: chi2 = 6, so p = exp(-3)."""
    found = s.friedman([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    assert found.p == pytest.approx(math.exp(-3))
    assert s.friedman(np.array([[1, 2, 3]] * 3)) == found
    assert s.friedman([[1, 1, 1]] * 3).p == 1.0
    assert s.friedman([]).p is None
    assert s.friedman([[1, 2, 3]]).p is None


def test_holm_and_bonferroni_by_hand():
    """0.01, 0.04, 0.03 become 0.03, 0.06, 0.06 and 0.03, 0.12, 0.09; a missing p is not counted."""
    assert s.adjusted([0.01, 0.04, 0.03], "holm") == pytest.approx((0.03, 0.06, 0.06))
    assert s.adjusted([0.01, 0.04, 0.03], "bonferroni") == pytest.approx((0.03, 0.12, 0.09))
    assert s.adjusted([0.02, None], "holm") == (0.02, None)
    assert s.adjusted([None], "holm") == (None,)
    assert s.adjusted([], "bonferroni") == ()


def test_holm_and_bonferroni_are_those_of_statsmodels():
    """Ties, ones and zeros among the p-values."""
    from statsmodels.stats.multitest import multipletests

    for values in ([0.01, 0.01, 0.3, 1.0, 0.0], [0.2, 0.04, 0.04, 0.011, 0.5]):
        for method in ("holm", "bonferroni"):
            assert s.adjusted(values, method) == pytest.approx(tuple(multipletests(values, method=method)[1]))


@quick
@given(ps)
def test_holm_lies_between_the_raw_p_and_bonferroni(values):
    """Holm may only raise a p, and never more than Bonferroni does."""
    holm, bonferroni = s.adjusted(values, "holm"), s.adjusted(values, "bonferroni")
    for raw, by_holm, by_bonferroni in zip(values, holm, bonferroni, strict=True):
        if raw is None:
            assert by_holm is by_bonferroni is None
        else:
            assert raw - 1e-12 <= by_holm <= by_bonferroni + 1e-12 <= 1 + 1e-9


def test_effect_sizes_by_hand():
    """Cliff's delta of (1, 2) against (2, 3) is -3/4; rank-biserial of differences +1, +2, -3 is 0."""
    assert s.cliffs_delta([1, 2], [2, 3]) == -0.75
    assert s.cliffs_delta([], [1]) is None
    assert s.rank_biserial_paired([2, 4, 1], [1, 2, 4]) == 0.0
    assert s.rank_biserial_paired([2, 4, 9], [1, 2, 4]) == 1.0
    assert s.rank_biserial_paired([1], [1]) is None


@quick
@given(numbers, numbers)
def test_cliffs_delta_is_antisymmetric(a, b):
    """Swapping the sides must flip the sign and nothing else."""
    assert s.cliffs_delta(a, b) == -s.cliffs_delta(b, a)
    assert -1 <= s.cliffs_delta(a, b) <= 1
    assert s.cliffs_delta(a, a) == 0


@quick
@given(pairs)
def test_rank_biserial_is_antisymmetric(rows):
    """As for Cliff's delta; undefined exactly when no pair differs."""
    a, b = zip(*rows, strict=True)
    found, swapped = s.rank_biserial_paired(a, b), s.rank_biserial_paired(b, a)
    if a == b:
        assert found is None
        assert swapped is None
    else:
        assert found == pytest.approx(-swapped)
        assert -1 <= found <= 1


def test_wilson_by_hand():
    """5 of 10: 0.5 with bounds (1 +- 1.96 sqrt(1/(10 + 3.8416))) / 2."""
    half = 1.959964 * math.sqrt(1 / (4 * (10 + 1.959964**2)))
    found = s.wilson(5, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-6)
    # 0 of 10: from 0 to z^2 / (10 + z^2).
    none = s.wilson(0, 10)
    assert (none.low, none.high) == pytest.approx((0.0, 1.959964**2 / (10 + 1.959964**2)), abs=1e-6)
    assert s.wilson(0, 0) == s.Interval(None, None, None, 0, "no observations")


@quick
@given(shares)
def test_wilson_holds_its_share(counts):
    """A share's interval holds the share and never leaves 0 to 1, not by a rounding error either."""
    if counts[1]:
        found = s.wilson(*counts)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_shares_by_hand():
    """Shares of 0 and 1 by problem are Wilson's; of two groups that are each of one kind there are two observations."""
    assert s.share([1.0] * 3 + [0.0] * 7).low == pytest.approx(s.wilson(3, 10).low)
    grouped = s.share([1.0] * 5 + [0.0] * 5, ["x"] * 5 + ["y"] * 5)
    assert (grouped.value, grouped.n) == (0.5, 10)
    # The error is 1/2, so the design effect is (1/4 / 2) / (1/4 / 10) = 5: two of the ten count.
    assert grouped.low == pytest.approx(s.wilson(1, 2).low) and grouped.high == pytest.approx(s.wilson(1, 2).high)
    sure = s.share([1.0] * 6, ["x", "x", "y", "y", "z", "z"])
    assert sure.low == pytest.approx(s.wilson(3, 3).low), "six problems of three families that are all solved"
    assert s.share([]).value is None
    assert s.share([0.5]).n == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        s.share([1.5])


def test_mcnemar_by_hand():
    """Six discordant problems, all solved by a alone: 2 / 2^6. One against five: 2 (1 + 6) / 2^6."""
    assert s.mcnemar_exact(10, 6, 0, 4) == s.Test(pytest.approx(2 / 64), 20)
    assert s.mcnemar_exact(3, 5, 1, 2).p == pytest.approx(14 / 64)
    assert s.mcnemar_exact(3, 0, 0, 2) == s.Test(1.0, 5, "a and b solve the same problems")
    assert s.mcnemar_exact(0, 0, 0, 0).p is None


@quick
@given(st.integers(0, 20), st.integers(0, 20))
def test_mcnemar_sees_only_the_discordant(only_a, only_b):
    """What both or neither solve says nothing on the difference, and the sides are alike."""
    assert s.mcnemar_exact(9, only_a, only_b, 5).p == pytest.approx(s.mcnemar_exact(1, only_b, only_a, 0).p)


def test_bootstrap_mean_by_hand():
    """Of 0 and 1 a resample's mean is 0, 1/2, 1/2 or 1: a quarter at each end, so the bounds are 0 and 1."""
    found = s.bootstrap_mean([0, 1], 42)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)
    assert found.method == "mean, bootstrap by problem, 1000 resamples, 95%"


def test_bootstrap_mean_edges():
    """Nothing, one observation, one group and equal values each have a stated result."""
    assert s.bootstrap_mean([], 42) == s.Interval(None, None, None, 0, "no observations")
    assert s.bootstrap_mean([3], 42) == s.Interval(3.0, None, None, 1, "one observation has no interval")
    assert s.bootstrap_mean([1, 3], 42, ["a", "a"]) == s.Interval(2.0, None, None, 2, "one group has no interval")
    found = s.bootstrap_mean([0.1, 0.1, 0.1], 42)
    assert (found.value, found.low, found.high) == (0.1, 0.1, 0.1)


@quick
@given(numbers)
def test_bootstrap_holds_its_mean_and_repeats(values):
    """The interval lies within the data and holds the mean, and the same seed gives the same interval."""
    found = s.bootstrap_mean(values, 42)
    assert found == s.bootstrap_mean(values, 42)
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


def test_bootstrap_by_group_is_wider_than_by_problem():
    """Copies of one group are one observation: resampling by group must see less evidence."""
    values, groups = [0.0] * 10 + [1.0] * 10, ["a"] * 10 + ["b"] * 10
    by_group, by_problem = s.bootstrap_mean(values, 42, groups), s.bootstrap_mean(values, 42)
    assert by_group.high - by_group.low > by_problem.high - by_problem.low


def test_ratio_by_hand():
    """Of 3/6 and 1/2 every resample gives 1/2 when pairs stay together: (3+3)/(6+6), (3+1)/(6+2), (1+1)/(2+2)."""
    found = s.bootstrap_ratio([3, 1], [6, 2], 42)
    assert (found.value, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 2)
    assert s.bootstrap_ratio([1, 1], [1, 1], 42).value == 1.0


def test_ratio_edges():
    """Division by zero is stated, never infinity; resamples without a denominator are left out and counted."""
    assert s.bootstrap_ratio([1, 1], [0, 0], 42) == s.Interval(None, None, None, 2, "the denominator is zero")
    assert s.bootstrap_ratio([], [], 42) == s.Interval(None, None, None, 0, "no observations")
    assert s.bootstrap_ratio([1], [2], 42) == s.Interval(0.5, None, None, 1, "one observation has no interval")
    assert s.bootstrap_ratio([1, 1], [2, 2], 42, ["a", "a"]).low is None
    # (1, 1) and (0, 0): a quarter of the resamples draws the second pair twice.
    found = s.bootstrap_ratio([1, 0], [1, 0], 42)
    kept = int(found.method.split(", ")[2].split()[0])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert 700 < kept < 800


def test_correlation_by_hand():
    """Ranks 1 2 3 4 5 against 2 1 3 4 5: rho = 1 - 6 * 2 / (5 * 24) = 0.9; half width 1.96 sqrt(1.06 / 2)."""
    found = s.correlation([1, 2, 3, 4, 5], [20, 10, 30, 40, 50])
    middle, half = 0.5 * math.log(1.9 / 0.1), 1.959964 * math.sqrt(1.06 / 2)
    assert found.value == pytest.approx(0.9)
    assert (found.low, found.high) == pytest.approx((math.tanh(middle - half), math.tanh(middle + half)), abs=1e-6)


@quick
@given(pairs)
def test_correlation_stays_between_its_bounds(rows):
    """An interval holds its value and never leaves -1 to 1; without variation there is none."""
    x, y = zip(*rows, strict=True)
    found = s.correlation(x, y)
    if found.value is None:
        assert found.method in ("needs four pairs", "one side does not vary")
    else:
        assert -1 <= found.low <= found.value <= found.high <= 1


def test_correlation_edges():
    """Order is read by rank; constants have no correlation."""
    assert s.correlation([1, 2, 3, 4], [1, 4, 9, 16]) == s.Interval(1.0, 1.0, 1.0, 4, "Spearman, perfect order")
    assert s.correlation([1, 2, 3, 4], [4, 3, 2, 1]).value == -1.0
    assert s.correlation([1, 1, 1, 1], [1, 2, 3, 4]).value is None
    assert s.correlation([1, 2], [1, 2]).value is None


def test_import_is_quick():
    """`lab --help` must not wait for scipy and statsmodels, half a second each."""
    code = "import sys, experiments.statistics; print({'scipy', 'statsmodels', 'sklearn', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
