"""README and docs/ against the project: the tree of folders, the commands that people are told to type, and the links."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from checkout import ROOT, tracked

from lab.main import app

README = ROOT / "README.md"
TREE = "## Folders"
PRODUCT = ("common", "experiments", "workpools", "warehouse", "flows", "app", "lab")
TESTS = "tests"  # one line for all of them, since they mirror the product's folders
# A command stands at the start of a line or after ; & | and may have a path, a prompt or variables before it.
COMMAND = r"(?:^|[;&|])\s*(?:\$\s+)?(?:\w+=\S+\s+)*(?:\S*/)?{}\s+([a-z][a-z-]*)(?:\s+([a-z][a-z0-9-]*))?"


def tree_in(text: str) -> list[str]:
    """Return the paths of the fenced block under the heading; AssertionError for a line that is not "path   description"."""
    block = re.search(rf"^{TREE}$(?:(?!^#).)*?^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block, f'README.md has no fenced block under "{TREE}"'
    paths = []
    for line in filter(str.strip, block[1].splitlines()):
        found = re.fullmatch(r"(\S+) {2,}(\S.*)", line)
        assert found, f'not "path   description": {line!r}'
        paths.append(found[1])
    return paths


def code_in(text: str) -> list[str]:
    """Return the fenced blocks, except the tree, and the code within lines."""
    without_tree = re.sub(rf"(?ms)^{TREE}$.*?^```\w*\n.*?^```$", "", text)
    fenced = re.findall(r"(?ms)^```\w*\n(.*?)^```$", without_tree)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```\w*\n.*?^```$", "", without_tree))


def named(program: str, text: str) -> set[tuple[str, str]]:
    """Return (first word, second word or "") after each call of `program` in the code of a Markdown text."""
    return {m for code in code_in(text) for m in re.findall(COMMAND.format(program), code, re.MULTILINE)}


def lab_knows(words: tuple[str, str]) -> bool:
    """Return True if `lab` has the command that these words begin with."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            return True
        command = command.commands.get(word)
        if command is None:
            return False
    return not hasattr(command, "commands")


def links_in(text: str) -> list[str]:
    """Return the targets of a Markdown text's links and pictures that are files, without what follows #."""
    prose = re.sub(r"(?ms)^```\w*\n.*?^```$", "", text)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]


SAMPLE = f"""
# x
Run `lab demo`, `LAB_HOME=/x lab run p1` or `make demo`; the `lab` command is `lab/main.py`. See [it](docs/a.md#b),
[out](https://example.org) and ![a picture](docs/p.png).

```sh
$ make test && .venv/bin/lab pools create   # the lab may wait
lab nonsense --once
```

{TREE}

What is where:

```
lab       the command line
app/pages   one file a page
```

## After
`lab results`
"""


def test_the_readers_of_this_file_find_what_is_there() -> None:
    """The tests below rest on them, and a pattern that finds nothing finds nothing wrong."""
    assert tree_in(SAMPLE) == ["lab", "app/pages"]
    calls = named("lab", SAMPLE)
    assert calls == {("demo", ""), ("run", "p1"), ("pools", "create"), ("nonsense", ""), ("results", "")}
    assert {c for c in calls if not lab_knows(c)} == {("nonsense", "")}
    assert not lab_knows(("pools", "destroy"))
    assert not lab_knows(("pools", ""))
    assert {m for m, _ in named("make", SAMPLE)} == {"demo", "test"}
    assert links_in(SAMPLE) == ["docs/a.md", "docs/p.png"]
    for wrong in (SAMPLE.replace(TREE, "## Elsewhere"), SAMPLE.replace("lab       the", "lab the")):
        with pytest.raises(AssertionError):
            tree_in(wrong)


def test_the_tree_has_each_folder_of_code_once() -> None:
    """The tree is the map of the project: a folder that is not on it is not found, one that is gone sends people astray."""
    paths = tree_in(README.read_text(encoding="utf-8"))
    code = {str(Path(name).parent) for name in tracked(".py") if "/" in name}
    missing = {folder for folder in code if not folder.startswith(f"{TESTS}/")} - set(paths)
    assert [p for p in paths if paths.count(p) > 1] == []
    assert sorted(missing) == [], "holds code, and is not in README's tree"
    assert [p for p in paths if not (ROOT / p).is_dir()] == []


def test_every_file_of_the_product_says_what_it_is() -> None:
    """The tree has a line a folder; what a file is for stands at its top."""
    files = [name for name in tracked(".py") if name.split("/")[0] in PRODUCT]
    assert files
    silent = [name for name in files if not ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8")))]
    assert silent == []


def test_the_readme_is_short() -> None:
    """A page that is read to its end: details belong into docs/."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def documents() -> dict[str, str]:
    """Return the texts of README, docs/ and the other documents at the top, by path."""
    names = [name for name in tracked(".md") if "/" not in name or name.startswith("docs/")]
    assert {"README.md", "docs/design.md"} <= set(names)
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def test_every_link_leads_to_a_file() -> None:
    """A link that leads nowhere costs the reader's trust in the others."""
    lost = []
    for name, text in documents().items():
        for target in links_in(text):
            path = (ROOT / name).parent / target
            if not path.exists():
                lost.append(f"{name}: {target}")
    assert lost == []


def test_every_document_that_is_cited_is_here() -> None:
    """A reason that stands in a document which nobody has is no reason. LOG.md may name what is gone."""
    elsewhere = {"docs/api.md", "docs/a.md"}  # Ollama's own, and the one of SAMPLE
    cited = re.compile(r"(?<![\w/])docs/[\w/-]+\.md")
    lost = []
    for name in sorted({*tracked(".py"), *tracked(".md"), *tracked(".toml"), *tracked(".yaml")} - {"LOG.md"}):
        found = set(cited.findall((ROOT / name).read_text(encoding="utf-8"))) - elsewhere
        lost += [f"{name}: {path}" for path in sorted(found) if not (ROOT / path).is_file()]
    assert lost == []


def test_every_file_of_code_that_a_document_names_is_here() -> None:
    """Moves leave old paths behind in prose, where no tool finds them."""
    path = re.compile(r"(?<![\w/.-])(?:[a-z_]+/)+[a-z_0-9]+\.(?:py|json)\b")
    lost = []
    for name, text in documents().items():
        if name not in ("LOG.md", "CHANGELOG.md"):
            examples = re.findall(r"(?m)^```python\n# (\S+)$", text)  # files that the reader is to write
            found = set(path.findall(text)) - set(examples)
            lost += [f"{name}: {file}" for file in sorted(found) if not (ROOT / file).is_file()]
    assert lost == []


def test_every_command_in_the_documents_exists() -> None:
    """Newcomers copy commands from here. LOG.md and CHANGELOG.md tell of the past, and may name what is gone."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = []
    for name, text in documents().items():
        if name in ("LOG.md", "CHANGELOG.md"):
            continue
        unknown += [f"{name}: lab {' '.join(c)}" for c in named("lab", text) if not lab_knows(c)]
        unknown += [f"{name}: make {m}" for m, _ in named("make", text) if m not in targets]
    assert named("lab", README.read_text(encoding="utf-8")), "README.md names no lab command"
    assert unknown == []
