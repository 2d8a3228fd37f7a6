"""`lab service install`: units that systemd and launchd take, without a secret, for whatever is set."""

from __future__ import annotations

import configparser
import os
import plistlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from lab_process import Run
from programs import require

from lab.commands import service as commands_service
from warehouse.paths import Paths

AWKWARD = '/data/100% of $HOME "it" \\ here'


def parts(shown: str) -> tuple[configparser.ConfigParser, dict[str, object], list[str]]:
    """(unit, agent, Environment lines) of what --dry-run prints."""
    unit_text, _, agent_text = shown.partition("# " + str(commands_service.agent_path()))
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(unit_text)
    return (
        unit,
        plistlib.loads(agent_text.strip().encode()),
        [x for x in unit_text.splitlines() if x.startswith("Environment=")],
    )


def as_systemd(line: str, dollars: bool = False) -> list[str]:
    """The words of a line as systemd reads them: quotes and backslashes as a shell's, %% for %, in commands $$ for $."""
    words = [w.replace("%%", "%") for w in shlex.split(line)]
    return [w.replace("$$", "$") for w in words] if dollars else words


def test_the_coordinators_unit_starts_and_stops_the_lab(called: Run, home: Path) -> None:
    """It is copied to machines that nobody watches; the commands have to be those that a person would type."""
    done = called("service", "install", "--lan", "--dry-run", LAB_RESULTS_URL=AWKWARD)
    assert done.returncode == 0 and done.stderr == ""
    unit, agent, environment = parts(done.stdout)
    service = unit["Service"]
    assert as_systemd(service["ExecStart"], True) == [sys.executable, "-P", "-m", "lab", "up", "--lan"]
    assert as_systemd(service["ExecStop"], True) == [sys.executable, "-P", "-m", "lab", "down"]
    assert (service["Type"], service["RemainAfterExit"], service["UMask"]) == ("oneshot", "yes", "0077")
    assert unit["Install"]["WantedBy"] == "default.target"
    variables = {w for line in environment for w in as_systemd(line.removeprefix("Environment="))}
    assert {f"LAB_HOME={home}", f"LAB_RESULTS_URL={AWKWARD}"} <= variables
    assert agent["ProgramArguments"] == [sys.executable, "-P", "-m", "lab", "up", "--lan"]
    assert agent["RunAtLoad"] is True and agent["AbandonProcessGroup"] is True
    assert agent["EnvironmentVariables"]["LAB_RESULTS_URL"] == AWKWARD  # type: ignore[index]


def test_a_machine_that_joins_has_the_address_and_no_secret_in_its_unit(called: Run) -> None:
    """Units can be read by everybody; keys stay where lab join kept them."""
    done = called(
        "service",
        "install",
        "--join",
        "http://192.168.1.10:4200/",
        "--dry-run",
        LAB_HOST="pi-4",
        LAB_RAM_GB="2",
        PREFECT_API_AUTH_STRING="me:hunter2",
        LAB_DATABASE_URL="postgresql+asyncpg://a:hunter2@b/c",
    )
    unit, agent, _ = parts(done.stdout)
    assert as_systemd(unit["Service"]["ExecStart"])[3:] == ["lab", "join", "http://192.168.1.10:4200"]
    assert "hunter2" not in done.stdout
    own = agent["EnvironmentVariables"]
    assert (own["LAB_HOST"], own["LAB_RAM_GB"]) == ("pi-4", "2")  # type: ignore[index]
    for arguments, said in (
        (["--join", "desk"], "not an http address"),
        (["--join", "http://a", "--lan"], "leave one out"),
    ):
        refused = called("service", "install", "--dry-run", *arguments)
        assert refused.returncode == 2 and said in refused.stderr and refused.stdout == ""
    assert called("service", "install", "--dry-run", LAB_HOST="a\nb").returncode == 2


def test_what_is_installed_is_what_was_shown(
    called: Run, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the command that enables it is shown, since nothing is enabled behind the user's back."""
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path / "me")}
    for system, path, said in (
        (
            "Linux",
            tmp_path / "config" / "systemd" / "user" / "llm-memory-experiments.service",
            "systemctl --user enable",
        ),
        (
            "Darwin",
            tmp_path / "me" / "Library" / "LaunchAgents" / f"{commands_service.LABEL}.plist",
            "launchctl bootstrap",
        ),
    ):
        monkeypatch.setattr(commands_service.platform, "system", lambda name=system: name)
        shown = called("service", "install", "--dry-run", **config).stdout
        assert not path.exists()
        done = called("service", "install", **config)
        assert done.returncode == 0 and said in done.stdout and str(path) in done.stdout
        assert path.read_text() in shown


def said_of(unit: str, folder: Path) -> tuple[int, str]:
    """(exit status, what systemd finds wrong) of a user's unit."""
    path = folder / "tried.service"
    path.write_text(unit)
    (folder / "run").mkdir(exist_ok=True)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"XDG_RUNTIME_DIR": str(folder / "run")},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [[], ["--lan"], ["--join", "http://192.168.1.10:4200"]], ids=" ".join)
def test_systemd_finds_nothing_wrong_with_a_unit(called: Run, tmp_path: Path, arguments: list[str]) -> None:
    """What it does not know it ignores, and says so only in a journal that nobody reads."""
    require("systemd-analyze")
    shown = called("service", "install", "--dry-run", *arguments, LAB_RESULTS_URL=AWKWARD).stdout
    unit = shown.partition("# " + str(commands_service.agent_path()))[0]
    assert said_of(unit, tmp_path) == (0, "")
    # And it would say so.
    for right, wrong in ((sys.executable, "/nowhere/python"), ("Type=oneshot", "Type=one"), ("UMask=", "Mask=")):
        assert right in unit
        assert said_of(unit.replace(right, wrong), tmp_path) != (0, ""), wrong


def test_launchd_knows_each_key_of_the_agent(called: Run) -> None:
    """It refuses a key of the wrong type; as a background process the machine would compute on its slow cores alone."""
    _, agent, _ = parts(called("service", "install", "--join", "http://192.168.1.10:4200", "--dry-run").stdout)
    # launchd.plist(5)
    types = {
        "Label": str,
        "ProgramArguments": list,
        "EnvironmentVariables": dict,
        "RunAtLoad": bool,
        "Umask": int,
        "AbandonProcessGroup": bool,
        "StandardErrorPath": str,
    }
    assert {key: type(value) for key, value in agent.items()} == types
    assert agent["Umask"] == 0o077
    assert {type(v) for v in agent["EnvironmentVariables"].values()} == {str}  # type: ignore[attr-defined]
