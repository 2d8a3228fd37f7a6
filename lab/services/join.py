"""How a machine joins the laboratory of a Prefect server: checked, assessed, registered, its workers started."""

from __future__ import annotations

import ipaddress
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from getpass import getpass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from common.environment import host_name
from common.errors import LabError
from lab.network import secrets
from lab.services import processes, up
from lab.services.environments import prefect_environment
from lab.services.inbox import remember_inbox_token
from lab.services.up import START_S, Say
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.pools import SERVER_PORT, checked_url
from workpools.tiers import TIERS, UNFIT, serves

if TYPE_CHECKING:
    from workpools.assess import CapabilityReport

EXAMPLE = f"http://coordinator:{SERVER_PORT}"
ASSESS_S = 180.0  # a minute at most on a machine with nothing else to do; more is given to a busy one
# Five idle workers that asked a server on SQLite each second lost three heartbeats in 4 min to "database is locked", and at
# work it stood still for two minutes at a time. At 5 s the idle ones lost none, and it never stood still (measured).
POLL_S = 5


@dataclass(frozen=True)
class Joined:
    """What a join came to."""

    host: str
    tier: str
    api_url: str
    started: tuple[str, ...]  # pools
    kept: tuple[str, ...]  # pools whose workers ran already


def join(url: str, also: Sequence[str], quick: bool, say: Say, key: str | None = None) -> Joined:
    """Make this machine serve the server's pool of its tier, and of those in `also`; what runs already is kept.

    Args:
        key: what the server lets machines in with; the one kept from an earlier join, or asked for, unless given.

    Raises:
        LabError: no server, other versions, results that would not reach the coordinator, a machine that is unfit or lacks
            packages, workers here for another server, or one that does not come online (its log is named).
    """
    from workpools.heartbeats import create_watches
    from workpools.hosts import drained
    from workpools.pools import create_pools, create_queues

    paths, host = Paths.local(), host_name()
    store, api = Store.configured(paths), api_of(url)
    for tier in also:
        if tier not in TIERS:
            raise LabError(f"there is no tier {tier[:80]!r}", f"choose one of: {', '.join(TIERS)}")
    client, auth = _let_in(api, key)
    remember_inbox_token(api)
    check_versions(_server_version(client, api), _own_version())
    environment = prefect_environment(paths, SERVER_PORT) | {
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_S),
        **({"PREFECT_API_AUTH_STRING": auth} if auth else {}),
    }
    alive = {s.name: s for s in processes.recorded(paths) if s.alive and s.name.startswith("worker-")}
    for service in alive.values():
        _check_same(service, environment, url)
    if note := results_note(paths, api):
        say(note)
    report = _kept_report(paths) if alive else None
    if report is None:
        say(f"looking at {host}" if quick else f"measuring {host}, which takes up to a minute")
        report = _assess(quick, environment)
    pools = pools_for(report, also)
    store.put_report(host, report.model_dump_json(indent=1).encode())
    say(f"{host} is {report.tier}" + "".join(f"; {r}" for r in report.reasons))
    say(f"registered in {store.where}")
    create_pools(client)
    create_watches(client)
    create_queues(client, pools, host)
    started = _start(paths, client, pools, alive, environment, say)
    if host in drained(client):
        say(f"{host} is drained and gets no work until: lab undrain {host}")
    return Joined(host, report.tier, api, started, tuple(p for p in pools if p not in started))


