"""Start and stop the services of this machine: Prefect's server, workers and the page."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import flows
from app.commands import PAGE_AUTH, USER_HOME
from app.gate import PASSWORD, USER
from common.environment import code_commit, home_folder, host_name, project_files, python
from common.errors import LabError
from common.files import write_whole
from lab import PAGE_PORT
from lab.network import secrets
from lab.network.auth_proxy import COORDINATOR_AUTH as SERVER_AUTH
from lab.network.lan import Listener, bracketed, loopback
from lab.own_settings import ACCESS
from lab.services import assessing, processes
from lab.services.environments import database, prefect_environment, server_environment
from lab.services.joined import forget, remembered
from lab.services.serving import COORDINATOR, check_serve, pools_served
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.heartbeats import create_watches
from workpools.hosts import HOST_TAG, unfinished
from workpools.installation import installation, publish
from workpools.pools import DEFAULT_API, SERVER_PORT, connect, create_pools, create_queues, online_workers
from workpools.server_rows import flow_runs

SERVER, PAGE = "server", "page"
ORPHAN = "orphaned"  # started by a service that has died since
DEFAULT_PORTS = {SERVER: SERVER_PORT, PAGE: PAGE_PORT}
# A fresh server takes 18 s on two cores, over 90 were seen on busy ones; one that dies is reported at once.
START_S = 300.0
NOT_MEASURED = (
    "its speed is measured once nothing else runs, within a minute; until then lab plan assumes an average machine"
)
Say = Callable[[str], Any]


@dataclass(frozen=True)
class Up:
    """Addresses of the services, and the names of those that were started."""

    ui_url: str
    app_url: str
    api_url: str
    started: tuple[str, ...]


class ServiceState(NamedTuple):
    """One line of `lab status`."""

    name: str  # ORPHAN for a process whose service has died
    pid: int
    port: int | None
    address: str | None  # None without a port
    alive: bool
    runs: list[int]  # pids of the processes that it started


def api_url() -> str:
    """Return the address of the API: PREFECT_API_URL, else the recorded server's, else the joined one's, else the default."""
    return known_api_url() or DEFAULT_API


def known_api_url() -> str | None:
    """Return the address of the API as for api_url, None where that would only be the default."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    paths = Paths.local()
    if server := processes.running(paths, SERVER):
        return f"{server.url}/api"
    joined = remembered(paths)
    return joined.api_url if joined else None


def connected() -> Any:
    """Return a client of the server at `api_url()`; LabError if nothing answers there, or it requires another key."""
    url = api_url()
    return connect(url, auth_for(url))


def auth_for(url: str) -> str | None:
    """Return user:password for a server: from the environment, else this coordinator's own, else from a saved join key."""
    if own := os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get(SERVER_AUTH):
        return own
    server = processes.running(Paths.local(), SERVER)
    if server and server.needs_keys and url == f"{server.url}/api":
        return secrets.coordinator_auth(secrets.issued())
    key = secrets.saved_key(url)
    return secrets.worker_auth(key) if key else None


def answers(url: str, auth: str | None = None) -> bool:
    """Return True if a GET of one of lab's own addresses, without a proxy, gives 200; `auth` is user:password."""
    basic = {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()} if auth else {}
    try:
        asked = urllib.request.Request(url, headers=basic)  # noqa: S310 - addresses of our own
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, HTTPException):
        return False


def server_command(port: int, listener: Listener) -> list[str]:
    """Return the command of Prefect's server, behind the checks of lab.network.auth_proxy."""
    factory = "app_without_keys" if listener.keys is None else "app"
    program = f"uvicorn --factory lab.network.auth_proxy:{factory} --timeout-keep-alive 5 --log-level warning"
    server = [*python(), "lab.services.prefect_server", *program.split()]
    return [*server, "--host", listener.address, "--port", str(port)]


