"""The command itself: quick to answer, each part of it documented with an example that works, JSON that parses."""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from lab_process import Run, bare_environment
from typer.testing import CliRunner

from experiments import p1_embedding_validity
from flows.chain import findings_for, open_phase
from flows.plan import plan
from lab.commands.options import by_phase, parse_settings
from lab.main import COMMANDS as NAMES
from lab.main import FIRST, app, summary
from warehouse.database.connection import writing
from warehouse.paths import Paths
from workpools.assess import parse_report

HEAVY = {"torch", "prefect", "duckdb", "streamlit", "numpy", "pandas", "transformers", "mlx", "httpx", "pydantic"}


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, command) of every command that does something."""
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from walk(inner, (*path, name))
        else:
            yield (*path, name), inner


COMMANDS = dict(walk(typer.main.get_command(app)))


@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["bare", "help"])
def test_help_is_shown_at_once(arguments: list[str], home: Path) -> None:
    """Help within 0.3 s: looking up an option must not load torch or Prefect."""
    script = f"import sys; sys.argv[1:] = {arguments!r}\nfrom lab.main import main\ntry: main()\nfinally: print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=bare_environment(home)
    )
    assert HEAVY.isdisjoint(loaded.stdout.splitlines()[-1].split())
    # Processor time: what the clock says depends on who else is at work.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "lab", *arguments], capture_output=True, check=True, env=bare_environment(home)
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.3
    assert not home.exists()


def test_lab_names_the_commands_that_matter_and_its_help_names_all() -> None:
    """A newcomer starts at `lab`; a command that `lab --help` left out would not be found, nor one without a summary."""
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0
    lines = [line.strip() for line in shown.stdout.splitlines() if line.startswith("  lab ")]
    assert [(*line.split("  ")[0].split()[1:],) for line in lines] == [tuple(name.split()) for name in FIRST]
    assert len(FIRST) == 10
    assert "lab --help lists all commands" in shown.stdout
    flat = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).stdout.split())
    assert {" ".join(path) for path in COMMANDS} == set(NAMES)
    for path, command in COMMANDS.items():
        name = " ".join(path)
        assert summary(name) == " ".join(command.help.partition("\n\n")[0].split())
        assert f"{name} {summary(name)}" in flat


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_and_option_is_explained_with_an_example_that_works(path: tuple[str, ...]) -> None:
    """--help says what each option is for and gives a line to copy, whole on one line, that the command accepts."""
    command = COMMANDS[path]
    text = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}).stdout
    flat = " ".join(text.split())
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} has no help"
        assert " ".join(parameter.help.split()) in flat
        for word in (*parameter.opts, *parameter.secondary_opts):
            assert word in flat
    (example,) = [line.strip() for line in text.splitlines() if line.strip().startswith("Example: ")]
    words = shlex.split(example.removeprefix("Example: "))
    assert tuple(words[: len(path) + 1]) == ("lab", *path)
    given = command.make_context("lab", words[len(path) + 1 :]).params
    if given.get("settings"):
        values = by_phase(parse_settings(given["settings"]), given.get("phase"))
        assert plan(given["scale"], values).run.given == values


def test_json_for_scripts_parses(lab: Run, home: Path) -> None:
    """Scripts read what --json prints; any other line in it would break them."""
    assert json.loads(lab("status", "--json").stdout) == []
    done = lab("assess", "--quick", "--json", LAB_HOST="pi-4")
    assert (done.returncode, done.stderr) == (0, "")
    report = parse_report(done.stdout.encode())
    assert report.host == "pi-4"
    for kept in (home / "capability_report_pi-4.json", home / "results" / "hosts" / "capability_report_pi-4.json"):
        assert parse_report(kept.read_bytes()) == report
    again = lab("assess", "--quick", "--out", str(home / "elsewhere"), LAB_HOST="pi-4")
    assert again.stdout.startswith(f"pi-4: {report.tier}\n")
    assert str(home / "elsewhere" / "capability_report_pi-4.json") in again.stdout
    assert lab("collect").stdout == "added 0, known already 0, quarantined 0\n"


@pytest.mark.slow
def test_a_phase_run_here_prints_its_verdict_and_is_not_run_twice(
    lab: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One real phase: the refusal's own command makes the forerunner, --json parses, the exit code is the gate's."""
    monkeypatch.setenv("LAB_HOME", str(home))
    values = ["--set", "p2.n_test=8", "--set", "n_memory=18", "--set", 'embedders=["all-MiniLM-L6-v2"]']
    command = ["run", "p1", "--scale", "smoke", *values]
    first = lab(*command, "--json")
    said = json.loads(first.stdout)
    assert said["verdict"]["phase"] == "p1"
    assert first.returncode == {"PASS": 0, "INCONCLUSIVE": 0, "FAIL": 3}[said["verdict"]["status"]]
    assert {m["metric"] for m in said["metrics"]} >= {"similarity_ratio", "knn_accuracy"}
    assert "units done" in first.stderr
    again = lab(*command)
    assert again.returncode == first.returncode
    assert again.stderr == "p1  2 of 2 units reused\n"
    assert again.stdout.startswith(f"p1  {said['verdict']['status']}  knn_accuracy ")
    results = json.loads(lab("results", "--json").stdout)
    assert results["run_id"] == said["verdict"]["run_id"]
    assert [{**r, "decided_at": None} for r in results["phases"]] == [{**said["verdict"], "decided_at": None}]
    planned = plan("smoke", by_phase(parse_settings(values[1::2]), "p1")).run
    with writing(Paths(home)) as con:
        assert findings_for(con, planned, "p2").of(p1_embedding_validity.Findings).embedder == "all-MiniLM-L6-v2"
    assert f"\n{planned.run_id}\tp1\t" in lab("results").stdout
    with writing(Paths(home)) as con:
        # Another value of a later phase is another plan; P1's results serve it, and nothing has to be typed again.
        other = by_phase(parse_settings([*values[3::2], "p2.n_test=6"]), "p1")
        assert (
            findings_for(con, open_phase(con, plan("smoke", other), "p2"), "p2")
            .of(p1_embedding_validity.Findings)
            .embedder
            == "all-MiniLM-L6-v2"
        )
