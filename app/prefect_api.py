"""Machines and runs as Prefect's server reports them, over HTTP with short time-outs, so that no page hangs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from app import format as words
from app.commands import PAGE_AUTH
from common import proxies
from common.errors import LabError
from common.urls import without_secrets
from workpools.pipelines import TAG, run_of
from workpools.pipelines import UNDER_WAY as UNFINISHED
from workpools.pools import DEFAULT_API
from workpools.server_rows import FINAL, RunRow, WorkerRow, readable
from workpools.tiers import POOLS

CONNECT_S, ANSWER_S = 0.8, 2.5  # a server that is away is known within a second; a busy one on SQLite may take two
HOST_TAG = "host:"  # before the host's name in the tags of a shard (workpools.hosts)
UNNAMED = "ProcessWorker "  # how Prefect names a worker started without a name; once offline it never returns
DRAINED = "drained_hosts"  # the Prefect variable with the machines that take no more work (workpools.hosts)
UNDER_WAY, WAITING, ENDED_BADLY = ("RUNNING", "PENDING", "CANCELLING"), ("SCHEDULED",), ("FAILED", "CRASHED")
LISTED, ERRORS = 100, 10  # runs of a list; last errors
LOGIN = "export PREFECT_API_AUTH_STRING=user:password"
Json = dict[str, Any]
Answer = TypeVar("Answer")
CSRF_CLIENT = str(uuid4())  # of this process
# By the server's address; Prefect takes one in the place of a request from its own pages.
CSRF_TOKENS: dict[str, str] = {}


class AwayError(Exception):
    """The server gave no usable answer: `what` is wrong, and the command that mends it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what, self.mend = what, mend


@dataclass(frozen=True)
class Machine:
    """A worker's name as the server knows it."""

    name: str
    status: str  # online, offline, draining (drained, and something still runs) or drained
    pools: tuple[str, ...]  # in which it is online
    heartbeat_at: datetime | None
    running: tuple[str, ...]  # names of its runs


@dataclass(frozen=True)
class FlowRun:
    """A run of the pipeline or of a shard."""

    name: str
    state: str  # as Prefect's pages show it
    kind: str  # of the state: RUNNING, PENDING ...
    pool: str
    host: str
    since: datetime | None  # start, or the time for which it is meant
    message: str = ""
    run_id: str = ""  # of the run that it belongs to; empty until it has begun
    id: str = ""


@dataclass(frozen=True)
class Now:
    """All that one query of the server returned."""

    at: datetime
    machines: list[Machine] = field(default_factory=list)
    under_way: list[FlowRun] = field(default_factory=list)
    waiting: list[FlowRun] = field(default_factory=list)
    errors: list[FlowRun] = field(default_factory=list)


def in_words(now: Now) -> str:
    """Return machines, work and queue in a sentence."""
    online = sum(bool(m.pools) for m in now.machines)
    machines = f"{words.count(online, 'machine')} online" if online else "No machine is online"
    runs = f"{words.count(len(now.under_way), 'run')} under way" if now.under_way else "nothing under way"
    return f"{machines}, {runs}" + (f", {len(now.waiting):,} waiting" if now.waiting else "")


def address() -> str:
    """Return PREFECT_API_URL, which `lab up` sets, else Prefect's default port on this machine."""
    return os.environ.get("PREFECT_API_URL") or DEFAULT_API


def shown_address() -> str:
    """Return the address for people: without a user and a password."""
    return without_secrets(address())


def look(url: str) -> Now:
    """Ask the server at `url` for machines, runs, queue and errors. Raises AwayError as `pipelines` does."""
    return _answer(url, _look)


def pipelines(url: str, run_id: str | None = None) -> list[FlowRun]:
    """Ask the server at `url` for the pipelines under way, and the last one of a run, ended or not.

    Raises:
        AwayError: nothing answers in time, the server refuses this user, or it is no Prefect server.
    """

    def ask(client: Any) -> list[FlowRun]:
        found = _runs(client, UNFINISHED, "EXPECTED_START_TIME_DESC", LISTED, [TAG])
        if run_id and not any(run_of(r.tags) == run_id for r in found):
            found += _runs(client, FINAL, "EXPECTED_START_TIME_DESC", 1, [TAG, run_id])
        return [_run(r) for r in found]

    return _answer(url, ask)


def _answer(url: str, question: Callable[[Any], Answer]) -> Answer:
    import httpx

    shown = without_secrets(url)[:200]
    what, mend = f"The Prefect server at {shown}", "lab status"
    try:
        return _asked(url, question)
    except httpx.ConnectError:
        what, mend = f"No Prefect server answers at {shown}", "lab up"
    except httpx.TimeoutException:
        what += " does not answer in time"
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        what += f" answers with error {code}"
        if code in (401, 403):
            what, mend = f"The Prefect server at {shown} refuses this page", LOGIN
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError, LabError) as error:
        what = f"The server at {shown} is no Prefect server ({type(error).__name__})"
    raise AwayError(f"{what}.", mend)


