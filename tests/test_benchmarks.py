"""The benchmarks are run by hand: here, that each says how and what came out, and that one of them really measures."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import embedding_repeats, ingest, snapshot_readers
from benchmarks.common import KEYS, Clock, ForgetfulEmbedder, show

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = sorted(
    p.stem
    for p in FOLDER.glob("*.py")
    if p.stem not in ("__init__", "common", "injected_errors", "postgresql", "simulated_tests")
)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_scripts_are_found() -> None:
    """The tests below would pass on an empty folder."""
    assert {"e0_sweep", "embedding_repeats"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_asks_how_to_run_it_and_what_came_out(name: str) -> None:
    """A ratio is believed when its question, its command and a measured example stand in one place."""
    text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
    assert text.partition("\n")[0].endswith("?")
    [command] = re.findall(rf"^    python -m benchmarks\.{name}( .*)?$", text, re.MULTILINE)
    example = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert set(KEYS) <= set(example)
    assert example["benchmark"] == name
    assert example["ratio"] > 0 and all(s > 0 for s in example["seconds"].values())
    options = {word for word in command.split() if word.startswith("--")}
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert options and all(re.search(rf'add_argument\(\s*"{option}"', source) for option in options)


def test_importing_the_scripts_runs_nothing() -> None:
    """A test or an editor that imports one must not load a model or print; in a process of its own, where none is loaded."""
    code = f"import sys\nfor n in {SCRIPTS}: __import__('benchmarks.' + n)\nassert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert all(callable(importlib.import_module(f"benchmarks.{name}").main) for name in SCRIPTS)


def test_a_benchmark_measures_and_prints_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark that broke would be noticed only when its number is asked for."""
    embedding_repeats.main(["--distinct", "3", "--times", "4", "--sets", "2"])
    printed = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(printed)
    assert printed["counts"] == {"rows": 24, "distinct": 6, "data_sets": 2, "dimensions": 384}
    seconds = printed["seconds"]
    assert printed["ratio"] == pytest.approx(seconds["every_row"] / seconds["each_distinct_text_once"], rel=0.1)
    assert printed["host"]["cores"] >= 1 and printed["host"]["torch_threads"] >= 1


def test_rows_repeat_each_text_equally_in_a_seeded_order() -> None:
    """Other rows on another day, or repeats that stand together, would be another measurement under the same name."""
    first, second = embedding_repeats.data_sets(6, 5, 2)
    assert sorted(first.count(text) for text in set(first)) == [5] * 6
    assert not set(first) & set(second)
    assert [first, second] == embedding_repeats.data_sets(6, 5, 2)
    assert first[:6] != first[6:12]


def test_unequal_vectors_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A ratio between two ways with other results says nothing, so none may be printed."""
    real = ForgetfulEmbedder.embed
    monkeypatch.setattr(ForgetfulEmbedder, "embed", lambda self, texts: (real(self, texts)[0] + 1e-12, []))
    with pytest.raises(ValueError, match="unequal work"):
        embedding_repeats.main(["--distinct", "2", "--times", "2", "--sets", "1"])
    assert capsys.readouterr().out == ""


def test_the_clock_adds_up_each_side() -> None:
    """Sides take turns: what a later turn took must not replace the earlier ones."""
    clock = Clock()
    with clock.side("ours"):
        sum(range(1000))
    first = clock.seconds["ours"]
    with clock.side("ours"), clock.side("plain"):
        sum(range(1000))
    assert clock.seconds["ours"] > first > 0
    assert set(clock.seconds) == {"ours", "plain"}


def test_a_benchmark_without_a_bound_says_null(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a bound is another thing than a bound of zero."""
    show("x", 2.0, None, {"ours": 1.0, "plain": 2.0}, {"rows": 1}, "two ways", note="more")
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [*KEYS, "note"]
    assert printed["needed"] is None


def test_the_collector_is_timed_for_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Its ratio says something only while both ways end with the same rows."""
    ingest.main(["--bundles", "3", "--trials", "20", "--turns", "1"])
    printed = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(printed) and printed["needed"] == ingest.NEEDED
    assert {k: printed["counts"][k] for k in ("bundles", "trials", "turns")} == {"bundles": 3, "trials": 60, "turns": 1}
    seconds = printed["seconds"]
    assert printed["ratio"] == pytest.approx(seconds["duckdb"] / seconds["collector"], rel=0.1, abs=0.02)


def test_unequal_tables_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A way that left something out would be the faster one."""
    monkeypatch.setattr(ingest, "DIRECT", f"{ingest.DIRECT} AND ordinal < 19")
    with pytest.raises(ValueError, match="unequal work"):
        ingest.main(["--bundles", "2", "--trials", "20", "--turns", "1"])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_reader_asks_while_a_snapshot_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    """That nobody is stopped is only seen where somebody reads all the time, in a process of its own."""
    snapshot_readers.main(["--trials", "20000", "--publications", "20"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["reader_errors"] == 0
    assert printed["counts"]["trials"] == 20_000 and printed["counts"]["questions"] > 0
    assert printed["longest_pause_s"] > 0
