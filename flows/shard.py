"""The flow `shard`: some units of one phase on one host, each unit a task with retries."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import httpx
import pydantic
from prefect import flow, get_client, get_run_logger, task
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.tasks import exponential_backoff

from common import proxies
from common.environment import host_name
from common.errors import LabError
from common.files import locked_file
from experiments.backends.conversions import none_left
from experiments.backends.embedding_cache import backends_for
from experiments.backends.model_cache import Backends
from experiments.contract import PhaseConfig, Unit
from experiments.domains import fetch_data
from experiments.protocol.identity import check_unit, unable
from experiments.registry import get_phase
from flows.unit_run import OUT_OF_MEMORY, run_unit
from warehouse.delivery.results_store import Store, UnreachableError
from warehouse.delivery.transports.choice import SETTING
from warehouse.paths import Paths
from workpools.faults import GIVEN_BACK, RUN, Fault, message
from workpools.fit import lacks_now, unfit_now
from workpools.hosts import HOST_TAG, drained, given_up
from workpools.needs import demand

ASKED_AGAIN = 3  # times, after 2, 4 and 8 s: by its settings Prefect's client may wait many minutes for its server
DELIVER_S = 300.0  # for delivery to succeed; after that the shard fails, with the reason
DELIVER_AGAIN_S = 5.0
ALONE_AGAIN_S = 1.0
ALONE_S = 600.0  # as long as a shard should take: another machine may be free by then, and a stopped process never ends


def may_retry(task: Any, run: Any, state: Any) -> bool:
    """Return True for an error that may pass: a connection, a time-out, a busy file.

    A user's mistake (other code, a missing model) stays one, and too little memory asks for another machine.
    """
    try:
        state.result()
    except UnreachableError:
        return True
    except (LabError, MemoryError):
        return False
    except Exception as error:
        return not OUT_OF_MEMORY.search(str(error))
    return False


@task(
    task_run_name="{label}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=may_retry,
    persist_result=False,
)
def work(label: str, unit: dict[str, Any], backends: Any, attempt: int) -> int:
    """Run one unit and deliver its bundle."""
    paths = Paths.local()
    try:
        trials = run_unit(Unit.from_json(unit), backends, paths, Store.configured(paths), attempt)
    except MemoryError as error:  # it has no message of its own
        raise MemoryError(f"out of memory on {host_name()}: {error}") from error
    get_run_logger().info("%s: %d trials computed", label, trials)
    return trials


def _add_host(phase: str, label: str) -> None:
    """Add this host to the run's name, for people, and to its tags, for the pipeline."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    this, name, tags = context.flow_run.id, f"{phase} · {label} · {host_name()}", context.flow_run.tags
    _if_answered(lambda client: client.update_flow_run(this, name=name, tags=[*tags, f"{HOST_TAG}{host_name()}"]))


def unwanted() -> str | None:
    """Return why the server says that this shard must not begin; None also if it does not answer."""
    context = FlowRunContext.get()
    this = context.flow_run if context else None

    def ask(client: Any) -> str | None:
        if host_name() in drained(client):
            return "it was drained"
        why = given_up(client, this.id) if this else None
        return None if why is None else f"it began after the shard had been given up: {why}"

    found: str | None = _if_answered(ask)
    return found


def _if_answered(ask: Callable[[Any], Any]) -> Any:
    """Return the server's answer; None if it does not answer: the work matters more than anything that a shard asks."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: ASKED_AGAIN}), get_client(sync_client=True) as client:
        try:
            return ask(client)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                raise
            get_run_logger().warning("the server does not answer (%s); work goes on without it", type(error).__name__)
            return None


def _check_host(host: str | None) -> None:
    """Give the shard back if it was given up or this host must not run it; either may have changed since it was submitted."""
    local = host_name()
    if host is not None and host != local:
        _give_back(f"meant for {host}, taken by {local}, whose worker polls all queues")
    if why := unwanted():
        _give_back(why)


def _check_fit(units: Sequence[Unit], store: Store) -> None:
    """Give the shard back if this host's installation is another one, or its memory or disk are not enough now.

    With other code, data, models or versions it is left out of the run; without an engine or a model, of the phase.
    """
    config = _config(units[0])
    profile, needs = demand(units[0].phase, config)
    if why := lacks_now(needs):
        _leave_out(why, f"on {host_name()}: lab doctor", units[0].phase)
    _check_identity(units, config, store)
    if why := unfit_now(profile) or next(filter(None, (unable(u, config) for u in units)), ""):
        _give_back(why)


def _read_units(content: bytes, unit_ids: Sequence[str]) -> list[Unit]:
    """Return the shard's units; leave this host out of the run if it cannot read them."""
    try:
        found = {u["unit_id"]: Unit.from_json(u) for u in json.loads(content)["units"]}
        return [found[i] for i in unit_ids]
    except (ValueError, KeyError, TypeError) as error:
        _leave_out(f"its code cannot read the units: {type(error).__name__}: {error}", _upgrade())


def _config(unit: Unit) -> PhaseConfig:
    """Return the unit's configuration; leave this host out of the run if its code has no such phase or value."""
    try:
        return get_phase(unit.phase).Config(**unit.config)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"its code does not know the plan: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        _leave_out(why, _upgrade())
    except LabError as error:
        _leave_out(error.what, _upgrade())


