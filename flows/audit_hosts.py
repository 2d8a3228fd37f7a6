"""The flow `audit`: finished units once more, each on another host than the one that computed it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from prefect import flow, get_run_logger

from common.errors import LabError
from experiments.registry import get_phase
from flows.attempts import MAX_ATTEMPTS, MAX_RETURNS
from flows.audit import Second, attempt_of, by_phase, run_of
from flows.dispatch import Dispatcher
from flows.forecast import registered
from warehouse.database import audits
from warehouse.database.audits import Audit, Finished
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.hosts import drained
from workpools.needs import needs_of
from workpools.placement import Placement, fit_hosts
from workpools.pools import online_workers

Where = dict[str, tuple[str, Placement]]  # unit id -> the other host, and how it is reached


def others(client: Any, store: Store, audit: Audit, host: str | None) -> Where:
    """Another fit host for each unit of the sample, by turns; units for which there is none are left out.

    Raises:
        LabError: `host` is given, and no worker of it that fits is online.
    """
    online, off, reports = online_workers(client), drained(client), registered(store).reports
    found: Where = {}
    fit: dict[str, dict[str, Placement]] = {}
    for phase in {f.unit.phase for f in audit.sample}:
        module = get_phase(phase)
        try:
            model = next(f.unit.config["model"] for f in audit.sample if f.unit.phase == phase)
            fit[phase] = fit_hosts(module.PROFILE, needs_of(module.NEEDS, model), online, reports, off)
        except LabError:
            fit[phase] = {}
        if host is not None and host not in fit[phase]:
            there = ", ".join(sorted(fit[phase])) or "none"
            raise LabError(f"{host} does not fit {phase} or is not online; fit: {there}", "lab hosts")
    for i, one in enumerate(audit.sample):
        able = fit[one.unit.phase]
        names = [h for h in sorted(able) if h != one.host and host in (None, h)]
        if names:
            name = names[i % len(names)]
            found[one.unit.unit_id] = (name, able[name])
    return found


def again_on(paths: Paths, store: Store, audit: Audit, where: Where, before: Collection[str], second: Second) -> None:
    """Run units again where `others` says, as one flow run on the server that Prefect's settings name."""
    asked = [f for f in audit.sample if f.unit.unit_id in where]
    hosts = {f.unit.unit_id: where[f.unit.unit_id][0] for f in asked}

    @flow(name="audit", flow_run_name="audit · {run_id}", persist_result=False)
    def again(run_id: str, units: dict[str, str]) -> int:
        """Only what people read in Prefect's pages is a parameter."""
        dispatcher = Dispatcher(store, run_of(asked, run_id))
        left, tries, returns, said = list(asked), 0, 0, ""
        while left and tries < MAX_ATTEMPTS and returns < MAX_RETURNS:
            _submit(dispatcher, where, left, attempt_of(asked) + tries + returns)
            given_back = False
            while dispatcher.under_way():
                ended = dispatcher.wait(partial(_all_here, paths, store, units, before))
                given_back |= bool(ended.given_back) and not ended.failed
                said = "; ".join(ended.errors) or said
            # A worker that polls the queues of others gives back what it must not run: that is no try.
            tries, returns = (tries, returns + 1) if given_back else (tries + 1, returns)
            with writing(paths) as con:
                there = audits.second_results(con, units, before)
            left = [f for f in left if f.unit.unit_id not in there]
        if said:
            # A shard tells of its units together; those that have a result all the same are compared.
            second.wrong |= dict.fromkeys(units, said[:300])
        get_run_logger().info("%d of %d units were run again elsewhere", len(units) - len(left), len(units))
        return len(units) - len(left)

    second.where |= hosts
    again(audit.run_id, hosts)


def _submit(dispatcher: Dispatcher, where: Where, left: Sequence[Finished], attempt: int) -> None:
    """A shard for each phase and host."""
    for phase, units in by_phase(left):
        for name, placed in {where[u.unit_id][0]: where[u.unit_id][1] for u in units}.items():
            part = [u for u in units if where[u.unit_id][0] == name]
            dispatcher.submit_to(phase, name, placed, part, attempt)


def _all_here(paths: Paths, store: Store, hosts: dict[str, str], before: Collection[str]) -> bool:
    """Take in what waits; whether every unit has its second result."""
    if not collect(paths, store).ingested:
        return False
    with writing(paths) as con:
        return len(audits.second_results(con, hosts, before)) == len(hosts)