def _asked(url: str, question: Callable[[Any], Answer]) -> Answer:
    import httpx

    own = os.environ.get(PAGE_AUTH) or os.environ.get("PREFECT_API_AUTH_STRING", "")
    user, colon, password = own.partition(":")
    limits, login = httpx.Timeout(ANSWER_S, connect=CONNECT_S), (user, password) if colon else None
    through_proxies = not proxies.is_own(proxies.host_of(url))
    with httpx.Client(base_url=f"{url.rstrip('/')}/", timeout=limits, auth=login, trust_env=through_proxies) as client:
        known = url in CSRF_TOKENS
        try:
            client.headers.update(_csrf_headers(client, url))
            return question(client)
        except httpx.HTTPStatusError as error:
            # A token is valid for an hour, or until the server has another database.
            if error.response.status_code != 403 or not known:
                raise
        del CSRF_TOKENS[url]
        client.headers.update(_csrf_headers(client, url))
        return question(client)


def _look(client: Any) -> Now:
    pools = {p["name"] for p in _post(client, "work_pools/filter", {})}
    workers = [
        (p, w)
        for p in POOLS
        if p in pools
        for w in readable(WorkerRow, _post(client, f"work_pools/{p}/workers/filter", {}))
    ]
    only = only_hosts(workers)
    under_way = [_run(r, only) for r in _runs(client, UNDER_WAY, "START_TIME_ASC", LISTED)]
    return Now(
        at=datetime.now(UTC),
        machines=_machines(workers, under_way, _drained(client)),
        under_way=under_way,
        # A scheduled run waits for its time, not for a machine.
        waiting=[_run(r) for r in _runs(client, WAITING, "EXPECTED_START_TIME_ASC", LISTED) if not r.auto_scheduled],
        errors=[_run(r) for r in _runs(client, ENDED_BADLY, "END_TIME_DESC", ERRORS)],
    )


def _csrf_headers(client: Any, url: str) -> dict[str, str]:
    """Return the headers that Prefect requires with each POST; none if its protection against web pages is off."""
    if url not in CSRF_TOKENS:
        reply = client.get("csrf-token", params={"client": CSRF_CLIENT})
        if reply.status_code in (404, 422):
            return {}
        reply.raise_for_status()
        CSRF_TOKENS[url] = str(reply.json()["token"])
    return {"Prefect-Csrf-Token": CSRF_TOKENS[url], "Prefect-Csrf-Client": CSRF_CLIENT}


def _post(client: Any, path: str, body: Json) -> Any:
    reply = client.post(path, json=body)
    reply.raise_for_status()
    return reply.json()


def _runs(client: Any, states: Sequence[str], sort: str, limit: int, tags: Sequence[str] = ()) -> list[RunRow]:
    runs = {"state": {"type": {"any_": list(states)}}} | ({"tags": {"all_": list(tags)}} if tags else {})
    wanted = {"flow_runs": runs, "sort": sort, "limit": limit}
    return readable(RunRow, _post(client, "flow_runs/filter", wanted))


def only_hosts(workers: Sequence[tuple[str, WorkerRow]]) -> dict[str, str]:
    """Return the host of each pool that has one worker online; a pipeline, which names no host, runs there."""
    online = [(pool, w.name) for pool, w in workers if w.status == "ONLINE"]
    return {pool: name for pool, name in online if sum(p == pool for p, _ in online) == 1}


def _drained(client: Any) -> set[str]:
    reply = client.get(f"variables/name/{DRAINED}")
    if reply.status_code == 404:
        return set()
    reply.raise_for_status()
    value = reply.json()["value"]
    return {str(name) for name in value} if isinstance(value, list) else set()


def _machines(workers: Sequence[tuple[str, WorkerRow]], runs: Sequence[FlowRun], drained: set[str]) -> list[Machine]:
    """Return one row per name; a name that Prefect generated only while it is online."""
    found = []
    for name in sorted({w.name for _, w in workers} | drained):
        own = [(pool, w) for pool, w in workers if w.name == name]
        online = tuple(pool for pool, w in own if w.status == "ONLINE")
        if not online and name.startswith(UNNAMED):
            continue
        own_runs = tuple(r.name for r in runs if r.host == name and r.kind == "RUNNING")
        status = "online" if online else "offline"
        if name in drained:
            status = "draining" if own_runs else "drained"
        beats = [w.last_heartbeat_time for _, w in own if w.last_heartbeat_time]
        found.append(Machine(name, status, online, max(beats, default=None), own_runs))
    return found


def _run(run: RunRow, only: Mapping[str, str] | None = None) -> FlowRun:
    pool, state = run.work_pool_name or "", run.state
    tagged = (t.removeprefix(HOST_TAG) for t in run.tags if t.startswith(HOST_TAG))
    return FlowRun(
        id=str(run.id),
        name=run.name,
        state=(state.name or state.type) if state else "",
        kind=state.type if state else "",
        pool=pool,
        host=next(tagged, (only or {}).get(pool, "")),
        since=run.end_time or run.start_time or run.expected_start_time,
        message=(state.message if state else None) or "",
        run_id=run_of(run.tags) or "",
    )
