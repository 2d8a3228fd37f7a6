"""Hosts as the Prefect server lists them: which are online, what runs on them, and which are drained."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from common.environment import checked_host
from common.errors import LabError
from workpools.faults import recent_faults
from workpools.report import CapabilityReport
from workpools.server_rows import RunRow, flow_runs, states, workers
from workpools.tiers import POOLS

HOST_TAG = "host:"  # on a shard's flow run: the host that runs it
UNNAMED = "ProcessWorker "  # begins the name that Prefect gives a worker started without --name; it may be on any host
UNKNOWN = "unknown"  # tier of a host without a report
VARIABLE = "drained_hosts"  # the Prefect variable with the names, a JSON list
MAX_VARIABLE = 5000  # characters of JSON (Prefect's MAX_VARIABLE_VALUE_LENGTH)
ATTEMPTS = 5
RACE_S = 0.3  # longer than another command takes between reading and writing, unless the server is busy
UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING")  # types of state
SHOWN_VERSIONS = ("torch", "prefect")

Status = Literal["online", "offline", "draining", "drained"]


@dataclass(frozen=True)
class WorkerState:
    """A worker of a pool as the server lists it."""

    pool: str
    name: str
    online: bool
    last_heartbeat: datetime | None


@dataclass(frozen=True)
class HostState:
    """A host now. Speeds and versions come from its report; without one, or not measured, they are None and absent."""

    host: str
    tier: str
    status: Status  # draining: drained, and flow runs still run
    pools: tuple[str, ...]  # in which a worker of this name is online
    last_heartbeat: datetime | None  # UTC
    running: tuple[str, ...]  # names of the flow runs on it
    matrix_gflops: float | None
    embedding_texts_per_s: float | None
    prefill_tokens_per_s: float | None
    versions: dict[str, str]
    fault: str | None = None  # why its last shard was given back, and when; until the machine is assessed again


def drained(client: Any) -> frozenset[str]:
    """Return the names of the hosts that take no more work.

    Raises:
        LabError: the variable holds something else. It does not count as empty: hosts may be drained.
    """
    found = client.read_variable_by_name(VARIABLE)
    return frozenset() if found is None else _names(found.value)


def _names(value: Any) -> frozenset[str]:
    with suppress(LabError):
        if isinstance(value, list) and all(isinstance(name, str) and checked_host(name) for name in value):
            return frozenset(value)
    raise LabError(
        f"the Prefect variable {VARIABLE} = {value!r:.80} is not a list of host names",
        f"prefect variable unset {VARIABLE}, then lab drain each host again",
    )


def drain(client: Any, host: str) -> bool:
    """Stop giving new work to a host; running work goes on.

    Prefect has no compare-and-set, so of two commands at once one may overwrite the other's change: each reads again after
    RACE_S and repeats. Only a command that takes longer than that between reading and writing could still undo another.

    Returns:
        False if the host was drained already.

    Raises:
        LabError: not a host name, the variable is full or damaged, or other commands kept changing it.
    """
    return _change(client, host, True)


def undrain(client: Any, host: str) -> bool:
    """Give a host work again; return False if it was not drained. Races and errors as for `drain`."""
    return _change(client, host, False)


def _change(client: Any, host: str, wanted: bool) -> bool:
    checked_host(host)
    changed = False
    for _ in range(ATTEMPTS):
        found = client.read_variable_by_name(VARIABLE)
        names = frozenset() if found is None else _names(found.value)
        if (host in names) is wanted:
            return changed
        _write(client, names | {host} if wanted else names - {host}, new=found is None)
        changed = True
        time.sleep(RACE_S)
    raise LabError(f"other commands keep changing the Prefect variable {VARIABLE}", "try again")


def _write(client: Any, names: Iterable[str], new: bool) -> None:
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate
    from prefect.exceptions import ObjectAlreadyExists

    value = sorted(names)
    if len(json.dumps(value, separators=(",", ":"))) > MAX_VARIABLE:
        raise LabError(
            f"{len(value)} drained hosts do not fit into a Prefect variable of {MAX_VARIABLE} characters",
            "lab undrain the hosts that no longer exist",
        )
    if not new:
        client.update_variable(VariableUpdate(name=VARIABLE, value=value))
        return
    with suppress(ObjectAlreadyExists):  # created by another command just now; the caller reads again
        client.create_variable(VariableCreate(name=VARIABLE, value=value))


def worker_states(client: Any) -> list[WorkerState]:
    """Return the workers of this project's pools, of each pool the 200 with the latest heartbeats."""
    present = {pool.name for pool in client.read_work_pools()}
    return [
        WorkerState(pool, w.name, w.status == "ONLINE", w.last_heartbeat_time)
        for pool in POOLS
        if pool in present
        for w in workers(client, pool)
    ]


