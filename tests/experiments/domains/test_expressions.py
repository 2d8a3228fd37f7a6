"""Formulas that a model writes: read by a whitelist, bounded in time, never an exception beyond a reason."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.domains.equations import Equations
from experiments.domains.expressions import MAX_CHARACTERS, BadExpression, parse
from experiments.seeds import generator

DOMAIN = Equations()
(PROBLEM,) = DOMAIN.problems(1, 42)
X = np.linspace(-10.0, 10.0, 10)
BOUND_S = 0.05

HOSTILE = (
    "9**9**9**9",
    "9**9**9**9**9**9",
    "2**(2**(2**(2**(2**x))))",
    "10**(10**10)",
    "x**1e9",
    "(" * 100_000 + "x" + ")" * 100_000,
    "-" * 100_000 + "x",
    "+" * 199 + "x",
    "[" * 90 + "]" * 90,
    "(" * 99 + "x" + ")" * 99,
    "x" * 200,
    "1" * 200,
    "1" * 100_000,
    "__import__('os').system('true')",
    "().__class__.__bases__",
    "x.__class__",
    "pi.e",
    "e.x",
    "x.real",
    "x[0]",
    "[x]",
    "{x}",
    "(x,)",
    "x,",
    "lambda x: x",
    "(lambda: x)()",
    "(y:=3)",
    "x if x else x",
    "x and x",
    "not x",
    "x < 1",
    "x is x",
    "x in x",
    "await x",
    "yield x",
    "*x",
    "**x",
    "x;x",
    "x = 1",
    "x\nimport os",
    "f'{x}'",
    "'x'",
    'b"x"',
    "None",
    "True",
    "...",
    "1j",
    "0x10",
    "0b11",
    "0o17",
    "07",
    "1_000",
    "1e400",
    "1e-400",
    "-1e400",
    "1.2.3",
    "1..2",
    ".",
    "1.",
    "e5",
    "2e",
    "x2",
    "2x",
    "2(x)",
    "x(2)",
    "sin",
    "sin()",
    "sin(x, x)",
    "sin(*x)",
    "sin(**x)",
    "sin(x=1)",
    "sin(x)(x)",
    "(sin)(x)",
    "eval(x)",
    "exec('x')",
    "open('x')",
    "abs",
    "abs(abs)",
    "nan",
    "inf",
    "float('nan')",
    "1/0",
    "0/0",
    "x/(x-x)",
    "log(0)",
    "log(-1)",
    "sqrt(-1)",
    "(-1)**0.5",
    "(-8)**(1/3)",
    "exp(1e9)",
    "exp(exp(exp(x)))",
    "exp(exp(40))",
    "0**-1",
    "x**-9999",
    "1e9**64",
    "x//2",
    "x%2",
    "x@x",
    "~x",
    "x<<9999",
    "x|1",
    "ｘ",
    "х",
    "𝑥",
    "x²",
    "２*x",
    "−x",
    "x×2",
    "x÷2",
    "π",
    "√x",
    "\x00",
    "x\x00",
    "\ud800",
    "\u202ex",
    "",
    " ",
    "\n\n",
    "\t",
    "#",
    "x # comment",
    "\\",
    "x\\\nx",
    "x" + " " * 150 + "+1",
    "🙂",
    "y = ",
    "f(x) = ",
    "y = y = x",
    "^",
    "x^^2",
    "x^x^x^x^x",
    "())(",
    ")(",
    "(",
    ")",
    "(()",
    "x)(x",
    "%s",
    "{0}",
    "$x",
    "`x`",
    "x!",
    "x?",
    "\ufeffx",
    "sin" * 60,
    "e" * 199,
)


def hostile(count: int) -> list[str]:
    """The list above, and what comes of cutting and joining it, `count` texts in all."""
    rng = generator(42, "hostile")
    texts = list(HOSTILE)
    while len(texts) < count:
        a, b = (HOSTILE[int(i)][:200] for i in rng.integers(0, len(HOSTILE), 2))
        texts.append(
            f"{a[: int(rng.integers(0, 12))]}{'*+-/( x1.e'[int(rng.integers(0, 10))]}{b[: int(rng.integers(0, 12))]}"
        )
    return texts


def test_a_thousand_hostile_texts_are_judged_within_bounds() -> None:
    """A model may write anything: each text gets a finite loss or a reason within 50 ms, and nothing is raised or
    warned of."""
    DOMAIN.judge(PROBLEM, "x")
    slowest = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in hostile(1000):
            started = time.process_time()
            judged = DOMAIN.judge(PROBLEM, text)
            slowest = max(slowest, time.process_time() - started)
            assert (judged.loss is None) == bool(judged.reason), text[:80]
            assert judged.loss is None or np.isfinite(judged.loss), text[:80]
            assert not judged.solved, text[:80]
    assert slowest < BOUND_S


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="x0123456789.e+-*/^() sincoexplgqrtab,_", max_size=220))
def test_any_text_is_judged_in_bounded_time(text: str) -> None:
    """What nobody thought of: the same for random text, and for random text made of a formula's characters."""
    started = time.process_time()
    judged = DOMAIN.judge(PROBLEM, text)
    assert time.process_time() - started < BOUND_S
    assert (judged.loss is None) == bool(judged.reason)
    assert judged.loss is None or np.isfinite(judged.loss)


