"""Weights whose conversion was interrupted: removed on the way out, swept at the next start and by lab clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.backends import conversions

CONVERTING = """
import os, pathlib, sys, time
from lab import main as lab
def convert(*_, **__):
    folder = pathlib.Path(os.environ["LAB_HOME"], "models", f"x.making-{os.getpid()}")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    print("converting", flush=True)
    time.sleep(60)
lab.app = convert
lab.main()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    return tmp_path


def converting(home: Path) -> subprocess.Popen[str]:
    """A lab command that is converting weights."""
    command = [sys.executable, "-c", CONVERTING]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"LAB_HOME": str(home)},
        # A shell starts what runs in its background deaf to Ctrl-C, and so do all that this starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout and process.stdout.readline() == "converting\n"
    return process


def test_ctrl_c_leaves_nothing(home: Path) -> None:
    """Half a gigabyte stayed each time."""
    process = converting(home)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert list((home / "models").iterdir()) == []


def test_what_a_killed_process_leaves_goes_at_the_next_start(home: Path) -> None:
    """One that still converts is left alone, and so is what is converted."""
    alive, dead = converting(home), converting(home)
    (home / "models" / "x-done").mkdir()
    dead.kill()
    dead.communicate(timeout=60)
    try:
        assert [p.name for p in conversions.unfinished()] == [f"x.making-{dead.pid}"]
        conversions.remove_unfinished()
        assert {p.name for p in (home / "models").iterdir()} == {"x-done", f"x.making-{alive.pid}"}
    finally:
        alive.kill()
        alive.communicate(timeout=60)


def test_another_process_with_the_same_number_does_not_keep_it(home: Path) -> None:
    """In a container every start has the same few numbers."""
    folder = home / "models" / f"x.making-{os.getpid()}"
    folder.mkdir(parents=True)
    assert conversions.unfinished() == []
    os.utime(folder, (time.time() - 10 * 24 * 3600,) * 2)
    assert conversions.unfinished() == [folder]


def test_a_shard_leaves_nothing_however_it_ends(home: Path) -> None:
    """An error in the middle of a conversion, such as a full disk, leaves as much as an interruption."""
    folder = home / "models" / f"x.making-{os.getpid()}"

    def convert() -> None:
        with conversions.none_left():
            folder.mkdir(parents=True)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        convert()
    assert not folder.exists()
