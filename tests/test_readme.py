"""README against the project: its tree, and the commands that it tells people to type."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from lab.main import app

ROOT = Path(__file__).resolve().parent.parent
TREE = "## The tree"
# A command stands at the start of a line or after ; & | and may have a path, a prompt or variables before it.
COMMAND = r"(?:^|[;&|])\s*(?:\$\s+)?(?:\w+=\S+\s+)*(?:\S*/)?{}\s+([a-z][a-z-]*)(?:\s+([a-z][a-z0-9-]*))?"


def tree_in(text: str) -> list[str]:
    """The paths of the fenced block under the heading; AssertionError for a line that is not "path   description"."""
    block = re.search(rf"^{TREE}$(?:(?!^#).)*?^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block, f'README.md has no fenced block under "{TREE}"'
    paths = []
    for line in filter(str.strip, block[1].splitlines()):
        found = re.fullmatch(r"(\S+) {2,}(\S.*)", line)
        assert found, f'not "path   description": {line!r}'
        paths.append(found[1])
    return paths


def code_in(text: str) -> list[str]:
    """Fenced blocks, the tree's aside, and code within lines."""
    without_tree = re.sub(rf"(?ms)^{TREE}$.*?^```\w*\n.*?^```$", "", text)
    fenced = re.findall(r"(?ms)^```\w*\n(.*?)^```$", without_tree)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```\w*\n.*?^```$", "", without_tree))


def named(program: str, text: str) -> set[tuple[str, str]]:
    """(first word, second word or "") after each call of `program` in the code of a Markdown text."""
    return {m for code in code_in(text) for m in re.findall(COMMAND.format(program), code, re.MULTILINE)}


def lab_knows(words: tuple[str, str]) -> bool:
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            return True
        command = command.commands.get(word)
        if command is None:
            return False
    return not hasattr(command, "commands")


SAMPLE = f"""
# x
Run `lab demo`, `LAB_HOME=/x lab run p1` or `make demo`; the `lab` command is `lab/main.py`.

```sh
$ make test && .venv/bin/lab pools create   # the lab may wait
lab nonsense --once
```

{TREE}

What is where:

```
lab/main.py   the lab command
app/home.py     starts the page
```

## After
`lab results`
"""


def test_the_readers_of_this_file_find_what_is_there() -> None:
    """The tests below rest on them, and a pattern that finds nothing finds nothing wrong."""
    assert tree_in(SAMPLE) == ["lab/main.py", "app/home.py"]
    calls = named("lab", SAMPLE)
    assert calls == {("demo", ""), ("run", "p1"), ("pools", "create"), ("nonsense", ""), ("results", "")}
    assert {c for c in calls if not lab_knows(c)} == {("nonsense", "")}
    assert not lab_knows(("pools", "destroy"))
    assert not lab_knows(("pools", ""))
    assert {m for m, _ in named("make", SAMPLE)} == {"demo", "test"}
    for wrong in (SAMPLE.replace(TREE, "## Elsewhere"), SAMPLE.replace("main.py   the", "main.py the")):
        with pytest.raises(AssertionError):
            tree_in(wrong)


def test_every_file_stands_in_the_tree_once() -> None:
    """The tree is the map of the project: a file that is not on it is not found, one that is gone sends people astray."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name for name in done.stdout.split("\0") if name}
    paths = tree_in((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [p for p in paths if paths.count(p) > 1] == []
    assert sorted(tracked - set(paths)) == [], "tracked, and not in README's tree"
    assert sorted(set(paths) - tracked) == [], "in README's tree, and not tracked"
    assert [p for p in paths if not (ROOT / p).is_file()] == []


def test_every_command_in_the_readme_exists() -> None:
    """The first thing a newcomer types comes from here."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    calls = named("lab", text)
    assert calls, "README.md names no lab command"
    assert sorted(c for c in calls if not lab_knows(c)) == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert sorted({m for m, _ in named("make", text)} - targets) == []