Formula = tuple[str, Callable[[np.ndarray], np.ndarray]]  # a text, and what it means


def _joined(parts: tuple[Formula, str, Formula]) -> Formula:
    (a, left), sign, (b, right) = parts
    meaning = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}[sign]
    return f"({a} {sign} {b})", lambda x: meaning(left(x), right(x))


def _called(parts: tuple[str, Formula]) -> Formula:
    name, (a, inner) = parts
    meaning = {"-": np.negative, "square": np.square}.get(name) or getattr(np, name)
    return f"({a})**2" if name == "square" else f"{name}({a})", lambda x: meaning(inner(x))


LEAVES: list[Formula] = [
    ("x", lambda x: x),
    ("pi", lambda x: 0 * x + np.pi),
    ("e", lambda x: 0 * x + np.e),
    ("31.25", lambda x: 0 * x + 31.25),
]
FORMULAS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(_joined)
        | st.tuples(st.sampled_from(["sin", "cos", "exp", "log", "sqrt", "abs", "-", "square"]), inner).map(_called)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(FORMULAS)
def test_values_are_what_the_text_means(formula: Formula) -> None:
    """The walker must compute the formula it was given: checked against the same formula built of numpy calls."""
    text, meaning = formula
    with np.errstate(all="ignore"):
        wanted = meaning(X)
    try:
        found = parse(text).at(X)
    except BadExpression:
        assert len(text) > MAX_CHARACTERS or not np.isfinite(wanted).all() or text.count("(") > 20
    else:
        assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 201, "201 characters, more than 200"),
        ("(" * 21 + "x" + ")" * 21, "more than 20 open brackets"),
        ("x)", "brackets that do not match"),
        ("-" * 40 + "x", "deeper than 24"),
        ("+".join(["x*x*x"] * 20), "more than 80 parts"),
        ("1e10", "a number larger than 1e+09"),
        ("x**(9*9)", "an exponent larger than 64"),
        ("log(x)", "no finite value at x = -10"),
        ("2x", "an operator is missing"),
        ("tan(x)", "unknown word 'tan'"),
        ("x // 2", "FloorDiv is not allowed"),
        ("x;x", "a character that no formula has"),
        ("x +", "not a formula"),
        ("sin(x, 1)", "a character"),
        ("sin", "sin without its argument"),
        (" ", "empty"),
    ],
)
def test_each_limit_says_what_it_is(text: str, reason: str) -> None:
    """The reason goes back to the model and into the trial; each limit is met by a text just over it."""
    with pytest.raises(BadExpression, match=re.escape(reason)):
        parse(text).at(X)


def test_texts_just_within_the_limits_are_read() -> None:
    """A limit set too low would refuse real formulas."""
    assert parse("(" * 20 + "x" + ")" * 20).at(X).tolist() == X.tolist()
    assert parse("-" * 22 + "x").at(X).tolist() == X.tolist()
    assert parse("+".join(["x*x"] * 20)).at(X) == pytest.approx(20 * X**2)  # 79 parts
    assert parse("1e9*x").at(X) == pytest.approx(1e9 * X)
    assert parse("1.5**(6*x)").at(X) == pytest.approx(1.5 ** (6 * X))


def test_operations_tell_forms_apart() -> None:
    """Likeness of formulas rests on them: numbers and signs do not matter, what is raised to what does."""
    assert parse("2*x - 1").operations() == parse("-30*x + 4.5").operations()
    assert parse("x**2").operations() != parse("2**x").operations()
    assert parse("sin(x)").operations() == {"sin", "x"}
    assert parse("3").operations() == frozenset()
