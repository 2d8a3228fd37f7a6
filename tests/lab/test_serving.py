"""The server's process: it collects its garbage where nobody waits for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SERVED = """
import gc, sys, threading

ended = threading.Event()

class Cycle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        print(threading.current_thread().name)
        ended.set()

print(sys.argv[1:], __name__, gc.isenabled())
Cycle()
for _ in range(20_000):
    [[]]  # enough for automatic collections
assert ended.wait(60)
"""


def test_garbage_is_collected_by_a_thread_of_its_own(tmp_path: Path) -> None:
    """Collected by the event loop, a cursor of a connection that waits for SQLite's lock makes the whole server wait with it."""
    (tmp_path / "made_up_server.py").write_text(SERVED)
    command = [sys.executable, "-m", "lab.serving", "made_up_server", "server", "start", "--port", "1"]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        command, env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""}, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['server', 'start', '--port', '1'] __main__ False", "garbage"]