def remove_host(client: Any, host: str) -> bool:
    """Delete a host's workers from the server and undrain it; return False if the server did not know it."""
    from prefect.exceptions import ObjectNotFound

    found = undrain(client, host)
    for worker in worker_states(client):
        if worker.name == host:
            with suppress(ObjectNotFound):
                client.request("DELETE", f"/work_pools/{worker.pool}/workers/{host}")
            found = True
    return found


def running(client: Any) -> dict[str, list[str]]:
    """Return the names of the flow runs in state Running, by the host in their tags."""
    found: dict[str, list[str]] = {}
    for run in flow_runs(client, unfinished(["RUNNING"])):
        for host in _hosts_of(run):
            found.setdefault(host, []).append(run.name)
    return found


def give_up(client: Any, host: str) -> list[str]:
    """Mark all flow runs that run on a host, or are meant for it, as crashed; return their names.

    The pipeline submits their units again. If the host is alive after all, its bundles do no harm.
    """
    from prefect.states import Crashed

    checked_host(host)
    under_way = list(flow_runs(client, unfinished()))
    found = [run for run in under_way if host in _hosts_of(run) or run.parameters.get("host") == host]
    for run in found:
        client.set_flow_run_state(run.id, Crashed(message=f"{host} was given up by a user"), force=True)
    return [run.name for run in found]


def given_up(client: Any, run_id: UUID) -> str | None:
    """Return why a flow run was ended before it began; None if it was not, or was scheduled again since.

    Prefect lets a run that was marked as crashed or cancelled begin all the same, and then shows it as running.
    """
    why = None
    for state in states(client, run_id):
        if state.is_final():
            why = state.message or state.name
        elif state.type == "SCHEDULED":
            why = None
    return why


def _hosts_of(run: RunRow) -> list[str]:
    return [tag.removeprefix(HOST_TAG) for tag in run.tags if tag.startswith(HOST_TAG)]


def unfinished(types: Sequence[str] = UNFINISHED, **conditions: Any) -> dict[str, Any]:
    """Return Prefect's filter for flow runs in states of these types that meet other conditions, such as tags, as JSON."""
    return {"state": {"type": {"any_": list(types)}}} | conditions


def host_states(client: Any, reports: Sequence[CapabilityReport]) -> list[HostState]:
    """Return every host that has a report, a worker or a flow run, or is drained; by name."""
    rows = combined(reports, worker_states(client), running(client), drained(client))
    assessed, faults = {r.host: r.created_at for r in reports}, recent_faults(client)
    return [
        replace(row, fault=f"{found[1].why} (of {found[1].of}, {found[0]:%Y-%m-%d %H:%M} UTC)")
        if (found := faults.get(row.host)) and not found[0] < assessed.get(row.host, found[0])
        else row
        for row in rows
    ]


def combined(
    reports: Sequence[CapabilityReport],
    workers: Sequence[WorkerState],
    runs: Mapping[str, Sequence[str]],
    out_of_use: frozenset[str],
) -> list[HostState]:
    """Combine reports, workers, flow runs and drained hosts into one row a host.

    A worker whose name Prefect generated has a row while it is online, since its host is not known; once offline it never
    comes back, as the next start generates another name.
    """
    known = {r.host: r for r in reports}
    mine: dict[str, list[WorkerState]] = {}
    for worker in workers:
        if worker.online or not worker.name.startswith(UNNAMED):
            mine.setdefault(worker.name, []).append(worker)
    names = sorted({*known, *mine, *runs, *out_of_use})
    return [_state(n, known.get(n), mine.get(n, ()), tuple(runs.get(n, ())), n in out_of_use) for n in names]


def _state(
    host: str, report: CapabilityReport | None, workers: Sequence[WorkerState], runs: tuple[str, ...], out_of_use: bool
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
