"""Programs of big_o in Java: what is translated, that it computes what the Python function does, and that all classes are there."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from common.errors import LabError
from experiments.domains import get_domain
from experiments.domains.big_o.java import ARRAY, Untranslatable, java_of
from experiments.domains.big_o.java_problems import java_problems

LISTS = ([5, 3, 8], [2, 9, 4, 7, 1], [-4, 11, 0, 7, -2, 9])
INTEGERS = (2, 5, 6)


def test_a_translation_by_hand() -> None:
    """A guard, a loop over indices, a floored quotient, a swap that reads before it writes, an index from the back."""
    python = (
        "def run(xs):\n    if not xs:\n        return 1\n    a, b = xs[0], xs[-1]\n    for i in range(1, len(xs)):\n"
        "        a, b = b // 2, a\n    return a + b\n"
    )
    assert java_of(python).splitlines() == [
        "static int run(int[] xs) {",
        "    if (!(xs.length > 0)) {",
        "        return 1;",
        "    }",
        "    int v1 = xs[0];",
        "    int v2 = xs[xs.length - 1];",
        "    int a = v1;",
        "    int b = v2;",
        "    for (int i = 1; i < xs.length; i++) {",
        "        int v3 = Math.floorDiv(b, 2);",
        "        int v4 = a;",
        "        a = v3;",
        "        b = v4;",
        "    }",
        "    return a + b;",
        "}",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "return sum(x for x in xs)",
        "return {1: 2}[xs[0]]",
        "ys = []\n    ys.append(1)\n    return len(ys)",
        "for i in range(len(xs)):\n        xs = xs[1:]\n    return 1",  # Python reads the bounds once
        "for i in range(3):\n        i += 1\n    return i",
        "ys = [1, 2, 3]\n    return ys[xs[0] - 1]",  # counts from the back in Python
        "return 1 << 40 + len(xs)",
        "if xs[0] > 1:\n        return 2",
    ],
)
def test_what_means_something_else_in_java_is_left_out(body: str) -> None:
    """A program that would take other steps, or fail, has no true label."""
    with pytest.raises(Untranslatable):
        java_of(f"def run(xs):\n    {body}\n")


def test_every_class_has_many_families_and_labels_are_those_of_the_python_programs() -> None:
    """Classes are equal, five families each at least, no text twice; labels are of the families that are measured in Python."""
    problems = java_problems(360, 42)
    python = {p.problem_id: p for p in get_domain("big_o").problems(3000, 42)}
    assert set(Counter(p.label for p in problems).values()) == {60}
    families = defaultdict(set)
    for p in problems:
        families[p.label].add(p.group)
        assert (p.label, p.group) == (python[p.problem_id].label, python[p.problem_id].group)
        assert p.text == java_of(python[p.problem_id].text)
    assert min(map(len, families.values())) >= 5 and len({p.text for p in problems}) == 360
    assert java_problems(360, 42) == problems
    with pytest.raises(LabError, match="in Java there are 1038 with seed 42"):
        java_problems(2400, 42)


def arguments(name: str, java: str) -> list[list[Any]]:
    """Three calls of the last method: a list of the test for each array, a number for each int."""
    head = next(line for line in java.splitlines() if line.startswith(f"static int {name}("))
    kinds = [part.split()[0] for part in head.partition("(")[2].partition(")")[0].split(", ")]
    return [
        [list(one) if kind == ARRAY else number for kind in kinds] for one, number in zip(LISTS, INTEGERS, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("javac") is None, reason="no JDK")
def test_java_computes_what_python_does(tmp_path: Path) -> None:
    """Each of 240 programs compiles and gives the same numbers for three inputs, or both fail."""
    classes, calls, wanted = [], [], []
    python = {p.problem_id: p.text for p in get_domain("big_o").problems(3000, 42)}
    for i, p in enumerate(java_problems(240, 42)):
        text = python[p.problem_id]
        name = [f.name for f in ast.parse(text).body if isinstance(f, ast.FunctionDef)][-1]
        classes.append(f"class P{i} {{\n{p.text}\n}}")
        for given in arguments(name, p.text):
            shown = [f"new int[] {{{str(a)[1:-1]}}}" if isinstance(a, list) else str(a) for a in given]
            space: dict[str, Any] = {}
            exec(text, space)  # noqa: S102
            try:
                wanted.append(str(int(space[name](*given))))
            except (ArithmeticError, IndexError, RecursionError):
                wanted.append("fails")
            call = f"System.out.println(P{i}.{name}({', '.join(shown)}));"
            calls.append(
                f'try {{ {call} }} catch (RuntimeException | StackOverflowError e) {{ System.out.println("fails"); }}'
            )
    main = "class Main {\npublic static void main(String[] a) {\n" + "\n".join(calls) + "\n}\n}"
    (tmp_path / "Main.java").write_text("\n".join(["import java.util.Arrays;", *classes, main]))
    subprocess.run(["javac", "Main.java"], cwd=tmp_path, check=True)
    done = subprocess.run(["java", "Main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == wanted and wanted.count("fails") < len(wanted) / 20
