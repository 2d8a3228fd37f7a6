"""Join a Prefect server: check and assess this machine, register it, start its workers."""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from getpass import getpass
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
from packaging.version import InvalidVersion, Version

from common import proxies
from common.environment import host_name
from common.errors import LabError
from common.urls import without_secrets
from lab.network import secrets
from lab.services import assessing, processes, up
from lab.services.environments import prefect_environment
from lab.services.inbox import remember_inbox_token
from lab.services.joined import remember
from lab.services.up import START_S, Say
from lab.services.upgrade import refuse_other, start_again, upgrade
from warehouse.delivery.results_store import Store, UnreachableError
from warehouse.paths import Paths
from workpools import packages
from workpools.heartbeats import create_watches
from workpools.hosts import drained, worker_states
from workpools.installation import Installation, differences, installation, published
from workpools.pools import SERVER_PORT, RefusedError, checked_url, connect, create_pools, create_queues, unreachable
from workpools.report import CapabilityReport
from workpools.tiers import TIERS, UNFIT, serves

EXAMPLE = f"http://coordinator:{SERVER_PORT}"
NAMESAKE_S = 35.0  # a worker sends a heartbeat each 15 s, a plain one each 30 s
NAMESAKE_AGAIN_S = 2.0
# Five idle workers that asked a server on SQLite each second lost three heartbeats in 4 min to "database is locked", and at
# work it stood still for two minutes at a time. At 5 s the idle ones lost none, and it never stood still (measured).
POLL_S = 5


@dataclass(frozen=True)
class Joined:
    """The outcome of a join."""

    host: str
    tier: str
    api_url: str
    started: tuple[str, ...]  # pools
    running: tuple[str, ...]  # pools whose workers ran already


def join(url: str, also: Sequence[str], quick: bool, say: Say, key: str | None = None, bring: bool = False) -> Joined:
    """Start workers for the server's pools of this machine's tier and of those in `also`; those that run already stay.

    Without `key` the one saved at an earlier join is used, else the user is asked for it. With `bring`, code and packages are
    brought to the coordinator's first, and this process becomes another `lab join`.
    """
    paths, host = Paths.local(), host_name()
    store, api = Store.configured(paths), api_of(url)
    for tier in also:
        if tier not in TIERS:
            raise LabError(f"there is no tier {tier[:80]!r}", f"choose one of: {', '.join(TIERS)}")
    client, auth = _authenticated(api, key)
    remember_inbox_token(api)
    check_versions(_server_version(client, api), version("prefect"))
    environment = prefect_environment(paths, SERVER_PORT) | {
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_S),
        **({"PREFECT_API_AUTH_STRING": auth} if auth else {}),
    }
    alive = {s.name: s for s in processes.recorded(paths) if s.alive and s.name.startswith("worker-")}
    for service in alive.values():
        check_same_server(service, environment, url)
    theirs = _checked_installation(client, alive, url, also, quick, say, bring)
    if note := results_note(paths, api):
        say(note)
    if theirs:
        check_same_store(store, theirs.host)
    beats, since = ({} if alive else _beats(client, host)), time.monotonic()
    # Beside running workers it would have a lower tier.
    report = assessing.saved_report(paths) if alive else None
    if report is None:
        say(f"looking at {host}")
        report = assessing.assess(environment)
    pools = pools_for(report, also)
    refuse_namesake(client, host, beats, since, say)
    store.put_report(host, report.model_dump_json(indent=1).encode())
    remember(paths, api)
    say(f"{host} is {report.tier}" + "".join(f"; {r}" for r in report.reasons))
    say(f"registered in {store.where}")
    create_pools(client)
    create_watches(client)
    create_queues(client, pools, host)
    measure = not quick and report.matrix_gflops is None
    started = start_workers(paths, client, pools, alive, environment, say, measure)
    if started and measure:
        say(up.NOT_MEASURED)
    if host in drained(client):
        say(f"{host} is drained and gets no work until: lab undrain {host}")
    return Joined(host, report.tier, api, started, tuple(p for p in pools if p not in started))


def _checked_installation(
    client: Any,
    alive: Mapping[str, processes.Service],
    url: str,
    also: Sequence[str],
    quick: bool,
    say: Say,
    bring: bool,
) -> Installation | None:
    """Return the coordinator's installation, which this machine has as well; None if the server does not tell it."""
    theirs = published(client)
    if theirs is None:
        say("the server does not say which code its coordinator has, so it is not compared; lab up there says it")
        return None
    own = installation()
    if bring and differences(own, theirs):
        if alive:
            raise LabError(f"workers run on {own.host}", f"lab down, then: lab join {shlex.quote(url)} --upgrade")
        upgrade(own, theirs, say)
        start_again(url, also, quick)
    refuse_other(own, theirs, shlex.quote(url))
    return theirs


