"""A LAB_HOME, the `lab` command on it, and ports that are taken or free."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_process import Run, bare_environment

from lab.main import main
from warehouse.paths import Paths


@pytest.fixture(autouse=True)
def settings_of_others_stay_out() -> Iterator[None]:
    """Remove what a command sets in this process: a joined machine's commands use its coordinator's store from then on."""
    before = set(os.environ)
    yield
    for name in [v for v in os.environ if v.startswith(("PREFECT_", "LAB_")) and v not in before]:
        del os.environ[name]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A LAB_HOME that does not exist yet."""
    return tmp_path / "lab-home"


@pytest.fixture
def paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Return the paths below `home`, in an environment in which nothing else of Prefect or lab is set."""
    for name in [v for v in os.environ if v.startswith(("PREFECT_", "LAB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAB_HOME", str(home))
    return Paths(home)


@pytest.fixture
def lab(home: Path, tmp_path: Path) -> Run:
    """run(*arguments, **environment): `lab` in another folder than the checkout, ended after 100 s."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=tmp_path,
            env=bare_environment(home) | environment,
        )

    return run


@pytest.fixture
def called(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """As `lab`, but in this process, for what another process would add nothing to."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        for name in [v for v in os.environ if v.startswith(("PREFECT_", "LAB_"))]:
            monkeypatch.delenv(name)
        for name, value in ({"LAB_HOME": str(home)} | environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["lab", *arguments])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(list(arguments), int(str(ended.value.code or 0)), shown.out, shown.err)

    return run


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A loopback port on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A loopback port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