def up(
    port: int,
    app_port: int,
    *,
    page: bool,
    say: Say,
    command: str = "lab up",
    listener: Listener | None = None,
    serve: Sequence[str] = (),
    quick: bool = False,
) -> Up:
    """Start the services that do not run, in parallel where none depends on another.

    `say` receives each line for the user; messages that propose another port begin with `command`. `serve` names the pools of
    this machine's worker; by default those of its tier and below. Unless `quick`, that worker measures the machine if it was not.
    """
    paths, listener = Paths.local(), listener or Listener()
    alive = check(port, app_port, page, command, listener, serve)
    processes.record(paths, list(alive.values()))
    forget(paths)
    started: list[str] = []
    environment = prefect_environment(paths, port, listener)
    fresh = SERVER not in alive
    assessment = threading.Thread(target=assessing.assess_if_old, args=(paths,))
    if fresh:
        say(f"starting the Prefect server on {bracketed(listener.address)}:{port}")
        settings = environment | server_environment(port, listener)
        command_line = server_command(port, listener)
        alive[SERVER] = processes.start(paths, SERVER, command_line, settings, port, listener)
        started.append(SERVER)
    if page and PAGE not in alive:
        alive[PAGE] = _start_page(paths, app_port, listener, environment)
        started.append(PAGE)
    assessment.start()
    if not processes.wait_until(lambda: answers(f"{listener.url(port)}/api/health"), START_S, alive[SERVER]):
        raise LabError("the Prefect server did not come up", f"see {paths.home / 'logs' / 'server.log'}")
    started += _start_workers(paths, environment, alive, fresh, assessment, serve, quick, say)
    if page:
        _wait_for_page(paths, listener, alive[PAGE])
    return Up(listener.url(port), listener.url(app_port), f"{listener.url(port)}/api", tuple(started))


def check(
    port: int, app_port: int, page: bool, command: str, listener: Listener, serve: Sequence[str] = ()
) -> dict[str, processes.Service]:
    """Refuse what `up` could not start, before anything is started; return the services that run.

    Raises:
        LabError: a setting, a port or the warehouse is not right; the message says which.
    """
    from warehouse.database.connection import refuse_newer

    paths = Paths.local()
    host_name()
    home_folder()  # Prefect asks for it
    code_commit()
    Store.configured(paths)
    database()
    refuse_newer(paths)
    alive = {s.name: s for s in processes.recorded(paths) if s.alive}
    check_serve(serve, alive)
    if page and port == app_port:
        raise LabError(f"server and page cannot share port {port}", f"{command} --app-port {free_port(port + 1)}")
    check_port(alive, SERVER, port, f"{command} --port", listener)
    if page:
        check_port(alive, PAGE, app_port, f"{command} --app-port", listener)
    return alive


def check_port(
    alive: dict[str, processes.Service], name: str, port: int, option: str, listener: Listener | None = None
) -> None:
    """Check that a service can listen on a port, or listens there already; LabError if neither."""
    listener = listener or Listener()
    if not 1 <= port <= 65535:
        free = free_port(DEFAULT_PORTS[name])
        raise LabError(f"there is no port {port}", f"Choose one of 1 to 65535: {option} {free}")
    if running := alive.get(name):
        if running.port != port:
            raise LabError(f"the {name} already runs on port {running.port}", "lab down first, or leave the port out")
        if running.address != listener.address:
            raise LabError(f"the {name} already runs on {running.address}", "lab down first, then this command again")
        if running.needs_keys != (listener.keys is not None):
            how = "with" if running.needs_keys else "without"
            raise LabError(f"the {name} already runs {how} keys", "lab down first, then this command again")
    elif holder := processes.holder_of(port, listener.address):
        raise LabError(f"Port {port} is in use by {holder}", f"Choose another: {option} {free_port(port + 100)}")


def free_port(first: int) -> int:
    """Return a free port to propose, at or above `first` where there is one."""
    return next(p for p in (*range(first, 65536), *range(1024, 65536)) if processes.holder_of(p, loopback()) is None)


