"""Features of code by tokens and indentation: the same function in three languages, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.domains.code_text import NAMES, features

PYTHON = '''def f(xs):
    """for for for"""
    n = 0
    for x in xs:  # while
        for y in xs:
            n += x * y
    while n > 1:
        n = n // 2
    return g(n)
'''
JAVA = """int f(int[] xs) {
    int n = 0; /* for */
    for (int x : xs) {
        for (int y : xs) {
            n += x * y;
        }
    }
    while (n > 1) { n = n / 2; } // while
    return g(n);
}
"""
ONE_LINE = "int f(int n){for(int i=0;i<n;i++){for(int j=0;j<n;j++){g('{',j);}}return f(n-1)+f(n-2);}"


def counted(text: str) -> dict[str, float]:
    """The features by name, counts as they are."""
    found = dict(zip(NAMES, features(text).tolist(), strict=True))
    return {
        k.removeprefix("log_"): round(float(np.expm1(v)), 6) if k.startswith("log_") else v for k, v in found.items()
    }


@pytest.mark.parametrize(("code", "lines", "braces"), [(PYTHON, 8, 0), (JAVA, 10, 3)], ids=["Python", "Java"])
def test_one_function_in_two_languages(code: str, lines: int, braces: int) -> None:
    """What decides its cost is the same in both: two loops in each other, one beside them that halves, one call."""
    found = counted(code)
    assert (found["lines"], found["brace_depth"]) == (lines, braces)
    wanted = {"loop_depth": 2, "loops": 3, "returns": 1, "halvings": 1, "indent_depth": 3, "self_calls": 0}
    assert {name: found[name] for name in wanted} == wanted
    # The definition stands before a bracket as a call does.
    assert found["calls"] == 2


def test_braces_alone_and_recursion() -> None:
    """Code without lines has its depth from braces, not from one in quotation marks; a function calls itself twice."""
    found = counted(ONE_LINE)
    assert (found["loop_depth"], found["brace_depth"], found["self_calls"]) == (2, 3, 2)


def test_prose_is_no_code() -> None:
    """An apostrophe opens no string, and texts without code differ in nothing that code has."""
    assert counted("I don't like it. It isn't (really) good.\n")["bracket_depth"] == 1
    assert not any(features(""))
    assert np.isfinite(features("}}} ((( \"\"\" ''' /* \x00 # //")).all()
