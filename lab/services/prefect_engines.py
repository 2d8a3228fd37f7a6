"""Start engines of flow runs by a fork: `python -m lab.services.prefect_engines`, a child of lab.services.worker.

An engine's own process imports Prefect with the flow (2 s of processor time), and for most phases torch and transformers (6 s
more). Here one process imports both once, and each engine is a copy of it. What engines need beyond Prefect depends on the model,
so nothing is guessed: what one engine has imported is imported here before the next one is started.

Standard input is a socket. It takes a line of JSON for each engine (`Request`) and gives two (`Started`, `Ended`); when it is
closed this process ends, and engines that still run go on.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NoReturn

if sys.platform == "win32":
    raise ImportError("engines are forked on Linux alone")

NAME = b"prefect.engine"  # of an engine's process, as ps and top show it: at most 15 bytes
_PR_SET_NAME = 15  # linux/prctl.h
ENGINE = "prefect.engine"
FLOWS = (ENGINE, "prefect.flow_engine", "flows.shard")
# DuckDB starts threads as it is imported, and an engine that is a copy without them would never end (seen): flows that use the
# warehouse import it themselves.
NEVER = "duckdb"
# Packages that take long to import, and the project's own modules, which import them. Others come with these.
IMPORTED = ("experiments", "torch", "transformers", "peft", "sentence_transformers", "scipy", "sklearn")
# With a graphics card nothing but Prefect is imported early: some packages ask for cards as they are imported, and CUDA does not
# work in a copy of a process that has used it.
CARDS = ("/dev/nvidiactl", "/dev/kfd")


@dataclass(frozen=True)
class Request:
    """An engine to start."""

    number: int
    environment: dict[str, str]
    folder: str
    quiet: bool  # its output is thrown away


@dataclass(frozen=True)
class Started:
    """The process of a request."""

    number: int
    pid: int


@dataclass(frozen=True)
class Ended:
    """The end of a process: its exit code, or minus the signal."""

    number: int
    code: int


@dataclass(frozen=True)
class Engine:
    """A running engine, and the file into which it writes what it has imported."""

    request: Request
    imported: IO[str]


def serve(link: socket.socket) -> None:
    """Start the engines that are asked for until the socket is closed."""
    for module in FLOWS:
        importlib.import_module(module)
    ended_read, ended_write = socket.socketpair()
    for end in (ended_read, ended_write):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written to the wake-up socket
    signal.set_wakeup_fd(ended_write.fileno())
    running: dict[int, Engine] = {}
    wanted: list[str] = []  # modules to import before the next engine
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        selector.register(ended_read, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if ended_read in ready:
                with suppress(BlockingIOError):
                    ended_read.recv(4096)
                wanted += _report_ended(link, running)
            if link not in ready:
                continue
            more = link.recv(1 << 16)
            if not more:
                return
            *lines, received = (received + more).split(b"\n")
            for line in lines:
                _import(wanted)
                wanted.clear()
                engine = Engine(Request(**json.loads(line)), os.fdopen(os.memfd_create("imported"), "w+"))
                pid = _fork(engine, (link, ended_read, ended_write))
                running[pid] = engine
                _send(link, Started(engine.request.number, pid))


def _send(link: socket.socket, message: Started | Ended) -> None:
    with suppress(BrokenPipeError):  # the worker has died: the next read ends this process
        link.sendall(json.dumps(asdict(message)).encode() + b"\n")


def _report_ended(link: socket.socket, running: dict[int, Engine]) -> list[str]:
    """Report each engine that has ended; return the modules that they have imported."""
    imported: list[str] = []
    for pid, engine in list(running.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            continue
        del running[pid]
        with engine.imported as file:
            file.seek(0)
            imported += file.read().split()
        _send(link, Ended(engine.request.number, os.waitstatus_to_exitcode(status)))
    return imported


def _import(modules: Iterable[str]) -> None:
    """Import what an engine has imported, in its order; what cannot be imported is left to the engines."""
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)


def _fork(engine: Engine, ours: tuple[socket.socket, ...]) -> int:
    if threading.active_count() > 1 or NEVER in sys.modules:
        raise SystemExit("an import has started threads, so engines cannot be started by a fork")
    gc.collect()
    gc.freeze()  # objects of the imports are not touched by an engine's collections, so their memory stays shared
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of OpenBLAS and jemalloc, which both know forks
        pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for end in ours:
            end.close()
        _run(engine)
    return pid


def _run(engine: Engine) -> NoReturn:
    """Become the engine of a request; its exit is that of a process of its own."""
    from prefect.context import refresh_global_settings_context

    request = engine.request
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2) if request.quiet else (0,):
        os.dup2(null, stream)
    os.close(null)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME, 0, 0, 0)
    random.seed()  # names and waiting times; numbers of trials come from generators of their own
    sys.argv = [ENGINE]
    refresh_global_settings_context()
    before = set(sys.modules)
    sys.modules.pop(ENGINE, None)  # imported for what it imports; runpy warns of a module that is there already
    try:
        runpy.run_module(ENGINE, run_name="__main__")
    finally:
        if not any(Path(card).exists() for card in CARDS):
            new = [m for m in sys.modules if m not in before and m.partition(".")[0] in IMPORTED]
            engine.imported.write(" ".join(new))
        engine.imported.close()
    sys.exit(0)


def main() -> None:
    """Serve the socket that standard input is."""
    with socket.socket(fileno=os.dup(0)) as link:
        serve(link)


if __name__ == "__main__":
    main()
