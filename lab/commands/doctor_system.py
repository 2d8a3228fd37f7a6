"""Checks of `lab doctor`: what the system, its settings and files of earlier runs may have wrong."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata

from common.environment import PROJECT, TOP_LEVEL, code_commit
from common.errors import LabError
from common.files import locked_file
from common.resources import cores
from lab.checks import Check, asked, check
from lab.network import secrets
from lab.services import processes
from lab.services.environments import database
from lab.services.joined import remembered
from warehouse.database.connection import open_to_read, refuse_newer
from warehouse.database.record_files import REBUILD
from warehouse.delivery import spool
from warehouse.delivery.results_store import Store
from warehouse.delivery.signing import hosts_with_keys, key_of
from warehouse.delivery.transports.directory import Directory
from warehouse.paths import Paths
from workpools import graphics
from workpools.assess import in_time

CARDS_S = 3.0  # for programs that list graphics cards; they hang where a driver does
TRIAL = ".doctor"  # a file that is written and removed


def hardware() -> Iterator[Check]:
    """Check what the system says of its processor and graphics cards; what it does not say places no work here."""
    own = cores()
    yield Check("machine", "cores", "found", "; ".join([f"{own.usable} of {own.logical} usable", *own.reasons]))
    each_s = CARDS_S - 0.5
    makers = {
        "NVIDIA": lambda: graphics.nvidia(each_s),
        "AMD": lambda: graphics.amd(each_s),
        "Intel": graphics.intel,
        "Apple": lambda: graphics.apple(each_s),
    }
    names, wrong = list[str](), list[str]()
    for maker, found in in_time(makers, CARDS_S).items():
        names += found.names if found else ()
        wrong += found.reasons if found else [f"{maker}'s cards are not known within {CARDS_S:.0f} s"]
    wrong += graphics.hidden(names)
    detail = "; ".join([*names, *wrong]) or "none"
    yield check("machine", "graphics cards", not wrong, detail, "remove the cause, then: lab assess", needed=False)


def settings() -> Iterator[Check]:
    """Check the terminal, the packages beside this one, the checkout, and the settings that hold addresses."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    why = f"the output is {encoding}, so other characters are shown as escapes"
    utf8 = encoding in ("utf-8", "utf8")
    yield check("setting", "output", utf8, encoding if utf8 else why, "export PYTHONIOENCODING=utf-8", needed=False)
    others = _others()
    why = "; ".join(f"{name} is a package of {', '.join(own)} as well" for name, own in others.items())
    mend = f"install it into an environment of its own, or: pip uninstall {' '.join(sorted({o for own in others.values() for o in own}))}"
    yield check("setting", "names of packages", not others, why or "no other package has them", mend)
    yield asked("setting", "commit", lambda: code_commit().sha)
    yield asked("setting", "database", lambda: "PostgreSQL" if database() else "SQLite")
    if sys.platform == "win32":
        yield Check("setting", "Windows", "found", "not tried on a real machine: docs/windows.md")


def _others() -> dict[str, list[str]]:
    """Return other distributions that install a package of one of this project's names, by that name."""
    own = metadata.packages_distributions()
    found = {
        name: sorted({d for d in own.get(name, ()) if d.lower().replace("_", "-") != PROJECT}) for name in TOP_LEVEL
    }
    return {name: others for name, others in found.items() if others}


def files(paths: Paths) -> Iterator[Check]:
    """Check what the file system of LAB_HOME can do, and the files of earlier runs: keys, services, spool, results."""
    yield asked("permission", "locks", lambda: _lock(paths))
    yield asked("permission", "keys of servers", secrets_there)
    yield asked("permission", "keys of hosts", lambda: _signing(paths))
    yield _services(paths)
    waiting = spool.look(paths)
    why = (
        f"{len(waiting.waiting)} bundles wait since {waiting.waiting[0].since:%Y-%m-%d %H:%M} UTC"
        if waiting.waiting
        else ""
    )
    last = f": {waiting.last_attempt.reason}" if waiting.last_attempt else ""
    yield check("results", "waiting bundles", not why, why + last if why else "nothing waits", "lab sync")


def database_files(paths: Paths) -> Iterator[Check]:
    """Check that the snapshot and the warehouse can be read by this version; what is being written now is not looked at."""

    def known() -> str:
        with open_to_read(paths.snapshot, "lab collect"):
            refuse_newer(paths)
        return "known to this version"

    def whole() -> str:
        try:
            with locked_file(paths.lock, 0), open_to_read(paths.warehouse, REBUILD):
                return "can be read"
        except TimeoutError:
            return "in use"

    if paths.snapshot.exists():
        yield asked("results", "schema", known)
    if paths.warehouse.exists():
        yield asked("results", "warehouse", whole)


def reachable(store: Store) -> str:
    """Return where results go.

    Raises:
        LabError: it is a folder that is not there, such as one that is not mounted.
    """
    if isinstance(store.transport, Directory):
        store.transport.ready()
    return store.where


def _lock(paths: Paths) -> str:
    path = paths.home / f"{TRIAL}.lock"
    try:
        with suppress(TimeoutError), locked_file(path, 0):  # who holds it has locked it
            pass
    finally:
        path.unlink(missing_ok=True)
    return "files can be locked"


def secrets_there() -> str:
    """Return what keys of servers this machine has; LabError if a file of them is damaged or can be read by others."""
    own = "this coordinator's" if secrets.of_coordinator() else ""
    joined = secrets.check_joined()
    return ", ".join(filter(None, [own, f"{joined} of joined servers" if joined else ""])) or "none"


def _signing(paths: Paths) -> str:
    hosts = hosts_with_keys(paths)
    for host in hosts:
        key_of(paths, host)
    return ", ".join(hosts) or "none"


def _services(paths: Paths) -> Check:
    """Check the record of what `lab` started; what ended by itself may have been meant to run."""
    try:
        found = processes.recorded(paths)
    except LabError as error:
        return check("service", "started by lab", False, error.what, error.mend)
    dead = [s.name for s in found if not s.alive]
    joined = remembered(paths)
    mend = f"lab join {shlex.quote(joined.api_url.removesuffix('/api'))}" if joined else "lab up"
    why = f"{', '.join(dead)} ended by itself, as its log in {paths.home / 'logs'} says"
    running = ", ".join(s.name for s in found if s.alive) or "nothing"
    return check("service", "started by lab", not dead, why if dead else running, mend, needed=False)
