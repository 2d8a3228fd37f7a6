"""The domain equations: find a formula that fits ten noisy points.

    (-8.31, -21.64) (-7.2, -18.3) ... (9.1, 30.56)       -> 3*x + 3.26, family linear

A guess is judged by its normalised loss: root mean square error divided by the standard deviation of y (the NRMSE of
Petersen et al. 2021, arXiv:1912.04871, section 3.2). 1 is what the mean of y reaches, and a family's size does not
matter. Every label is checked by measurement in tests/experiments/domains/test_equations.py.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import LabError
from experiments.domains.base import Judged, Problem
from experiments.domains.expressions import BadExpression, Values, parse
from experiments.seeds import generator

POINTS = 10
X_RANGE = (-10.0, 10.0)
X_GAP = 0.5  # at least between two x: noise of 0.1 would drown a slope over less
NOISE = 0.1  # standard deviation of what is added to y (docs/science.md, Problems)
SOLVED_BELOW = 0.1  # normalised loss (docs/science.md, Problems)
QUARTERS = 4  # of the range of a family's shape parameter; each is a group
DRAWS = 200  # for one problem; three of four are taken in the worst quarter, flat exponentials (measured)
PAIR = re.compile(r"\((-?[0-9.]+), (-?[0-9.]+)\)")
HEAD = re.compile(r"^(?:y|f\(x\))\s*=\s*")
GRID = np.linspace(*X_RANGE, 41)  # where two formulas are compared
WS = np.linspace(0.25, 2.5, 91)  # angular frequencies; the families have 0.5 to 2


@dataclass(frozen=True)
class Family:
    """Formulas of one form; `shape` is the range of the parameter that groups them, {0} in the form."""

    label: str
    form: str
    shape: tuple[float, float]
    others: tuple[tuple[float, float], ...]  # ranges of {1}, {2}

    def formula(self, quarter: int, rng: np.random.Generator) -> str:
        """Draw a formula, its numbers to two decimals, the shape parameter from one quarter of its range."""
        low, high = self.shape
        drawn = [low + (high - low) * (quarter + rng.random()) / QUARTERS, *(rng.uniform(a, b) for a, b in self.others)]
        return self.form.format(*(f"{round(v, 2):g}" for v in drawn)).replace("+ -", "- ")


# In the order of simplicity (docs/science.md, Problems, has the ranges): a label is the first family that fits the points.
FAMILIES = (
    Family("linear", "{0}*x + {1}", (-10, 10), ((-20, 20),)),
    Family("quadratic", "{0}*x**2 + {1}*x + {2}", (-5, 5), ((-5, 5), (-5, 5))),
    Family("exponential", "{1}*{0}**x", (1.1, 3), ((1, 5),)),
    Family("trigonometric", "{1}*sin({0}*x) + {2}", (0.5, 2), ((1, 10), (-5, 5))),
)


@lru_cache(maxsize=4096)
def points(text: str) -> Values:
    """Return the points of a text, x and y in the order of x, shape (2, POINTS). Raises LabError without ten."""
    pairs = sorted((float(a), float(b)) for a, b in PAIR.findall(text))
    if len(pairs) != POINTS:
        raise LabError(f"{len(pairs)} points in a text of the domain equations", f"it needs {POINTS}")
    table = np.array(pairs)
    table.setflags(write=False)
    return table.T


def normalised_loss(values: Values, y: Values) -> float:
    """Return the root mean square of (values - y) divided by the standard deviation of y.

    The largest residual is taken out before squaring, so that nothing below 1e308 overflows; where the residuals
    themselves are not finite, it raises BadExpression.
    """
    with np.errstate(all="ignore"):
        residuals = (values - y) / y.std()
        largest = float(np.abs(residuals).max())
        loss = largest * float(np.sqrt(np.mean((residuals / largest) ** 2))) if largest else 0.0
    if not np.isfinite(loss):
        raise BadExpression("values too large to compare")
    return loss


def polynomial_loss(x: Values, y: Values, degree: int) -> float:
    """Return the normalised loss of the best polynomial of this degree."""
    return normalised_loss(np.asarray(np.polyval(np.polyfit(x, y, degree), x), np.float64), y)


def _drawn(order: int, quarter: int, rng: np.random.Generator) -> tuple[str, str]:
    """Draw text and formula of a problem that its formula solves and no simpler polynomial does. Raises LabError."""
    width = (X_RANGE[1] - X_RANGE[0]) / POINTS
    for _ in range(DRAWS):
        formula = FAMILIES[order].formula(quarter, rng)
        # One point in each tenth of the range.
        x = X_RANGE[0] + width * np.arange(POINTS) + rng.uniform(X_GAP / 2, width - X_GAP / 2, POINTS)
        x = np.round(x, 2)
        y = parse(formula).at(x) + rng.normal(0.0, NOISE, POINTS)
        text = " ".join(f"({a:g}, {b:.2f})" for a, b in zip(x, y, strict=True)) + "\n"
        x, y = points(text)
        if normalised_loss(parse(formula).at(x), y) >= SOLVED_BELOW:
            continue
        if order == 0 or polynomial_loss(x, y, min(order, 2)) >= SOLVED_BELOW:
            return text, formula
    raise LabError(f"no {FAMILIES[order].label} problem in {DRAWS} draws", "use another data_seed")


class Equations:
    """Implements experiments.domains.base.Domain."""

    name = "equations"
    version = "equations-1"
    answers: Literal["choice", "guessing"] = "guessing"
    options = tuple(f.label for f in FAMILIES)
    telling = frozenset({"line", "parabola", "exponent", "sine", "cosine"})
    maximum = 10_000  # the protocol needs 1,880
    max_attempts = 20
    instruction = (
        "Find a formula in x that gives y for these points (x, y), such as 2.5*x - 1. It may use numbers, x, + - * / **, "
        "sin, cos, exp, log, sqrt and abs."
    )
    noun = "Points"
    lead = "Formula: y ="
    feature_names = (
        *"y_mean y_std y_range y_skew y_kurtosis xy_correlation".split(),
        *"slope_mean slope_variance curvature_mean spectral_peak".split(),
    )

    def problems(self, n: int, seed: int, names: str = "neutral") -> list[Problem]:
        """Return `n` distinct problems, classes equal to within one, groups of a class in turn, shuffled by `seed`.

        A draw is used only if its own formula solves it in spite of the noise and no polynomial simpler than its family
        does, so that every problem can be solved and every label is right.
        """
        if names != "neutral":
            raise LabError(f"names = {names!r}: equations have no names", "leave names at neutral")
        if not 1 <= n <= self.maximum:
            what = f"{n} problems asked for; equations makes 1 to {self.maximum}"
            raise LabError(what, f"choose at most {self.maximum}")
        made: list[Problem] = []
        formulas: set[str] = set()
        for order, family in enumerate(FAMILIES):
            rng = generator(seed, self.name, family.label)
            wanted = n // len(FAMILIES) + (order < n % len(FAMILIES))
            while wanted:
                quarter = wanted % QUARTERS
                text, formula = _drawn(order, quarter, rng)
                # The same formula on other points would be the same problem to a memory that keeps formulas.
                if formula in formulas:
                    continue
                formulas.add(formula)
                group = f"{family.label}-{quarter + 1}"
                problem = Problem("", text, family.label, group, formula)
                digest = hashlib.sha256(self.normalise(problem).encode()).hexdigest()[:10]
                made.append(Problem(f"{self.name}-{digest}", text, family.label, group, formula))
                wanted -= 1
        return [made[i] for i in generator(seed, self.name, "order", n).permutation(n)]

    def normalise(self, problem: Problem) -> str:
        """Return the points in the order of x, to two decimals."""
        return ";".join(f"{a:.2f},{b:.2f}" for a, b in zip(*points(problem.text), strict=True))

    def judge(self, problem: Problem, guess: str) -> Judged:
        """Judge the formula in the guess's first line (_tidy): solved when its normalised loss is under SOLVED_BELOW.

        A guess that is no formula, or has no finite value at some point, gets a reason and no loss.
        """
        x, y = points(problem.text)
        try:
            formula = parse(_tidy(guess))
        except BadExpression as error:
            return Judged(False, None, str(error), readable=False)
        try:
            loss = normalised_loss(formula.at(x), y)
        except BadExpression as error:
            return Judged(False, None, str(error))
        return Judged(loss < SOLVED_BELOW, loss)

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Return statistics of the points, shape (10,).

        Those in the unit of y become sign(v) * log(1 + |v|): an exponential reaches 3e5 where a line stays under 120, and
        would leave the others no differences once features are scaled.
        """
        x, y = points(problem.text)
        slope = np.gradient(y, x)
        z = (y - y.mean()) / y.std()
        sized = np.array([y.mean(), y.std(), np.ptp(y), slope.mean(), slope.var(), np.gradient(slope, x).mean()])
        sized = np.sign(sized) * np.log1p(np.abs(sized))
        unitless = [(z**3).mean(), (z**4).mean() - 3.0, np.corrcoef(x, y)[0, 1]]
        return np.array([*sized[:3], *unitless, *sized[3:], spectral_peak(x, y)])

    def describe(self, problem: Problem) -> str:
        """Return direction, turns, bend and sizes of the values: "Rises with x, without a turn, in even steps."."""
        x, y = points(problem.text)
        steps = np.diff(y)
        steps = steps[np.abs(steps) > 4 * NOISE]  # a smaller step may be noise alone
        turns = int((np.sign(steps[1:]) != np.sign(steps[:-1])).sum())
        parts = ["goes both ways" if turns else "rises with x" if y[-1] > y[0] else "falls with x"]
        parts.append("without a turn" if not turns else "with one turn" if turns == 1 else f"with {turns} turns")
        if polynomial_loss(x, y, 1) < SOLVED_BELOW:
            parts.append("in even steps")
        else:
            parts.append("bends upward" if np.gradient(np.gradient(y, x), x).mean() > 0 else "bends downward")
        if np.abs(y).max() > 30 * np.median(np.abs(y)):
            parts.append("few values outgrow all others")
        sentence = ", ".join(parts)
        return f"{sentence[0].upper()}{sentence[1:]}."

    def terms(self) -> frozenset[str]:
        """Return words that describe points without naming a family."""
        return TERMS

    def similarity(self, answer: str, other: str) -> float:
        """Return the similarity of two families, 1 if equal, else 0, or of two formulas, half by form, half by curve.

        Form is the share of the operations of both that are in each (Jaccard); curve is the squared correlation of
        their values over x, which is 1 when one is the other up to scale and offset. A text that is no formula has 0.
        """
        if answer == other:
            return 1.0
        if answer in self.options or other in self.options:
            return 0.0
        try:
            one, two = parse(_tidy(answer)), parse(_tidy(other))
            curves = [one.at(GRID), two.at(GRID)]
        except BadExpression:
            return 0.0
        either = one.operations() | two.operations()
        form = len(one.operations() & two.operations()) / len(either) if either else 1.0
        return 0.5 * form + 0.5 * _squared_correlation(*curves)