def check_same_store(store: Store, coordinator: str) -> None:
    """Check that results go where the coordinator's are: it has registered there.

    Raises:
        LabError: the store cannot be reached, or is another one, so that each shard would be given back.
    """
    try:
        there = store.transport.reports()
    except UnreachableError:
        raise
    except OSError as error:
        raise LabError(f"{store.where} cannot be read: {error}", "lab doctor") from None
    if coordinator not in there:
        what = f"{store.where} is not the coordinator's results store: it has no report of {coordinator}"
        raise LabError(what, "set LAB_RESULTS_URL as lab invite shows it on the coordinator, then join again")


def _beats(client: Any, host: str) -> dict[str, datetime | None]:
    """Return the last heartbeat of each online worker of this name, by pool."""
    return {w.pool: w.last_heartbeat for w in worker_states(client) if w.name == host and w.online}


def refuse_namesake(
    client: Any, host: str, before: Mapping[str, datetime | None], since: float, say: Say, wait_s: float = NAMESAKE_S
) -> None:
    """Raise LabError if a worker of this name, that was online before this machine starts any, still sends heartbeats.

    A worker that ended is shown online for a minute, so its next heartbeat decides.

    Args:
        before: of _beats.
        since: when they were read, by the monotonic clock.
    """
    logged = False
    while before and (now := _beats(client, host)):
        if any(now.get(pool) != beat for pool, beat in before.items() if pool in now):
            what = f"another machine named {host} works for this server: two of one name would be taken for one"
            raise LabError(what, "export LAB_HOST=ANOTHER-NAME, then join again")
        if time.monotonic() - since > wait_s:
            return
        if not logged:
            say(f"a worker named {host} was online just now; looking whether it still is, for up to {wait_s:.0f} s")
            logged = True
        time.sleep(NAMESAKE_AGAIN_S)


class Access(NamedTuple):
    """A server's client, and the user:password with which it was let in."""

    client: Any
    auth: str | None


def api_of(url: str) -> str:
    """Return the address of a server's API, such as http://coordinator:4200/api; LabError if `url` holds anything else."""
    try:
        checked_url(url)
        parts = urlsplit(url)
    except LabError:
        raise LabError(f"{without_secrets(url)[:200]!r} is not an http address", f"lab join {EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        # Not shown again: everybody on this machine could read it in the list of processes already.
        raise LabError("the address must not hold a password", f"lab join {EXAMPLE}, which asks for the key")
    if parts.query or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise LabError(f"{without_secrets(url)[:200]!r} is not just the address of a server", f"lab join {EXAMPLE}")
    whole = url.rstrip("/")
    return whole if whole.endswith("/api") else f"{whole}/api"


def _authenticated(api: str, key: str | None) -> Access:
    """Connect to the server and save the key that it accepts; ask the user for it on a terminal."""
    auth, server = secrets.worker_auth(key) if key else up.auth_for(api), api.removesuffix("/api")
    try:
        client = _connected(api, auth)
    except RefusedError as error:
        if key or not sys.stdin.isatty():
            what = f"the server at {api} " + ("does not accept this key" if key else "requires a key")
            mend = f"ssh coordinator lab invite --key | lab join {shlex.quote(server)} --key-file -"
            raise LabError(what, mend) from error
        key = secrets.checked_key(getpass(f"Key of {server} (on the coordinator: lab invite --key): "))
        auth = secrets.worker_auth(key)
        client = _connected(api, auth)
    if key:
        secrets.save_key(api, key)
    return Access(client, auth)


def _connected(api: str, auth: str | None) -> Any:
    try:
        return connect(api, auth)
    except LabError as error:
        if str(error) != str(unreachable(api)) or proxies.variable_for(api):
            raise
        mend = "check the address, and start that server with: lab up --lan"
        raise LabError(error.what, "start one: lab up" if is_local(api) else mend) from None


def _server_version(client: Any, api: str) -> str:
    try:
        return str(client.api_version())
    except ValueError:
        raise LabError(f"{api} is not a Prefect server", f"lab join {EXAMPLE}") from None


def check_versions(server: str, ours: str) -> None:
    """Check that server and machine run the same minor version of Prefect, and that this Python is supported."""
    try:
        theirs, own = Version(server).release[:2], Version(ours).release[:2]
    except InvalidVersion:
        wrong = f"{server!r:.80}, reported by the server, is not a version of Prefect"
        raise LabError(wrong, f"lab join {EXAMPLE}") from None
    if theirs != own:
        mend = f"on this machine: pip install 'prefect~={'.'.join(map(str, theirs))}.0'"
        raise LabError(f"the server runs Prefect {server}, this machine {ours}", mend)
    if reason := packages.python_reason():
        what, _, mend = reason.partition(": ")
        raise LabError(what, mend or "install a newer Python, then: make setup")


def pools_for(report: CapabilityReport, also: Sequence[str]) -> tuple[str, ...]:
    """Return the pools that this machine can serve: its tier's and those in `also`, the strongest first; else LabError."""
    if report.tier == UNFIT:
        reasons = "; ".join(report.reasons)
        raise LabError(f"{report.host} is unfit for work: {reasons}", "free memory or disk, then join again")
    lower = serves(report.tier)
    for tier in also:
        if tier not in lower:
            raise LabError(f"--also {tier}: {report.host} is {report.tier}", f"choose one of: {', '.join(lower)}")
    if lacking := packages.unmet(report.tier):
        reasons = "; ".join(u.reason.partition(": pip install")[0] for u in lacking)
        raise LabError(reasons, "pip install " + " ".join(shlex.quote(u.requirement) for u in lacking))
    return tuple(p for p in lower if p in {report.tier, *also})


def is_local(api: str) -> bool:
    """Return True if the API's host is this machine."""
    own = {a.address.partition("%")[0] for each in psutil.net_if_addrs().values() for a in each}
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(urlsplit(api).hostname, None)}
    except (OSError, UnicodeError):
        return False
    special = (ipaddress.ip_address(ip) for ip in found)
    return not own.isdisjoint(found) or any(ip.is_loopback or ip.is_unspecified for ip in special)


