"""Every example of docs/extending.md is written into a copy of the code, registered as the document says, and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from checkout import ROOT

PACKAGES = ("common", "experiments", "workpools", "warehouse", "flows", "app", "lab")
DOCUMENT = ROOT / "docs" / "extending.md"
MODEL = "rule/shortest"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Block(NamedTuple):
    """One fenced example: a whole file, or lines for one that exists."""

    file: str
    place: str  # "in NAME", "at the top" or ""
    text: str


def blocks() -> list[Block]:
    """Return the examples in their order."""
    found = re.findall(
        r"(?ms)^```(?:python|text)\n# ([\w/.]+)(?:, (in \w+|at the top))?\n(.*?)^```$", DOCUMENT.read_text("utf-8")
    )
    return [Block(*match) for match in found]


def registered(text: str, block: Block) -> str:
    """Return the file's text with the block's lines as the last entries of the table that it names."""
    if block.place == "at the top":
        line = "from __future__ import annotations\n"
        assert line in text
        return text.replace(line, f"{line}\n{block.text}", 1)
    table = re.search(rf"(?ms)^{block.place.removeprefix('in ')}\b[^=\n]*= [{{(].*?(?=[}})]$)", text)
    assert table, f"{block.file} has no table {block.place}"
    return f"{text[: table.end()].rstrip().removesuffix(',')},\n{block.text}{text[table.end() :]}"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with all examples in it."""
    root = tmp_path_factory.mktemp("code")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for block in blocks():
        path = root / block.file
        assert path.exists() is bool(block.place), block.file
        path.write_text(registered(path.read_text("utf-8"), block) if block.place else block.text, "utf-8")
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LAB_HOME that the examples share, and the two folders of the example transport."""
    home = tmp_path_factory.mktemp("home")
    for folder in ("first/inbox", "second"):
        (home / folder).mkdir(parents=True)
    return home


def python(code: Path, home: Path, *arguments: str) -> str:
    """Return what Python prints with the copy's code; results go through the example transport."""
    url = f"mirror://{home}/first?copy={home}/second"
    environment = {**os.environ, "PYTHONPATH": str(code), "LAB_HOME": str(home), "LAB_RESULTS_URL": url}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode in (0, 3), done.stdout[-2000:] + done.stderr[-4000:]  # 3: a gate said FAIL
    return done.stdout


@pytest.fixture(scope="module")
def parity(code: Path, home: Path) -> dict[str, Any]:
    """The verdict of P1 on the example domain."""
    found: dict[str, Any] = json.loads(
        python(code, home, "-m", "lab", "run", "p1", "--scale", "smoke", "--domain", "parity", "--json")
    )["verdict"]
    return found


@pytest.fixture(scope="module")
def short(code: Path, home: Path) -> dict[str, Any]:
    """The verdict of the example phase on the example domain and the example engine."""
    settings = ["--set", "domain=parity", "--set", f"model={MODEL}"]
    found: dict[str, Any] = json.loads(
        python(code, home, "-m", "lab", "run", "x1", "--scale", "smoke", *settings, "--json")
    )["verdict"]
    return found


def test_each_kind_of_extension_has_an_example() -> None:
    """A reader looks for one of the five; a block with a wrong heading would be skipped by the tests below."""
    text = DOCUMENT.read_text("utf-8")
    assert [block.file for block in blocks() if not block.place] == [
        "experiments/domains/parity.py",
        "experiments/backends/rule_backend.py",
        "experiments/x1_short_answers.py",
        "app/views/x1.py",
        "warehouse/delivery/transports/mirrored.py",
        "app/views/undefined.py",
    ]
    assert text.count("\n```python\n") + text.count("\n```text\n") == len(blocks())


def test_p1_runs_on_the_example_domain(parity: dict[str, Any]) -> None:
    """Its problems pass the leakage check, are embedded and judged: all that a domain is asked for before a model answers."""
    assert parity["phase"] == "p1" and parity["status"] in ("PASS", "FAIL")


def test_the_example_phase_runs_on_the_example_engine(short: dict[str, Any]) -> None:
    """The rule always gives the shortest answer, odd, so the share is 1 and the gate says FAIL with a next step."""
    assert short["phase"] == "x1" and short["status"] == "FAIL"
    assert "100% of the answers are the shortest option" in str(short["reason"])
    assert "n_test=24" in json.dumps(short["next_steps"])


def test_the_example_transport_delivers_to_both_folders(short: dict[str, Any], home: Path) -> None:
    """Every bundle of the runs above went through it, whole."""
    first, second = ({p.name: p.read_bytes() for p in home.glob(f"{f}/*.parquet")} for f in ("first/inbox", "second"))
    assert second and first.items() <= second.items()


PAGES = """
import sys
from streamlit.testing.v1 import AppTest
for name in ("undefined", "x1"):
    page = AppTest.from_file(f"app/views/{name}.py", default_timeout=120).run()
    assert not page.exception, page.exception
    print(name, *(str(h.proto.body) for h in page.get("html")))
page = AppTest.from_file("app/home.py", default_timeout=120).run()
assert not page.exception, page.exception
"""


def test_the_example_pages_show_the_runs(short: dict[str, Any], code: Path, home: Path) -> None:
    """The page of the phase and the page with its own question are in the explorer and draw without an exception."""
    shown = python(code, home, "-c", PAGES)
    assert "numbers of this run have no value" in shown and "Does the model prefer the shortest answer?" in shown
