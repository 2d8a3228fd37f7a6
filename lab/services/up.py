"""What `lab up` starts and `lab down` stops: Prefect's server, workers, and the page, on loopback unless told otherwise."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

from app.gate import PASSWORD
from common.environment import host_name, project_files
from common.errors import LabError
from common.files import write_whole
from lab import PAGE_PORT
from lab.network import secrets
from lab.network.auth_proxy import COORDINATOR_AUTH as SERVER_AUTH
from lab.network.lan import LOOPBACK, Door
from lab.services import processes
from lab.services.environments import ACCESS, database, prefect_environment, server_environment
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.pools import DEFAULT_API, SERVER_PORT

SERVER, PAGE = "server", "page"
DEFAULT_PORTS = {SERVER: SERVER_PORT, PAGE: PAGE_PORT}
REPORT_FRESH = timedelta(hours=24)
START_S = 300.0  # a fresh server takes 18 s on two cores, and was seen to take over 90 on busy ones; one that dies is told at once
Say = Callable[[str], Any]


@dataclass(frozen=True)
class Up:
    """Addresses, and what was started or kept."""

    ui_url: str
    app_url: str
    api_url: str
    started: tuple[str, ...]


def api_url() -> str:
    """The API that commands talk to: PREFECT_API_URL, else the recorded server's, else the default port."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    for s in processes.recorded(Paths.local()):
        if s.name == SERVER and s.alive:
            return f"{s.url}/api"
    return DEFAULT_API


def connected() -> Any:
    """A client of the server that commands talk to, let in by what this user has of it.

    Raises:
        LabError: nothing answers there, or it wants another key.
    """
    from workpools.pools import connect

    url = api_url()
    return connect(url, auth_for(url))


def auth_for(url: str) -> str | None:
    """user:password for a server: the user's own setting, else the coordinator's of this machine, else a join key kept."""
    if own := os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get(SERVER_AUTH):
        return own
    for s in processes.recorded(Paths.local()):
        if s.name == SERVER and s.alive and s.address != LOOPBACK and url == f"{s.url}/api":
            return secrets.coordinator_auth(secrets.issued())
    key = secrets.kept(url)
    return secrets.worker_auth(key) if key else None


def answers(url: str, auth: str | None = None) -> bool:
    """Whether a GET of an address of ours says 200; `auth` is user:password."""
    basic = {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()} if auth else {}
    try:
        asked = urllib.request.Request(url, headers=basic)  # noqa: S310 - addresses of our own
        with urllib.request.urlopen(asked, timeout=2) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (OSError, HTTPException):
        return False


def server_command(port: int, door: Door) -> list[str]:
    """Prefect's own server; on a LAN behind the doorkeeper, which knows two passwords."""
    if door.keys is None:
        started = ["prefect", "server", "start"]
    else:
        started = [
            "uvicorn",
            "--factory",
            "lab.network.auth_proxy:app",
            "--timeout-keep-alive",
            "5",
            "--log-level",
            "warning",
        ]
    return [sys.executable, "-m", "lab.services.prefect_server", *started, "--host", door.address, "--port", str(port)]


def up(port: int, app_port: int, *, page: bool, say: Say, command: str = "lab up", door: Door | None = None) -> Up:
    """Start what is not running, side by side where nothing waits for another; `command` is what the user typed.

    Args:
        door: where server and page listen, and what they ask for; loopback, and nothing, unless given.

    Raises:
        LabError: a port is taken, or a part does not come up (its log is named).
    """
    from warehouse.database.connection import refuse_newer

    paths, door = Paths.local(), door or Door()
    # Mistakes are told before anything is started: what these refuse, every part would refuse later.
    host_name()
    Store.configured(paths)
    database()
    refuse_newer(paths)
    alive = {s.name: s for s in processes.recorded(paths) if s.alive}
    if page and port == app_port:
        raise LabError(f"server and page cannot share port {port}", f"{command} --app-port {_free(port + 1)}")
    _check_port(alive, SERVER, port, f"{command} --port", door)
    if page:
        _check_port(alive, PAGE, app_port, f"{command} --app-port", door)
    processes.record(paths, list(alive.values()))
    started: list[str] = []
    environment = prefect_environment(paths, port, door)
    fresh = SERVER not in alive
    assessing = threading.Thread(target=_assess_if_old, args=(paths,))
    if fresh:
        say(f"starting the Prefect server on {door.address}:{port}")
        told = environment | server_environment(port, door)
        alive[SERVER] = processes.start(paths, SERVER, server_command(port, door), told, port, door.address)
        started.append(SERVER)
    if page and PAGE not in alive:
        alive[PAGE] = _start_page(paths, app_port, door, environment)
        started.append(PAGE)
    assessing.start()
    if not processes.wait_until(lambda: answers(f"{door.url(port)}/api/health"), START_S, alive[SERVER]):
        raise LabError("the Prefect server did not come up", f"see {paths.home / 'logs' / 'server.log'}")
    started += _start_workers(paths, environment, alive, fresh, assessing, say)
    health, asks = f"{door.url(app_port)}/_stcore/health", f"page:{door.keys.page}" if door.keys else None
    if page and not processes.wait_until(lambda: answers(health, asks), START_S, alive[PAGE]):
        raise LabError("the page did not come up", f"see {paths.home / 'logs' / 'page.log'}")
    return Up(door.url(port), door.url(app_port), f"{door.url(port)}/api", tuple(started))