def api_of(url: str) -> str:
    """The API's address for that of a server, or for the API's own: http://coordinator:4200/api.

    Raises:
        LabError: no http address.
    """
    try:
        checked_url(url)
        parts = urlsplit(url)
    except LabError:
        raise LabError(f"{url[:200]!r} is no http address", f"lab join {EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        # Not shown again: everybody on this machine could read it in the list of processes already.
        raise LabError("a password does not belong into the address", f"lab join {EXAMPLE}, which asks for the key")
    if parts.query or parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise LabError(f"{url[:200]!r} is not the address of a server alone", f"lab join {EXAMPLE}")
    whole = url.rstrip("/")
    return whole if whole.endswith("/api") else f"{whole}/api"


def _let_in(api: str, key: str | None) -> tuple[Any, str | None]:
    """(client, user:password) of the server; a key that it takes is kept for the next time."""
    from workpools.pools import RefusedError

    auth = secrets.worker_auth(key) if key else up.auth_for(api)
    try:
        client = _connected(api, auth)
    except RefusedError as error:
        if key or not sys.stdin.isatty():
            what = f"the server at {api} does not take this key" if key else f"the server at {api} asks for a key"
            raise LabError(
                what,
                f"ssh coordinator lab invite --key | lab join {shlex.quote(api.removesuffix('/api'))} --key-file -",
            ) from error
        key = secrets.checked_key(
            getpass(f"Key of {api.removesuffix('/api')} (on the coordinator: lab invite --key): ")
        )
        auth = secrets.worker_auth(key)
        client = _connected(api, auth)
    if key:
        secrets.keep(api, key)
    return client, auth


def _connected(api: str, auth: str | None) -> Any:
    from workpools.pools import connect, unreachable

    try:
        return connect(api, auth)
    except LabError as error:
        if str(error) != str(unreachable(api)):
            raise
        mend = "check the address; the server there has to listen on the network: lab up --lan"
        raise LabError(error.what, "start one: lab up" if is_here(api) else mend) from None


def _server_version(client: Any, api: str) -> str:
    try:
        return str(client.api_version())
    except ValueError:
        raise LabError(f"what answers at {api} is no Prefect server", f"lab join {EXAMPLE}") from None


def _own_version() -> str:
    from importlib.metadata import version

    return version("prefect")


def check_versions(server: str, ours: str) -> None:
    """Whether both sides run the same minor version of Prefect, and this Python and this project are what is needed.

    Raises:
        LabError: with both versions, and what to install.
    """
    from packaging.version import InvalidVersion, Version

    from workpools.packages import python_reason

    try:
        there, here = Version(server).release[:2], Version(ours).release[:2]
    except InvalidVersion:
        raise LabError(
            f"the server says it is Prefect {server!r:.80}, which is no version", f"lab join {EXAMPLE}"
        ) from None
    if there != here:
        wanted = ".".join(map(str, (*there, 0)))
        raise LabError(
            f"the server runs Prefect {server}, this machine {ours}", f"here: pip install 'prefect~={wanted}'"
        )
    if reason := python_reason():
        what, _, mend = reason.partition(": ")
        raise LabError(what, mend or "install a newer Python, then: make setup")


def pools_for(report: CapabilityReport, also: Sequence[str]) -> tuple[str, ...]:
    """Pools that this machine is to serve: its tier's and those in `also`, the strongest first.

    Raises:
        LabError: the machine is unfit, packages of its tier are not there, or `also` names a tier above its own.
    """
    from workpools.packages import unmet

    if report.tier == UNFIT:
        reasons = "; ".join(report.reasons)
        raise LabError(
            f"{report.host} is unfit, so no work could be given to it: {reasons}",
            "free memory or disk, then join again",
        )
    lower = serves(report.tier)
    for tier in also:
        if tier not in lower:
            raise LabError(f"--also {tier}: {report.host} is {report.tier}", f"choose one of: {', '.join(lower)}")
    if lacking := unmet(report.tier):
        reasons = "; ".join(u.reason.partition(": pip install")[0] for u in lacking)
        raise LabError(reasons, "pip install " + " ".join(shlex.quote(u.requirement) for u in lacking))
    return tuple(p for p in lower if p in {report.tier, *also})


def is_here(api: str) -> bool:
    """Whether an address is one of this machine."""
    own = {a.address.partition("%")[0] for each in psutil.net_if_addrs().values() for a in each}
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(urlsplit(api).hostname, None)}
    except (OSError, UnicodeError):
        return False
    special = (ipaddress.ip_address(ip) for ip in found)
    return not own.isdisjoint(found) or any(ip.is_loopback or ip.is_unspecified for ip in special)


