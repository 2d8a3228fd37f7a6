"""Engines that are forked from a process with their imports done, with a fake engine in place of Prefect's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lab.services import forking
from lab.services.forking import Engine, Engines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="engines are forked on Linux alone")

# It writes down what it sees, and does as its environment says.
FAKE_ENGINE = """
import json, os, sys, time
early = "large_package" in sys.modules
import large_package, random, prefect.settings
seen = {"early": early, "folder": os.getcwd(), "argv": sys.argv, "name": open("/proc/self/comm").read().strip(),
        "settings": prefect.settings.get_current_settings().client.max_retries, "names": random.random(),
        "environment": sorted(os.environ), "links": [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                                                     if os.path.exists(f"/proc/self/fd/{n}")]}
open(os.environ["WRITE"], "w").write(json.dumps(seen))
print("engine's output", flush=True)
time.sleep(float(os.environ["SECONDS"]))
sys.exit(int(os.environ["CODE"]))
"""
SERVE = """
from lab.services import prefect_engines as engines
engines.ENGINE, engines.FLOWS, engines.IMPORTED = "fake_engine", ("prefect.context",), ("large_package",)
engines.main()
"""


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engines:
    """Engines that are the fake one."""
    (tmp_path / "fake_engine.py").write_text(FAKE_ENGINE)
    (tmp_path / "large_package.py").write_text("")
    (tmp_path / "serve_fake_engines.py").write_text(SERVE)
    monkeypatch.setattr(forking, "COMMAND", [sys.executable, "-m", "serve_fake_engines"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return Engines()


def forkers() -> list[psutil.Process]:
    """Return the processes that fork engines; other tests may have left children of other kinds."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            found += [process] if "serve_fake_engines" in process.cmdline() else []
    return found


def within(engines: Engines, test: Callable[[], Awaitable[None]]) -> None:
    """Run a test and leave no process."""

    async def whole() -> None:
        await test()
        engines.close()
        while forkers():
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(whole(), 120))


async def started(engines: Engines, file: Path, seconds: float = 0, code: int = 0, **more: str) -> Engine:
    """Start a fake engine, and wait for what it writes where it stays."""
    environment = {"WRITE": str(file), "SECONDS": str(seconds), "CODE": str(code), "HOME": str(file.parent)} | more
    engine = await engines.start(environment, str(file.parent), quiet=False)
    while seconds and not (file.exists() and file.read_text()):
        await asyncio.sleep(0.02)
    return engine


def test_an_engine_is_as_one_of_a_process_of_its_own(
    engines: Engines, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run's settings, folder, output and exit code must not be those of the process that it was copied from."""

    async def test() -> None:
        first = await started(engines, tmp_path / "first", code=7, PREFECT_CLIENT_MAX_RETRIES="3")
        assert await first.wait() == first.returncode == 7
        second = await started(engines, tmp_path / "second", PREFECT_CLIENT_MAX_RETRIES="4")
        assert await second.wait() == 0
        one, two = (json.loads((tmp_path / name).read_text()) for name in ("first", "second"))
        assert (one["settings"], two["settings"]) == (3, 4)
        assert one["argv"] == ["fake_engine"] and one["name"] == "prefect.engine" and one["folder"] == str(tmp_path)
        assert one["environment"] == ["CODE", "HOME", "PREFECT_CLIENT_MAX_RETRIES", "SECONDS", "WRITE"]
        assert one["names"] != two["names"]
        assert not [link for link in two["links"] if link.startswith("socket:")]
        assert (one["early"], two["early"]) == (False, True)  # imported by the first, so there before the second

    within(engines, test)
    assert capfd.readouterr().out == "engine's output\n" * 2


def test_an_engine_that_is_killed_or_ended_is_reported(engines: Engines, tmp_path: Path) -> None:
    """Prefect marks a run as crashed by its exit code, and cancels one by SIGTERM."""

    async def test() -> None:
        killed = await started(engines, tmp_path / "a", seconds=60)
        ended = await started(engines, tmp_path / "b", seconds=60)
        assert killed.returncode is None
        os.kill(killed.pid, signal.SIGKILL)
        assert await killed.wait() == -signal.SIGKILL
        ended.terminate()
        assert await ended.wait() == -signal.SIGTERM

    within(engines, test)


def test_engines_outlive_what_forks_them(engines: Engines, tmp_path: Path) -> None:
    """A run in the middle of its work is not lost with a process that only holds imports; the next run gets another."""

    async def test() -> None:
        engine = await started(engines, tmp_path / "a", seconds=2)
        (forker,) = forkers()
        forker.kill()
        await asyncio.to_thread(forker.wait)
        assert psutil.pid_exists(engine.pid)
        assert await engine.wait() == engine.returncode == 1  # nobody knows
        assert not psutil.pid_exists(engine.pid)
        assert await (await started(engines, tmp_path / "b")).wait() == 0

    within(engines, test)


def test_a_machine_at_rest_holds_no_imports(engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch and Prefect take up to 500 MB, which a Raspberry Pi's owner wants back when nothing is computed."""
    monkeypatch.setattr(forking, "IDLE_S", 0.2)

    async def test() -> None:
        one = await started(engines, tmp_path / "a", seconds=0.1)
        two = await started(engines, tmp_path / "b", seconds=1)
        await one.wait()
        await asyncio.sleep(0.4)
        assert forkers()  # one engine still runs
        await two.wait()
        while forkers():
            await asyncio.sleep(0.05)
        assert await (await started(engines, tmp_path / "c")).wait() == 0

    within(engines, test)


def test_where_nothing_can_be_forked_it_says_so(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker then starts the engine as Prefect does, instead of losing the run."""
    monkeypatch.setattr(forking, "COMMAND", [sys.executable, "-c", "raise SystemExit(1)"])

    async def test() -> None:
        with pytest.raises(ConnectionError):
            await engines.start({}, str(tmp_path), quiet=True)

    within(engines, test)