def _check_port(
    alive: dict[str, processes.Service], name: str, port: int, option: str, door: Door | None = None
) -> None:
    door = door or Door()
    if not 1 <= port <= 65535:
        raise LabError(f"there is no port {port}", f"Choose one of 1 to 65535: {option} {_free(DEFAULT_PORTS[name])}")
    if name in alive:
        if alive[name].port != port:
            raise LabError(
                f"the {name} already runs on port {alive[name].port}", "lab down first, or leave the port out"
            )
        if alive[name].address != door.address:
            raise LabError(f"the {name} already runs on {alive[name].address}", "lab down first, then this again")
        return
    if holder := processes.holder_of(port, door.address):
        raise LabError(f"Port {port} is in use by {holder}", f"Choose another: {option} {_free(port + 100)}")


def _free(first: int) -> int:
    """A port at or above `first` that nobody listens on, to propose."""
    return next(p for p in (*range(first, 65536), *range(1024, 65536)) if processes.holder_of(p) is None)


def _start_page(paths: Paths, app_port: int, door: Door, environment: dict[str, str]) -> processes.Service:
    from importlib.util import find_spec

    spec = find_spec("app")
    if spec is None or not spec.submodule_search_locations or find_spec("streamlit") is None:
        raise LabError("the page's packages are not installed", "pip install '.[coordinator]', or lab up --no-page")
    name = "gated.py" if door.keys else "home.py"
    script = os.path.join(spec.submodule_search_locations[0], name)  # noqa: PTH118 - find_spec gives strings
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        script,
        "--server.address",
        door.address,
        "--server.port",
        str(app_port),
        "--server.headless",
        "true",
        "--browser.gatherUsageStats",
        "false",
        "--server.fileWatcherType",
        "none",
    ]
    # The page asks the server what the machines do.
    asks = {name: environment[name] for name in ("PREFECT_API_URL", *ACCESS) if name in environment}
    told = processes.clean_environment(paths, **asks, **({PASSWORD: door.keys.page} if door.keys else {}))
    # Streamlit reads its settings from .streamlit in the folder that it is started in.
    return processes.start(paths, PAGE, command, told, app_port, door.address, project_files())


def _report(paths: Paths) -> Any:
    """This host's report if it is fresh, else None."""
    from workpools.assess import parse_report

    path = paths.home / f"capability_report_{host_name()}.json"
    if not path.is_file():
        return None
    try:
        report = parse_report(path.read_bytes())
    except LabError:
        return None
    return report if abs(datetime.now(UTC) - report.created_at) < REPORT_FRESH else None


def _assess_if_old(paths: Paths) -> None:
    if _report(paths) is None:
        # Speeds are left to `lab assess`: beside a server that starts they would come out several times too low (measured).
        command = [sys.executable, "-m", "lab", "assess", "--quick", "--json"]
        # Whatever went wrong, there is no report then, and _start_workers says so.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603
                command, env=processes.clean_environment(paths), capture_output=True, timeout=120, check=False
            )


def worker_command(pool: str) -> list[str]:
    """What serves a pool under this host's name: one shard at a time, or the coordinator's few small flows."""
    from workpools.pools import queue_of

    return [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        pool,
        "--name",
        host_name(),
        "--type",
        "process",
        # Its own queue beside everybody's: one that polls all takes what is meant for others, and gives it back.
        "--work-queue",
        "default",
        "--work-queue",
        queue_of(host_name()),
        "--limit",
        "4" if pool == "coordinator" else "1",
    ]