def page_command(port: int, listener: Listener) -> list[str]:
    """Return the command of the page, behind common.same_origin and, with keys, app.gate."""
    spec = find_spec("app")
    if spec is None or not spec.submodule_search_locations or find_spec("streamlit") is None:
        raise LabError("the page's packages are not installed", "pip install '.[coordinator]', or lab up --no-page")
    name = "gated.py" if listener.keys else "local.py"
    script = os.path.join(spec.submodule_search_locations[0], name)  # noqa: PTH118 - find_spec gives strings
    settings = "--server.headless true --browser.gatherUsageStats false --server.fileWatcherType none".split()
    settings += ["--server.allowedHosts", "*"]  # common.same_origin has compared the name already
    address = ["--server.address", listener.address, "--server.port", str(port)]
    return [*python(), "streamlit", "run", script, *address, *settings]


def _start_page(paths: Paths, app_port: int, listener: Listener, environment: dict[str, str]) -> processes.Service:
    # The page asks the server what the machines do; where the server has roles, by a password that can only read.
    access = {name: environment[name] for name in ("PREFECT_API_URL", *ACCESS) if name in environment}
    access[USER_HOME] = str(home_folder())
    if listener.keys:
        del access["PREFECT_API_AUTH_STRING"]  # the coordinator's
        access |= {PASSWORD: listener.keys.page, PAGE_AUTH: secrets.page_auth(listener.keys)}
    # Streamlit reads its settings from .streamlit in the folder that it is started in, and in the user's home.
    own = processes.clean_environment(paths, **access, HOME=str(paths.home), USERPROFILE=str(paths.home))
    return processes.start(paths, PAGE, page_command(app_port, listener), own, app_port, listener, project_files())


def _wait_for_page(paths: Paths, listener: Listener, page: processes.Service) -> None:
    health, asks = f"{page.url}/_stcore/health", f"{USER}:{listener.keys.page}" if listener.keys else None
    if not processes.wait_until(lambda: answers(health, asks), START_S, page):
        raise LabError("the page did not come up", f"see {paths.home / 'logs' / 'page.log'}")


def renew_page_password() -> secrets.Keys:
    """Give the page another password, and start it again if it runs with one: cookies, links and open pages end.

    Raises:
        LabError: the page did not come up again.
    """
    paths = Paths.local()
    page, server = processes.running(paths, PAGE), processes.running(paths, SERVER)
    keys = secrets.renew_page()
    if page and page.port and page.needs_keys:
        listener = Listener(page.address, keys)
        environment = prefect_environment(paths, server.port if server and server.port else SERVER_PORT, listener)
        down((PAGE,))
        _wait_for_page(paths, listener, _start_page(paths, page.port, listener, environment))
    return keys


def worker_command(*pools: str) -> list[str]:
    """Return the command of this host's worker for some pools: one shard at a time, or the coordinator's few small flows."""
    return [*python(), "lab.services.worker", "--name", host_name(), *pools]


def start_worker(
    paths: Paths, pools: Sequence[str], environment: Mapping[str, str], measure: bool = False
) -> list[processes.Service]:
    """Start one process that serves all `pools`, and record it as the worker of each; have it `measure` the machine."""
    if not pools:
        return []
    command = [*worker_command(*pools), *(["--measure"] if measure else [])]
    first = processes.start(paths, f"worker-{pools[0]}", command, environment)
    others = [replace(first, name=f"worker-{pool}") for pool in pools[1:]]
    names = {s.name for s in others}
    processes.record(paths, [*(s for s in processes.recorded(paths) if s.name not in names), *others])
    return [first, *others]