def results_note(paths: Paths, api: str) -> str | None:
    """What the user has to know about the way of the results, if anything.

    Raises:
        LabError: they would stay on this machine. Each shard would fail at once, for want of its units, which come that way.
    """
    mend = "export LAB_RESULTS_URL=/PATH, where /PATH is the coordinator's results folder, mounted here"
    if os.environ.get("LAB_RESULTS_URL") or _our_own_server(paths, api):
        return None
    if is_here(api):
        return (
            f"LAB_RESULTS_URL is not set: results stay in {paths.home / 'results'}, and reach a coordinator only if that is "
            f"its LAB_HOME too. If not: lab down, then {mend}, then join again"
        )
    raise LabError("LAB_RESULTS_URL is not set, so results would stay here and never reach the coordinator", mend)


def _our_own_server(paths: Paths, api: str) -> bool:
    ports = {s.port for s in processes.recorded(paths) if s.name == up.SERVER and s.alive}
    return _server(api)[1] in ports and is_here(api)


def _server(api: str) -> tuple[str, int]:
    """(host, port), the same for every name of this machine."""
    parts = urlsplit(api)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return "" if is_here(api) else str(parts.hostname), port


def _check_same(service: processes.Service, environment: Mapping[str, str], url: str) -> None:
    """LabError when a worker that runs here works for another server, under another name or with other results.

    One whose settings the system does not show is taken for ours.
    """
    try:
        its = psutil.Process(service.pid).environ()
    except (psutil.Error, OSError):
        return
    for name in ("PREFECT_API_URL", "LAB_RESULTS_URL", "LAB_HOST"):
        there, here = its.get(name, ""), environment.get(name, "")
        same = _server(there) == _server(here) if name == "PREFECT_API_URL" and there else there == here
        if not same:
            raise LabError(
                f"{service.name} runs here with {name} {there or 'unset'}, and not {here or 'unset'}",
                f"lab down, then: lab join {shlex.quote(url)}",
            )


def _kept_report(paths: Paths) -> CapabilityReport | None:
    """The report this host has, however old: measuring beside work would measure the work, and give a lower tier."""
    from workpools.assess import parse_report

    path = paths.home / f"capability_report_{host_name()}.json"
    try:
        return parse_report(path.read_bytes())
    except (OSError, LabError):
        return None


def _assess(quick: bool, environment: Mapping[str, str]) -> CapabilityReport:
    """`lab assess` in a process of its own, which leaves this one without engines and threads."""
    from workpools.assess import parse_report

    command = [sys.executable, "-m", "lab", "assess", "--json", *(["--quick"] if quick else [])]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=ASSESS_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise LabError(f"this machine was not assessed within {ASSESS_S:.0f} s", "lab join --quick") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise LabError(f"this machine could not be assessed: {said[-1][:300]}", "lab assess")
    return parse_report(done.stdout)


def _start(
    paths: Paths,
    client: Any,
    pools: Sequence[str],
    alive: Mapping[str, processes.Service],
    environment: Mapping[str, str],
    say: Say,
) -> tuple[str, ...]:
    """Start the workers that do not run, and wait until all are online; the pools of those that were started."""
    from workpools.hosts import seen_workers

    host = host_name()

    def beats() -> dict[str, datetime | None]:
        return {w.pool: w.last_heartbeat for w in seen_workers(client) if w.name == host and w.online}

    before = beats()
    missing = tuple(p for p in pools if f"worker-{p}" not in alive)
    if doubled := [p for p in missing if p in before]:
        say(
            f"a worker named {host} was online in {', '.join(doubled)} just now; if that is not this machine's last one: "
            "lab down, export LAB_HOST=ANOTHER-NAME, then join again"
        )
    if missing:
        say(f"starting workers: {', '.join(missing)}")
    begun = [processes.start(paths, f"worker-{p}", up.worker_command(p), environment) for p in missing]

    def online() -> bool:
        # The server shows a worker online for a minute after it ended, so a new one counts from its own first heartbeat.
        now = beats()
        return all(p in now and (p not in missing or now[p] != before.get(p)) for p in pools)

    dead: list[str] = []

    def settled() -> bool:
        dead[:] = [s.name for s in begun if not s.alive]
        return bool(dead) or online()

    if not processes.wait_until(settled, START_S) or dead:
        names = ", ".join(dead or [f"worker-{p}" for p in pools])
        raise LabError(f"{names} did not come online", f"see {paths.home / 'logs'}, then: lab down")
    return missing
