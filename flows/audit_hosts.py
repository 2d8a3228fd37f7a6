"""The flow `audit`: run finished units again, each on another host than the one that computed it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

from prefect import flow, get_run_logger

from common.errors import LabError
from experiments.registry import get_phase
from flows.attempts import MAX_ATTEMPTS, MAX_RETURNS
from flows.audit import Reruns, attempt_of, by_phase, run_of
from flows.dispatch import Dispatcher
from flows.reports import registered
from warehouse.database import audits
from warehouse.database.audits import Audit, Finished
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.hosts import drained
from workpools.needs import demand
from workpools.placement import Placement, fit_hosts, out_of_use
from workpools.pools import online_workers


class OtherHost(NamedTuple):
    """The host that runs a unit again, and its placement."""

    name: str
    placement: Placement


Others = dict[str, OtherHost]  # by unit id


def others(client: Any, store: Store, audit: Audit, host: str | None) -> Others:
    """Choose another fit host for each unit of the sample, in turn; units without one are left out.

    Args:
        client: a synchronous Prefect client.
        host: the only host to use; any unless given.

    Raises:
        LabError: `host` is given, and no worker of it that fits is online.
    """
    online, off, reports = online_workers(client), out_of_use(drained(client)), registered(store).reports
    found: Others = {}
    fit: dict[str, dict[str, Placement]] = {}
    for phase, units in by_phase(audit.sample).items():
        try:
            asked = demand(phase, get_phase(phase).Config(**units[0].config))
            fit[phase] = fit_hosts(*asked, online, reports, off)
        except LabError:
            fit[phase] = {}
        if host is not None and host not in fit[phase]:
            fitting = ", ".join(sorted(fit[phase])) or "none"
            raise LabError(f"{host} does not fit {phase} or is not online; hosts that fit: {fitting}", "lab hosts")
    for i, one in enumerate(audit.sample):
        able = fit[one.unit.phase]
        names = [h for h in sorted(able) if h != one.host and host in (None, h)]
        if names:
            name = names[i % len(names)]
            found[one.unit.unit_id] = OtherHost(name, able[name])
    return found


def rerun_on_hosts(
    paths: Paths, store: Store, audit: Audit, where: Others, before: Collection[str], reruns: Reruns
) -> None:
    """Run units again on the hosts of `others`, as one flow run on the server of Prefect's settings.

    Args:
        where: the units to run, with their hosts.
        before: bundles of these units that were there before the audit.
        reruns: hosts and errors are added to it.
    """
    asked = [f for f in audit.sample if f.unit.unit_id in where]
    hosts = {f.unit.unit_id: where[f.unit.unit_id].name for f in asked}

    @flow(name="audit", flow_run_name="audit · {run_id}", persist_result=False)
    def again(run_id: str, units: dict[str, str]) -> int:
        """Take as parameters only what people read in Prefect's pages."""
        dispatcher = Dispatcher(store, run_of(asked, run_id))
        left, attempts, returns, error = list(asked), 0, 0, ""
        while left and attempts < MAX_ATTEMPTS and returns < MAX_RETURNS:
            _submit(dispatcher, where, left, attempt_of(asked) + attempts + returns)
            given_back = False
            while dispatcher.under_way():
                ended = dispatcher.wait(partial(_all_arrived, paths, store, units, before))
                given_back |= bool(ended.given_back) and not ended.failed
                error = "; ".join(ended.errors) or error
            # A worker that polls other hosts' queues gives back what it must not run: that is not an attempt.
            returns += given_back
            attempts += not given_back
            with writing(paths) as con:
                arrived = audits.second_results(con, units, before)
            left = [f for f in left if f.unit.unit_id not in arrived]
        if error:
            # The error is of a whole shard; its units that have a result all the same are compared.
            reruns.errors |= dict.fromkeys(units, error[:300])
        get_run_logger().info("%d of %d units were run again elsewhere", len(units) - len(left), len(units))
        return len(units) - len(left)

    reruns.hosts |= hosts
    again(audit.run_id, hosts)


def _submit(dispatcher: Dispatcher, where: Others, left: Sequence[Finished], attempt: int) -> None:
    """Submit a shard for each phase and host."""
    for phase, units in by_phase(left).items():
        for name, placement in {where[u.unit_id].name: where[u.unit_id].placement for u in units}.items():
            part = [u for u in units if where[u.unit_id].name == name]
            dispatcher.submit_to(phase, name, placement, part, attempt)


def _all_arrived(paths: Paths, store: Store, hosts: dict[str, str], before: Collection[str]) -> bool:
    """Ingest arrived bundles; return True once every unit has its second result."""
    if not collect(paths, store).ingested:
        return False
    with writing(paths) as con:
        return len(audits.second_results(con, hosts, before)) == len(hosts)