def _start_workers(
    paths: Paths,
    environment: dict[str, str],
    alive: dict[str, processes.Service],
    fresh: bool,
    assessment: threading.Thread,
    serve: Sequence[str],
    quick: bool,
    say: Say,
) -> list[str]:
    client = connect(environment["PREFECT_API_URL"], environment.get("PREFECT_API_AUTH_STRING"))
    create_pools(client)
    create_watches(client)
    publish(client, installation())
    if fresh:
        crash_orphaned_runs(client)
    # Before the workers start: beside them it met "database is locked" on SQLite and took over three minutes (measured).
    deploy(paths, environment, say)
    assessment.join()
    report = assessing.fresh_report(paths)
    if report is None:
        raise LabError("this machine could not be assessed", "lab assess")
    # Machines that join look for it, and the results store may be another one than when it was made.
    Store.configured(paths).put_report(report.host, report.model_dump_json(indent=1).encode())
    say(f"{report.host} is {report.tier}" + "".join(f"; {r}" for r in report.reasons))
    pools = (COORDINATOR, *pools_served(report, serve))
    measure = not quick and report.matrix_gflops is None and len(pools) > 1
    create_queues(client, pools, host_name())
    begun = start_worker(paths, [p for p in pools if f"worker-{p}" not in alive], environment, measure)
    alive |= {service.name: service for service in begun}
    started = [service.name for service in begun]
    if started:
        say(f"starting workers: {', '.join(pools)}")
    if started and measure:
        say(NOT_MEASURED)
    ready = processes.wait_until(lambda: all(host_name() in online_workers(client).get(p, []) for p in pools), START_S)
    if not ready:
        raise LabError("the workers did not come online", f"see {paths.home / 'logs'}")
    return started


def deploy(paths: Paths, environment: dict[str, str], say: Say) -> None:
    """Run `prefect deploy --all`, unless the same prefect.yaml and flows were deployed to this database before."""
    file = project_files() / "prefect.yaml"
    # A deployment has the parameters of its flow, and the server refuses others.
    code = sorted(Path(str(flows.__file__)).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [file, *code])).hexdigest().encode()
    mark = paths.home / "prefect" / "deployed"
    if mark.is_file() and mark.read_bytes() == digest:
        return
    say("deploying prefect.yaml")
    command = [*python(), *"prefect --no-prompt deploy --all --prefect-file".split(), str(file)]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=paths.home, env=environment, capture_output=True, text=True, timeout=START_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"prefect deploy did not end within {START_S:.0f} s", "lab up again") from None
    if done.returncode != 0:
        raise LabError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()[-300:]}", "prefect deploy --all")
    write_whole(mark, digest)


def crash_orphaned_runs(client: Any) -> None:
    """Mark runs as Crashed that a dead coordinator left open, since their processes no longer exist.

    Runs of other machines, and those whose process still runs on this one, are left alone.
    """
    from prefect.states import Crashed

    for run in list(flow_runs(client, unfinished(["RUNNING", "PENDING", "CANCELLING", "SCHEDULED"]))):
        elsewhere = [t for t in run.tags if t.startswith(HOST_TAG) and t != f"{HOST_TAG}{host_name()}"]
        if run.auto_scheduled or elsewhere:
            continue
        pid = (run.infrastructure_pid or "").rpartition(":")[2]  # with a host before it or without
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
            if "prefect" in " ".join(psutil.Process(int(pid)).cmdline()):
                continue
        client.set_flow_run_state(run.id, Crashed(message="its process ended when the coordinator stopped"), force=True)


def status() -> list[ServiceState]:
    """Return the recorded services, dead or alive, then processes whose service has died."""
    paths = Paths.local()
    found = []
    for s in processes.recorded(paths):
        runs = sorted(set(processes.family(s)) - {s.pid})
        found.append(ServiceState(s.name, s.pid, s.port, s.address if s.port else None, s.alive, runs))
    return found + [ServiceState(ORPHAN, p.pid, None, None, True, []) for p in processes.orphans(paths)]


def down(only: tuple[str, ...] | None = None) -> list[str]:
    """Stop all recorded services and orphaned processes, or only the named services; return the names of what was stopped.

    The server stops last, since workers sign off there.
    """
    paths = Paths.local()
    chosen = [s for s in processes.recorded(paths) if only is None or s.name in only]
    stopped = processes.stop([s for s in chosen if s.name != SERVER])
    stopped += processes.stop([s for s in chosen if s.name == SERVER])
    if only is None and (orphans := {p.pid: p for p in processes.orphans(paths)}):
        processes.end(orphans)
        stopped.append("orphaned processes")
    if chosen:
        processes.record(paths, [s for s in processes.recorded(paths) if s not in chosen])
    return stopped