def results_note(paths: Paths, api: str) -> str | None:
    """Return a warning about the transport of results, or None.

    LabError if they would stay here: each shard would fail, since its units come by the same transport.
    """
    mend = "export LAB_RESULTS_URL=/PATH, where /PATH is the coordinator's results folder, mounted on this machine"
    own = processes.running(paths, up.SERVER)
    if os.environ.get("LAB_RESULTS_URL") or (own and _server(api) == _Server("", own.port)):
        return None
    if is_local(api):
        return (
            f"LAB_RESULTS_URL is not set: results stay in {paths.home / 'results'}, where only a coordinator with the same "
            f"LAB_HOME finds them. Otherwise: lab down, then {mend}, then join again"
        )
    wrong = "LAB_RESULTS_URL is not set, so results would stay on this machine and never reach the coordinator"
    raise LabError(wrong, mend)


class _Server(NamedTuple):
    host: str  # "" for this machine, whatever name it was given
    port: int | None


def _server(api: str) -> _Server:
    parts = urlsplit(api)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return _Server("" if is_local(api) else str(parts.hostname), port)


def check_same_server(service: processes.Service, environment: Mapping[str, str], url: str) -> None:
    """Check that a running worker of this machine has the server, host name and results of `environment`.

    A worker whose environment the system does not show passes.
    """
    try:
        its = psutil.Process(service.pid).environ()
    except (psutil.Error, OSError):
        return
    for name in ("PREFECT_API_URL", "LAB_RESULTS_URL", "LAB_HOST"):
        its_own, wanted = its.get(name, ""), environment.get(name, "")
        by_address = name == "PREFECT_API_URL" and its_own
        if not (_server(its_own) == _server(wanted) if by_address else its_own == wanted):
            wrong = f"{service.name} runs with {name} {its_own or 'unset'} instead of {wanted or 'unset'}"
            raise LabError(wrong, f"lab down, then: lab join {shlex.quote(url)}")


def start_workers(
    paths: Paths,
    client: Any,
    pools: Sequence[str],
    alive: Mapping[str, processes.Service],
    environment: Mapping[str, str],
    say: Say,
    measure: bool = False,
) -> tuple[str, ...]:
    """Start the workers that do not run and wait until all are online; return the pools of those that were started."""
    host = host_name()
    before = _beats(client, host)
    missing = tuple(p for p in pools if f"worker-{p}" not in alive)
    if missing:
        say(f"starting workers: {', '.join(missing)}")
    begun = up.start_worker(paths, missing, environment, measure)

    def online() -> bool:
        # The server shows a worker online for a minute after it ended, so a new one counts from its own first heartbeat.
        now = _beats(client, host)
        return all(p in now and (p not in missing or now[p] != before.get(p)) for p in pools)

    dead: list[str] = []

    def finished() -> bool:
        dead[:] = [s.name for s in begun if not s.alive]
        return bool(dead) or online()

    if not processes.wait_until(finished, START_S) or dead:
        names = ", ".join(dead or [f"worker-{p}" for p in pools])
        raise LabError(f"{names} did not come online", f"see {paths.home / 'logs'}, then: lab down")
    return missing
