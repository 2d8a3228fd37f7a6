"""A code version changes with what is computed, and with no name or place of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.protocol.code_version import Name, hashed

PHASE = """
from package.tools import scaled
from package import words

SIZE = 3

class Solver:
    def _step(self, x):
        return x + SIZE

    def _other(self, x):
        return x - SIZE

    def solve(self, x):
        return self._step(scaled(x))

def run(x):
    return Solver().solve(x), words.JOINED, TEXT

TEXT = resources.files("package") / "texts.toml"
"""
FILES = {
    "phase.py": PHASE,
    "tools.py": "def scaled(x):\n    return _twice(x)\n\ndef _twice(x):\n    return 2 * x\n\ndef unused(x):\n    return x\n",
    "words.py": "JOINED, APART = 'a', 'b'\n",
    "texts.toml": "a = 1\n",
}


def version(folder: Path, files: Mapping[str, str], module: str = "phase", name: str = "run") -> str:
    """The version of one definition in a package with these files."""
    package = folder / f"{len(list(folder.iterdir()))}" / "package"
    for file, text in files.items():
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(text, encoding="utf-8")
    return hashed(package, [Name(module, name)])


MOVED = {
    "texts.toml": FILES["texts.toml"],
    "phase.py": PHASE.replace("package.tools", "package.deep.kit").replace(
        "from package import words", "from package.deep import words"
    ),
    "deep/kit.py": FILES["tools.py"],
    "deep/words.py": FILES["words.py"],
}
SAME = {
    "a module is moved": MOVED,
    "a helper is renamed": FILES | {"tools.py": FILES["tools.py"].replace("_twice", "_doubled")},
    "a public helper is renamed": {k: v.replace("scaled", "enlarged") for k, v in FILES.items()},
    "a class is renamed": FILES | {"phase.py": PHASE.replace("Solver", "Machine")},
    "a private method is renamed": FILES | {"phase.py": PHASE.replace("_step", "_once")},
    "a constant is renamed": FILES | {"phase.py": PHASE.replace("SIZE", "AMOUNT")},
    "an import has another name": FILES
    | {"phase.py": PHASE.replace("import scaled", "import scaled as grown").replace("scaled(x))", "grown(x))")},
    "the import stands in the function": FILES
    | {
        "phase.py": PHASE.replace("from package.tools import scaled\n", "").replace(
            "        return self._step", "        from package.tools import scaled\n        return self._step"
        )
    },
    "a helper goes through another module": FILES
    | {"phase.py": PHASE.replace("package.tools", "package.door"), "door.py": "from package.tools import scaled\n"},
    "what is not reached changes": FILES | {"tools.py": FILES["tools.py"].replace("return x\n", "return -x\n")},
    "words for people change": FILES
    | {"tools.py": FILES["tools.py"].replace("def scaled(x):\n", 'def scaled(x):\n    """Words."""  # more\n')},
}
OTHER = {
    "a helper's number": FILES | {"tools.py": FILES["tools.py"].replace("2 * x", "3 * x")},
    "a constant": FILES | {"phase.py": PHASE.replace("SIZE = 3", "SIZE = 4")},
    "another method is called": FILES | {"phase.py": PHASE.replace("self._step(scaled", "self._other(scaled")},
    "another helper is called": FILES | {"phase.py": PHASE.replace("import scaled", "import unused as scaled")},
    "the helper is not called": FILES | {"phase.py": PHASE.replace("scaled(x))", "x)")},
    "another of two names given at once": FILES | {"phase.py": PHASE.replace("words.JOINED", "words.APART")},
    "two values change places": FILES | {"words.py": "JOINED, APART = 'b', 'a'\n"},
    "the order of a call's arguments": FILES | {"phase.py": PHASE.replace("x + SIZE", "SIZE + x")},
    "data beside a module": FILES | {"texts.toml": "a = 2\n"},
    "a statement runs when the module is loaded": FILES | {"tools.py": FILES["tools.py"] + "print(1)\n"},
}


@pytest.mark.parametrize("what", SAME)
def test_names_and_places_cost_no_id(tmp_path: Path, what: str) -> None:
    """Moving a module or renaming a helper must not throw a night's trials away."""
    assert version(tmp_path, SAME[what]) == version(tmp_path, FILES)


@pytest.mark.parametrize("what", OTHER)
def test_what_is_computed_makes_another_version(tmp_path: Path, what: str) -> None:
    """Two results under one id that were computed differently would be mixed without a word."""
    assert version(tmp_path, OTHER[what]) != version(tmp_path, FILES)


def test_functions_that_call_each_other_are_told_apart_by_what_they_do(tmp_path: Path) -> None:
    """A circle of calls must end the search, and a change anywhere in it must count."""
    text = "def even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    first = version(tmp_path, {"phase.py": text}, name="even")
    assert version(tmp_path, {"phase.py": text.replace("odd", "uneven")}, name="even") == first
    assert version(tmp_path, {"phase.py": text.replace("n != 0", "n != 1")}, name="even") != first
    assert version(tmp_path, {"phase.py": text}, name="odd") != first


def test_a_name_bound_in_one_scope_still_counts_in_another(tmp_path: Path) -> None:
    """A method's argument hides a helper in that method alone: the other methods call the helper, and its change counts."""
    text = "def helper():\n    return 1\n\nclass C:\n    def a(self, helper):\n        return helper\n\n"
    text += "    def b(self):\n        return helper()\n"
    first = version(tmp_path, {"phase.py": text}, name="C")
    assert version(tmp_path, {"phase.py": text.replace("return 1", "return 2")}, name="C") != first