def _squared_correlation(a: Values, b: Values) -> float:
    """Return the squared correlation, 0 when one does not vary; values are scaled first, so that no square overflows."""
    a, b = (v / max(1.0, float(np.abs(v).max())) for v in (a, b))
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return min(1.0, float(a @ b / spread) ** 2) if spread > 1e-12 else 0.0


def _tidy(guess: str) -> str:
    """Return the first line that is not empty, without "y =" or "f(x) =" before it, ^ as **."""
    line = next((part.strip() for part in guess.splitlines() if part.strip()), "")
    return HEAD.sub("", line).replace("^", "**")


def spectral_peak(x: Values, y: Values) -> float:
    """Return the angular frequency at which the residuals of a line are strongest; 0 where they are small."""
    rest = y - np.polyval(np.polyfit(x, y, 1), x)
    if rest.std() < SOLVED_BELOW * y.std():
        return 0.0
    power = np.abs(np.exp(-1j * np.outer(WS, x)) @ (rest / rest.std())) ** 2
    return float(WS[int(power.argmax())])


TERMS = frozenset(
    (
        "rises falls rise fall rising falling turn turns bends upward downward even uneven steps slope steep flat "
        "peak valley wave waves period growth grows outgrow symmetric straight curve points values both ways zero "
        "crosses origin swings"
    ).split()
)
