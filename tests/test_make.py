"""make on a bare machine: a program that is missing is named in one line, with what installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import require

ROOT = Path(__file__).resolve().parent.parent


def run_make(folder: Path, target: str, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run make in a copy of the Makefile, with a PATH that holds only these programs (name to script)."""
    require("make")
    path = folder / "bin"
    path.mkdir()
    for name in ("sh", "make", "test", "touch", "echo", "mkdir"):
        (path / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    for name, script in programs.items():
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    command = [str(path / "make"), "--no-print-directory", target]
    return subprocess.run(
        command, cwd=folder, env={"PATH": str(path)}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("target", ["demo", "test", "check"])
@pytest.mark.parametrize(
    ("programs", "line"),
    [
        ({}, "python3 is not installed: install Python 3.11 or later, or make {} PYTHON=/path/to/python"),
        (
            {"python3": 'case "$2" in *version_info*) exit 1;; esac'},
            "python3 is older than Python 3.11: install a newer one, or make {} PYTHON=/path/to/python",
        ),
        (
            {"python3": f'case "$2" in *ensurepip*) echo trace >&2; exit 1;; esac; exec {sys.executable} "$@"'},
            "python3 has no venv module: apt-get install python3-venv",
        ),
    ],
    ids=["no python", "old python", "no venv"],
)
def test_setting_up_names_what_is_missing(tmp_path: Path, target: str, programs: dict[str, str], line: str) -> None:
    """A traceback of venv, or pip's refusal minutes later, would not tell a newcomer what to install."""
    done = run_make(tmp_path, target, programs)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [line.format(target)]
    assert [text for text in done.stderr.splitlines() if "make: ***" not in text] == []
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("programs", [{}, {"apt-get": "echo no permission >&2; exit 100"}], ids=["no apt", "no root"])
def test_missing_programs_of_tests_are_listed_and_stop_nothing(tmp_path: Path, programs: dict[str, str]) -> None:
    """make test goes on without chromium, ssh, rsync and git; their tests are skipped, so the user has to know why."""
    done = run_make(tmp_path, "programs", programs | {"git": "exit 0"})
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    installed = {p for p in ("chromium", "openssh-server", "openssh-client", "rsync", "git") if p in line.split()}
    assert line.startswith("not installed, so their tests are skipped: apt-get install")
    assert {"chromium", "rsync", "openssh-client"} <= installed and "git" not in installed
