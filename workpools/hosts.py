"""Hosts as the Prefect server knows them: who is online, what runs where, and who takes no more work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from common.environment import checked_host
from common.errors import LabError
from workpools.report import CapabilityReport
from workpools.tiers import POOLS

HOST_TAG = "host:"  # a shard says with it where it runs
UNNAMED = "ProcessWorker "  # how Prefect names a worker that was started without --name; it may be on any host
UNKNOWN = "unknown"  # tier of a host without a report
VARIABLE = "drained_hosts"  # the Prefect variable with the names, a JSON list
MAX_VARIABLE = 5000  # characters of JSON (Prefect's MAX_VARIABLE_VALUE_LENGTH)
TRIES = 5
SETTLE_S = 0.3  # longer than another command takes from its reading to its writing, unless the server is busy
PAGE = 200  # runs that the server gives at once (PREFECT_SERVER_API_DEFAULT_LIMIT)
SHOWN_VERSIONS = ("torch", "prefect")

Status = Literal["online", "offline", "draining", "drained"]


@dataclass(frozen=True)
class Seen:
    """A worker of a pool as the server last heard of it."""

    pool: str
    name: str
    online: bool
    last_heartbeat: datetime | None


@dataclass(frozen=True)
class HostState:
    """A host now. Speeds and versions are of its report, None and absent where it has none or they were not measured."""

    host: str
    tier: str
    status: Status  # draining: drained, and something still runs
    pools: tuple[str, ...]  # in which a worker of this name is online
    last_heartbeat: datetime | None  # UTC
    running: tuple[str, ...]  # names of the flow runs that say that they run here
    matrix_gflops: float | None
    embedding_texts_per_s: float | None
    prefill_tokens_per_s: float | None
    versions: dict[str, str]


def drained(client: Any) -> frozenset[str]:
    """Names of the hosts that take no more work.

    Raises:
        LabError: somebody put something else into the variable. It is not taken for empty: a host may be out of use.
    """
    found = client.read_variable_by_name(VARIABLE)
    return frozenset() if found is None else _names(found.value)


def _names(value: Any) -> frozenset[str]:
    with suppress(LabError):
        if isinstance(value, list) and all(isinstance(name, str) and checked_host(name) for name in value):
            return frozenset(value)
    raise LabError(
        f"the Prefect variable {VARIABLE} = {value!r:.80} is no list of host names",
        f"prefect variable unset {VARIABLE}, then lab drain each host again",
    )


def drain(client: Any, host: str) -> bool:
    """Keep new work from a host; what runs there goes on. False when that was so already.

    Prefect has no comparing write, so that of two commands at once one may overwrite the other's: each looks again after a
    moment and repeats. Only a command that takes longer than that from reading to writing could still undo another.

    Raises:
        LabError: no host name, the variable is full or damaged, or others kept changing it.
    """
    return _change(client, host, True)


def undrain(client: Any, host: str) -> bool:
    """Give a host work again; False when it was not drained. Races and errors as for `drain`."""
    return _change(client, host, False)


def _change(client: Any, host: str, wanted: bool) -> bool:
    checked_host(host)
    changed = False
    for _ in range(TRIES):
        found = client.read_variable_by_name(VARIABLE)
        names = frozenset() if found is None else _names(found.value)
        if (host in names) is wanted:
            return changed
        _write(client, names | {host} if wanted else names - {host}, new=found is None)
        changed = True
        time.sleep(SETTLE_S)
    raise LabError(f"others keep changing the Prefect variable {VARIABLE}", "try again")


def _write(client: Any, names: Iterable[str], new: bool) -> None:
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate
    from prefect.exceptions import ObjectAlreadyExists

    value = sorted(names)
    if len(json.dumps(value, separators=(",", ":"))) > MAX_VARIABLE:
        raise LabError(
            f"{len(value)} drained hosts do not fit into a Prefect variable of {MAX_VARIABLE} characters",
            "lab undrain those that are gone",
        )
    if not new:
        client.update_variable(VariableUpdate(name=VARIABLE, value=value))
        return
    with suppress(ObjectAlreadyExists):  # made by another command just now; the caller looks again
        client.create_variable(VariableCreate(name=VARIABLE, value=value))


def seen_workers(client: Any) -> list[Seen]:
    """Every worker of our pools, of each pool the 200 heard of last."""
    present = {pool.name for pool in client.read_work_pools()}
    return [
        Seen(pool, w.name, str(getattr(w.status, "value", w.status)) == "ONLINE", w.last_heartbeat_time)
        for pool in POOLS
        if pool in present
        for w in client.read_workers_for_work_pool(pool)
    ]


def running(client: Any) -> dict[str, list[str]]:
    """Names of the flow runs in state Running, by the host that their tag names."""
    found: dict[str, list[str]] = {}
    for run in _runs(client, "RUNNING"):
        for host in _hosts_of(run):
            found.setdefault(host, []).append(run.name)
    return found


def give_up(client: Any, host: str) -> list[str]:
    """Mark everything that is under way on a host, or meant for it, as crashed; the names of those runs.

    The pipeline asks for their units again. Should the host be alive after all, what it delivers does no harm.
    """
    from prefect.states import Crashed

    checked_host(host)
    found = [
        run
        for run in list(_runs(client, "RUNNING", "PENDING", "SCHEDULED"))
        if host in _hosts_of(run) or run.parameters.get("host") == host
    ]
    for run in found:
        client.set_flow_run_state(run.id, Crashed(message=f"{host} was given up by hand"), force=True)
    return [run.name for run in found]


def _hosts_of(run: Any) -> list[str]:
    return [tag.removeprefix(HOST_TAG) for tag in run.tags if tag.startswith(HOST_TAG)]


def _runs(client: Any, *types: str) -> Iterator[Any]:
    """Flow runs in states of these types, the earliest first, however many there are."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType(t) for t in types]))
    offset, more = 0, True
    while more:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state), sort=FlowRunSort.START_TIME_ASC, limit=PAGE, offset=offset
        )
        yield from runs
        offset, more = offset + len(runs), len(runs) == PAGE