def _check_identity(units: Sequence[Unit], config: PhaseConfig, store: Store) -> None:
    """Leave this host out of the run unless it has the code, data, models and versions that the units were planned with."""
    try:
        fetch_data(config.domain, store.get_file)
        for unit in units:
            check_unit(unit, config)
    except UnreachableError as error:
        _give_back(str(error))
    except LabError as error:
        _leave_out(error.what, _upgrade())


def _upgrade() -> str:
    return f"on {host_name()}: lab join --upgrade"


def _give_back(why: str) -> NoReturn:
    """End the shard; the pipeline submits its units again, and no attempt is counted."""
    raise LabError(f"{GIVEN_BACK} by {host_name()}: {why}", "lab hosts")


def _leave_out(why: str, mend: str, of: str = RUN) -> NoReturn:
    """As _give_back, and this host gets nothing more of the run, or of a phase."""
    raise LabError(message(Fault(host_name(), why, of)), mend)


@contextmanager
def one_shard_at_a_time(paths: Paths) -> Iterator[None]:
    """Hold this host's lock for shards: workers of several pools would start one each, on the same memory.

    The lock is the system's, so a process that dies releases it. After ALONE_S the shard is given back.
    """
    paths.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        waited = 0.0
        while True:
            try:
                held.enter_context(locked_file(paths.shard_lock(host_name()), 0))
                break
            except TimeoutError:
                if not waited:
                    get_run_logger().info(
                        "%s works on another shard or measures its speed; this one waits", host_name()
                    )
            if waited >= ALONE_S:
                _give_back(f"another shard has been running there for {ALONE_S:.0f} s or more")
            time.sleep(ALONE_AGAIN_S)
            waited += ALONE_AGAIN_S
        yield


def configured_store(paths: Paths) -> Store:
    """Return the results store of this host; leave the host out of the run if it cannot have one."""
    try:
        return Store.configured(paths)
    except LabError as error:
        _leave_out(error.what, f"on {host_name()}: {error.mend}")


def read_job(store: Store, job: str) -> bytes:
    """Return the file with the units; ask again while the store does not answer, for DELIVER_S.

    A host whose store does not have the file, or that cannot reach it, is left out of the run.
    """
    end = time.monotonic() + DELIVER_S
    while True:
        try:
            return store.get_file(job)
        except UnreachableError as error:
            if time.monotonic() > end:
                _leave_out(error.what, f"on {host_name()}: {error.mend or 'lab doctor'}")
            time.sleep(DELIVER_AGAIN_S)
        except LabError as error:
            mend = f"on {host_name()}: lab down, set {SETTING} to the coordinator's (there: lab invite), then lab join"
            _leave_out(f"its results store is not the coordinator's: {error.what}", mend)


def deliver_spool(paths: Paths, store: Store) -> None:
    """Deliver the bundles in this host's spool; try again while the store does not answer, for DELIVER_S.

    Then the host is left out of the run: its units are not to blame.
    """
    end = time.monotonic() + DELIVER_S
    while (found := store.deliver(paths.spool)).waiting:
        if time.monotonic() > end:
            _leave_out(f"{found.waiting} bundles wait there: {found.reason}", f"on {host_name()}: lab sync")
        time.sleep(DELIVER_AGAIN_S)


@flow(name="shard", flow_run_name="{phase} · {label}", persist_result=False)
def shard(
    run_id: str,
    phase: str,
    label: str,
    job: str,
    unit_ids: list[str],
    attempt: int = 1,
    host: str | None = None,
    replicate: bool = False,
) -> dict[str, Any]:
    """Run those of `unit_ids` that have no bundle yet.

    Args:
        run_id, phase, label: names in Prefect's pages.
        job: SHA-256 of the file in the results store that holds the units.
        unit_ids: the units that are this shard's part.
        attempt: number for the bundles.
        host: the only host that may run it; any of the pool unless given.
        replicate: run them although another host has their bundles.
    """
    proxies.prepare()  # a worker that the user started has the user's variables
    paths = Paths.local()
    _add_host(phase, label)
    store = configured_store(paths)
    with one_shard_at_a_time(paths), none_left():
        _check_host(host)
        units = _read_units(read_job(store, job), unit_ids)
        _check_fit(units, store)
        log = get_run_logger()
        log.info("%s of run %s: %d units on %s, attempt %d", phase, run_id, len(unit_ids), host_name(), attempt)
        store.deliver(paths.spool)  # bundles that wait from before may be of these units
        backends = backends_for(phase, Backends(store.get_file))
        trials = _run_units(phase, units, backends, store, attempt, replicate)
        deliver_spool(paths, store)
    return {"host": host_name(), "units": len(unit_ids), "trials": trials}


def _run_units(
    phase: str, units: Sequence[Unit], backends: Backends, store: Store, attempt: int, replicate: bool
) -> int:
    """Run the units without a bundle, or all if replicated; return the number of trials."""
    trials = 0
    for unit in units:
        if not replicate and store.has_bundle(unit.unit_id):
            get_run_logger().info("unit %s already has a bundle", unit.unit_id[:8])
            continue
        role = "/".join(str(unit.spec[k]) for k in ("role", "part", "dataset", "condition") if k in unit.spec)
        trials += work(f"{phase} {role} {unit.unit_id[:8]}".replace("  ", " "), unit.to_json(), backends, attempt)
    return trials