def _start_workers(
    paths: Paths,
    environment: dict[str, str],
    alive: dict[str, processes.Service],
    fresh: bool,
    assessing: threading.Thread,
    say: Say,
) -> list[str]:
    from workpools.heartbeats import create_watches
    from workpools.pools import connect, create_pools, create_queues, online_workers
    from workpools.tiers import serves

    client = connect(environment["PREFECT_API_URL"], environment.get("PREFECT_API_AUTH_STRING"))
    create_pools(client)
    create_watches(client)
    if fresh:
        _bury_the_dead(client)
    # Before the workers start: beside them it met "database is locked" on SQLite and did not end in three minutes (seen).
    _deploy(paths, environment, say)
    assessing.join()
    report = _report(paths)
    if report is None:
        raise LabError("this machine could not be assessed", "lab assess")
    say(f"{report.host} is {report.tier}" + "".join(f"; {r}" for r in report.reasons))
    if report.matrix_gflops is None:
        say("its speeds are not measured, so lab plan takes it for an average machine; to measure: lab assess")
    pools = ("coordinator", *serves(report.tier))
    create_queues(client, pools, host_name())
    started = []
    for pool in pools:
        name = f"worker-{pool}"
        if name in alive:
            continue
        alive[name] = processes.start(paths, name, worker_command(pool), environment)
        started.append(name)
    if started:
        say(f"starting workers: {', '.join(pools)}")
    ready = processes.wait_until(lambda: all(host_name() in online_workers(client).get(p, []) for p in pools), START_S)
    if not ready:
        raise LabError("the workers did not come online", f"see {paths.home / 'logs'}")
    return started


def _deploy(paths: Paths, environment: dict[str, str], say: Say) -> None:
    """`prefect deploy --all`, unless the same file was deployed to this database before."""
    root = project_files()
    digest = hashlib.sha256((root / "prefect.yaml").read_bytes()).hexdigest().encode()
    mark = paths.home / "prefect" / "deployed"
    if mark.is_file() and mark.read_bytes() == digest:
        return
    say("deploying prefect.yaml")
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        str(root / "prefect.yaml"),
    ]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=START_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"prefect deploy did not end within {START_S:.0f} s", "lab up again") from None
    if done.returncode != 0:
        raise LabError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-300:]}", "prefect deploy --all")
    write_whole(mark, digest)


def _bury_the_dead(client: Any) -> None:
    """Runs that a dead coordinator left open: their processes are gone, so nobody would ever end them.

    Other machines tell of their own; what lives here goes on.
    """
    import psutil
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    from workpools.hosts import HOST_TAG

    kinds = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.SCHEDULED]
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=kinds)))
    )
    for run in found:
        elsewhere = [t for t in run.tags if t.startswith(HOST_TAG) and t != f"{HOST_TAG}{host_name()}"]
        if run.auto_scheduled or elsewhere:
            continue
        pid = (run.infrastructure_pid or "").rpartition(":")[2]  # with a host before it or without
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
            if "prefect" in " ".join(psutil.Process(int(pid)).cmdline()):
                continue
        client.set_flow_run_state(run.id, Crashed(message="left behind when the coordinator stopped"), force=True)


def status() -> list[dict[str, Any]]:
    """Recorded services as plain rows, each with the flows that run below it, then what was left behind by dead ones."""
    paths = Paths.local()
    rows: list[dict[str, Any]] = [
        {
            "name": s.name,
            "pid": s.pid,
            "port": s.port,
            "address": s.address if s.port else None,
            "alive": s.alive,
            "runs": sorted(p for p in processes.family(s) if p != s.pid),
        }
        for s in processes.recorded(paths)
    ]
    left: list[dict[str, Any]] = [
        {"name": "left behind", "pid": p.pid, "port": None, "address": None, "alive": True, "runs": []}
        for p in processes.strays(paths)
    ]
    return rows + left


def down(only: tuple[str, ...] | None = None) -> list[str]:
    """Stop recorded services (or those named): page and workers first, the server last, since workers sign off there."""
    paths = Paths.local()
    chosen = [s for s in processes.recorded(paths) if only is None or s.name in only]
    stopped = processes.stop([s for s in chosen if s.name != SERVER])
    stopped += processes.stop([s for s in chosen if s.name == SERVER])
    if only is None:
        left_behind = {p.pid: p for p in processes.strays(paths)}
        processes.end(left_behind)
        stopped += ["what was left behind"] if left_behind else []
    if not chosen:
        return stopped
    left = [s for s in processes.recorded(paths) if s not in chosen]
    processes.record(paths, left)
    return stopped
