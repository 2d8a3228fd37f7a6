"""Takes single steps of the work in one home, each in a process of its own, with an error injected into one of its calls.

It is started with the error-injecting library loaded, and reads a Step as JSON from each line; the answer is an Ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas  # noqa: F401 - pyarrow looks for it at its first table, half a second in each child otherwise

from benchmarks.chaos.roles import KEEP, WRITTEN
from benchmarks.chaos.work import WRITERS, decide, put_bundle, unit_id_of
from benchmarks.injected_errors import Injection, aim, counted, injected, rest
from common.errors import LabError
from common.system_errors import system_error
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.maintenance.backup import backup_into
from warehouse.maintenance.rebuild import rebuild
from warehouse.paths import Paths

DONE, TOLD, CRASHED, DIED = "done", "told", "crashed", "died"
LIMIT_S = 120.0  # of a step, which takes less than one; it hangs otherwise


@dataclass(frozen=True)
class Step:
    """A step to take, and the call into the system that is to fail; 0: none."""

    name: str
    home: str
    label: str = ""  # of the unit, where one is written
    written: str = "0"  # number of units that the home's writer has written
    kind: str = ""  # of call, as benchmarks.injected_errors names it
    number: int = 0  # errno
    at: int = 0


@dataclass(frozen=True)
class Ended:
    """How a step ended: done, told (an error that a user sees in one line), crashed (any other), died."""

    how: str
    why: str = ""
    calls: int = 0
    injected: int = 0


def write(paths: Paths, step: Step) -> None:
    if not Store.configured(paths).has_bundle(unit_id_of(step.label)):
        put_bundle(paths.spool, step.label)


def deliver(paths: Paths, step: Step) -> None:
    store = Store.configured(paths)
    if reason := store.deliver(paths.spool).reason:
        raise LabError(reason)


def gather(paths: Paths, step: Step) -> None:
    taken = collect(paths, Store.configured(paths))
    if taken.left:
        raise LabError(f"left in the inbox: {taken.left[0]}")


def judge(paths: Paths, step: Step) -> None:
    with writing(paths, publish=True) as con:
        decide(con, WRITERS[:1])


def save(paths: Paths, step: Step) -> None:
    into = paths.home / "saved"
    into.mkdir(exist_ok=True)
    done = backup_into(paths, Store.configured(paths), str(into), KEEP)
    Path(f"{done.path}{WRITTEN}").write_text(json.dumps({"writer-a": step.written}))


def build(paths: Paths, step: Step) -> None:
    done = rebuild(paths, Store.configured(paths))
    if done.lost or done.aside or any(d.only_before for d in done.differences.values()):
        raise AssertionError(done)


STEPS: dict[str, Callable[[Paths, Step], None]] = {
    "write": write,
    "deliver": deliver,
    "collect": gather,
    "decide": judge,
    "backup": save,
    "rebuild": build,
}


def take(step: Step) -> Ended:
    """Take a step in this process; the library is loaded."""
    aim(Injection(Path(step.home), (step.kind,) if step.kind else (), step.at, number=step.number))
    how, why = DONE, ""
    try:
        STEPS[step.name](Paths(Path(step.home)), step)
    except BaseException as error:
        # As lab's main does: anything else than a mistake or what the system refuses would be a traceback.
        how = TOLD if isinstance(error, LabError) or system_error(error) else CRASHED
        why = f"{type(error).__name__}: {error}"
        if how == CRASHED:
            traceback.print_exc()
    calls, failed = counted(), injected()
    rest()
    return Ended(how, why[:300], calls, failed)


def main() -> None:
    for line in sys.stdin:
        step = Step(**json.loads(line))
        to_read, to_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            with os.fdopen(to_write, "w") as answer:
                answer.write(json.dumps(asdict(take(step))))
            os._exit(0)
        os.close(to_write)
        if not (ended := select.select([to_read], [], [], LIMIT_S)[0]):
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(to_read) as answer:
            found = answer.read()
        _, status = os.waitpid(pid, 0)
        why = f"exit code {os.waitstatus_to_exitcode(status)}" if ended else f"not ended after {LIMIT_S:.0f} s"
        print(found or json.dumps(asdict(Ended(DIED, why))), flush=True)


if __name__ == "__main__":
    main()
