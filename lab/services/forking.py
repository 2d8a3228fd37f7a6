"""Let a worker's engines start by a fork of lab.services.prefect_engines, on Linux; elsewhere Prefect starts them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import anyio
import psutil

from common.environment import python
from lab.services.prefect_engines import Ended, Request, Started

ENGINE = [sys.executable, "-m", "prefect.engine"]
COMMAND = [*python(), "lab.services.prefect_engines"]
# With no engine the process that holds their imports is ended, so that a machine at rest does not hold 150 to 500 MB for it.
# Rounds of a pipeline follow each other within 10 s.
IDLE_S = 60.0
GONE_S = 0.5  # between two looks at an engine whose end nobody reports
_NUMBERS = itertools.count(1)


class Engine:
    """A forked engine, as much of a process as Prefect's runner asks for."""

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid = pid
        self._process = psutil.Process(pid) if psutil.pid_exists(pid) else None
        self._ended = ended
        self.returncode: int | None = None  # the exit code, or minus the signal, once it was waited for

    async def wait(self) -> int:
        """Wait for its end and return how it ended; 1 if the process that would report it died before."""
        try:
            self.returncode = await asyncio.shield(self._ended)
        except ConnectionError:
            while self._process and self._process.is_running():
                await asyncio.sleep(GONE_S)
            self.returncode = 1
        return self.returncode

    def terminate(self) -> None:
        """Send it SIGTERM if it runs."""
        if self._process and self.returncode is None:
            with suppress(psutil.NoSuchProcess):
                self._process.send_signal(signal.SIGTERM)


class Forker:
    """A process that forks engines, and the futures of what it will report."""

    def __init__(self, process: subprocess.Popen[bytes], writer: asyncio.StreamWriter) -> None:
        self.process = process
        self.writer = writer
        self.started: dict[int, asyncio.Future[int]] = {}
        self.ended: dict[int, asyncio.Future[int]] = {}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def begin(cls, on_idle: Callable[[], None]) -> Forker:
        """Start the process; `on_idle` is called whenever it has no engine any more."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(COMMAND, stdin=theirs.fileno())  # noqa: S603 - our own
        reader, writer = await asyncio.open_connection(sock=ours)
        self = cls(process, writer)
        self._reading = asyncio.get_running_loop().create_task(self._read(reader, on_idle))
        return self

    @property
    def alive(self) -> bool:
        """Return True while it can be asked for engines."""
        return self._reading is not None and not self._reading.done() and not self.writer.is_closing()

    async def start(self, environment: Mapping[str, str], folder: str, *, quiet: bool) -> Engine:
        """Start an engine.

        Args:
            environment: of the engine, as a whole.
            folder: in which it is started.
            quiet: throw its output away; else it goes where the worker's goes.

        Raises:
            ConnectionError: this process has ended.
        """
        loop, number = asyncio.get_running_loop(), next(_NUMBERS)
        started, ended = loop.create_future(), loop.create_future()
        self.started[number], self.ended[number] = started, ended
        request = Request(number, dict(environment), folder, quiet)
        self.writer.write(json.dumps(asdict(request)).encode() + b"\n")
        return Engine(await started, ended)

    async def _read(self, reader: asyncio.StreamReader, on_idle: Callable[[], None]) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                message = json.loads(line)
                if "pid" in message:
                    started = Started(**message)
                    self.started.pop(started.number).set_result(started.pid)
                else:
                    ended = Ended(**message)
                    self.ended.pop(ended.number).set_result(ended.code)
                    if not self.ended:
                        on_idle()
        self.writer.close()
        for future in (*self.started.values(), *self.ended.values()):
            future.set_exception(ConnectionError("the process that starts engines has ended"))
            future.exception()  # so that asyncio does not report it where nobody waits
        await asyncio.to_thread(self.process.wait)


class Engines:
    """Engines of this process's workers; what forks them is started with the first, and ended after IDLE_S without one."""

    def __init__(self) -> None:
        self._forker: Forker | None = None
        self._beginning = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def start(self, environment: Mapping[str, str], folder: str, *, quiet: bool) -> Engine:
        """Start an engine as `Forker.start` does."""
        if self._idle:
            self._idle.cancel()
        async with self._beginning:
            if self._forker is None or not self._forker.alive:
                self._forker = await Forker.begin(self._rest)
        return await self._forker.start(environment, folder, quiet=quiet)

    def _rest(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)

    def close(self) -> None:
        """End what forks engines, unless an engine runs that it would report."""
        if self._forker and not self._forker.ended:
            self._forker.writer.close()
            self._forker = None


def install() -> None:
    """Have the engines of this process's workers forked; all else is started as before."""
    from prefect.runner import _starter_engine

    engines, spawn = Engines(), _starter_engine.run_process

    async def run_process(command: list[str], **given: Any) -> Any:
        if command != ENGINE:
            return await spawn(command, **given)
        try:
            engine = await engines.start(given["env"], os.fspath(given["cwd"]), quiet=not given["stream_output"])
        except ConnectionError:
            return await spawn(command, **given)
        try:
            given["task_status"].started(given["task_status_handler"](engine))
            await engine.wait()
        finally:
            engine.terminate()
            with anyio.CancelScope(shield=True):
                await engine.wait()
        return engine

    _starter_engine.run_process = run_process  # a module's name for this purpose, by the docstring of its only user