def host_states(client: Any, reports: Sequence[CapabilityReport]) -> list[HostState]:
    """Every host that has a report, a worker, something running, or is drained; by name."""
    return combined(reports, seen_workers(client), running(client), drained(client))


def combined(
    reports: Sequence[CapabilityReport],
    workers: Sequence[Seen],
    runs: Mapping[str, Sequence[str]],
    out_of_use: frozenset[str],
) -> list[HostState]:
    """What each of four sources says of a host, in one row.

    A worker with a name of Prefect's own making gets a row while it is online, since its host is not known; offline it
    will never be heard of again, as the next start makes another name.
    """
    known = {r.host: r for r in reports}
    mine: dict[str, list[Seen]] = {}
    for worker in workers:
        if worker.online or not worker.name.startswith(UNNAMED):
            mine.setdefault(worker.name, []).append(worker)
    names = sorted({*known, *mine, *runs, *out_of_use})
    return [_state(n, known.get(n), mine.get(n, ()), tuple(runs.get(n, ())), n in out_of_use) for n in names]


def _state(
    host: str, report: CapabilityReport | None, workers: Sequence[Seen], runs: tuple[str, ...], out_of_use: bool
) -> HostState:
    online = {w.pool for w in workers if w.online}
    status: Status = "online" if online else "offline"
    if out_of_use:
        status = "draining" if runs else "drained"
    beats = [w.last_heartbeat.astimezone(UTC) for w in workers if w.last_heartbeat]
    versions = {} if report is None else {"python": report.python} | report.versions
    return HostState(
        host=host,
        tier=report.tier if report else UNKNOWN,
        status=status,
        pools=tuple(p for p in POOLS if p in online),
        last_heartbeat=max(beats, default=None),
        running=runs,
        matrix_gflops=report.matrix_gflops if report else None,
        embedding_texts_per_s=report.embedding_texts_per_s if report else None,
        prefill_tokens_per_s=report.prefill_tokens_per_s if report else None,
        versions={name: versions[name] for name in ("python", *SHOWN_VERSIONS) if name in versions},
    )
