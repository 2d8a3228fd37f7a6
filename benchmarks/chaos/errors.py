"""Inject errors into calls of single steps, one after the other in one home, and look at what is left."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from numpy.random import Generator

from benchmarks.chaos.found import Found, left_behind, look
from benchmarks.chaos.homes import look_at_newest
from benchmarks.chaos.steps import CRASHED, DIED, DONE, STEPS, Ended, Step
from benchmarks.chaos.work import WRITERS, labels_of, plan
from benchmarks.injected_errors import ERRORS, build, environment
from warehouse.paths import Paths

WRITER = WRITERS[0]
ERRORS_A_HOME = 50
KINDS = [kind for kind in ERRORS if kind != "connect"]  # a folder is delivered to without a connection
FIRST_CALLS = 20  # among which the first error of a kind falls; then among as many as there were


class Stepper:
    """The process that takes the steps."""

    def __init__(self, library: Path) -> None:
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.chaos.steps"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment(library),
            cwd=root,
        )

    def take(self, step: Step) -> Ended:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("started without pipes")
        self._process.stdin.write(f"{json.dumps(asdict(step))}\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        self._process.communicate(timeout=30)


@contextmanager
def stepper(folder: Path) -> Iterator[Stepper]:
    folder.mkdir(parents=True, exist_ok=True)
    found = Stepper(build(folder))
    try:
        yield found
    finally:
        found.end()


def run(folder: Path, errors: int, rng: Generator, until: float) -> tuple[Counter[str], Found]:
    """Inject so many errors, over as many homes as that needs.

    Args:
        until: time.monotonic() after which no more are injected.

    Returns:
        Errors by step and kind of call, and what was found.
    """
    hit, found = Counter[str](), Found()
    calls: dict[tuple[str, str], int] = {}
    with stepper(folder) as steps:
        while (left := errors - sum(hit.values())) > 0 and time.monotonic() < until:
            home = folder / f"home-{sum(hit.values())}"
            one, seen = inject_into(steps, home, min(left, ERRORS_A_HOME), rng, calls, until)
            hit += one
            found.add(seen)
            if not seen.wrong:
                shutil.rmtree(home)
    return hit, found


def inject_into(
    steps: Stepper, home: Path, errors: int, rng: Generator, calls: dict[tuple[str, str], int], until: float
) -> tuple[Counter[str], Found]:
    """Write, deliver, collect, decide, save and rebuild in one home, and inject an error into one step after the other.

    Args:
        calls: step and kind -> number of its calls that were seen; it is kept up to date.
    """
    plan(Paths(home), [WRITER])
    hit, found, labels, written = Counter[str](), Found(), labels_of(WRITER), 0

    def take(name: str, kind: str = "", number: int = 0, at: int = 0) -> Ended:
        nonlocal written
        ended = steps.take(Step(name, str(home), labels[written], _journal(written), kind, number, at))
        written += name == "write" and ended.how == DONE
        if ended.how in (CRASHED, DIED):
            found.crashed.append(f"{name}, {_words(kind, number, at)}: {ended.how}: {ended.why}")
        return ended

    while sum(hit.values()) < errors and time.monotonic() < until:
        name, kind = str(rng.choice(list(STEPS))), str(rng.choice(KINDS))
        if (most := calls.get((name, kind), FIRST_CALLS)) == 0:
            continue
        number, at = int(rng.choice(ERRORS[kind])), int(rng.integers(1, most + 1))
        first = take(name, kind, number, at)
        if not first.injected:
            calls[name, kind] = first.calls
            continue
        calls[name, kind] = max(most, first.calls)
        hit[f"{name} {kind}"] += 1
        for one in ((name,) if first.how != DONE else ()) + ("write",):
            if (again := take(one)).how != DONE:
                found.lost.append(f"{one} after {_words(kind, number, at)} of {name}: {again.why}")
    for one in ("deliver", "collect", "decide"):
        take(one)
    found.add(look(home, {WRITER: _journal(written)}))
    found.add(look_at_newest(home))
    found.left += left_behind(home)
    return hit, found


def _journal(written: int) -> str:
    return "".join(f"{i}\n" for i in range(written))


def _words(kind: str, number: int, at: int) -> str:
    return f"{errno.errorcode.get(number, 'no error')} in call {at} of kind {kind or 'none'}"
