"""Metrics of a phase from the trials in the warehouse: for the verdict when it is decided, and again when it is verified."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from duckdb import DuckDBPyConnection as Connection

from experiments.contract import Earlier, Metrics, PhaseConfig, Result, Trial
from experiments.protocol import leakage_gate
from experiments.protocol.giving_up import failed_trials
from warehouse.database import records

ALL_HOSTS = "all"


def results(con: Connection, run_id: str, phase: str, until: datetime | None = None) -> list[Result]:
    """Units with their trials; those that were given up have failed ones. With `until`, what was here then."""
    found = records.trials_of(con, run_id, phase, until=until)
    lost = records.given_up_of(con, run_id, phase, until=until)
    return [*found, *(Result(unit, failed_trials(unit, why)) for unit, why in lost)]


def measure(
    con: Connection, run_id: str, phase: str, config: PhaseConfig, findings: Earlier, until: datetime | None = None
) -> dict[str, Metrics]:
    """Metrics over all hosts, by the name ALL_HOSTS and first, and those of each host by its own name.

    Args:
        findings: of the phases before it.
        until: leave out what came in later; repeats of units come in after the verdict.
    """
    hosts = records.hosts_of(con, run_id, phase, until=until)
    overall = leakage_gate.measured(phase, config, findings, flat(results(con, run_id, phase, until)))
    found = {ALL_HOSTS: overall}
    for host in hosts:
        trials = flat(records.trials_of(con, run_id, phase, host, until))
        # A host may have searched for leaks and nothing else.
        if any(t.condition != leakage_gate.LEAKAGE for t in trials):
            alone = len(hosts) == 1
            found[host] = overall if alone else leakage_gate.measured(phase, config, findings, trials)
    return found


def flat(results: Sequence[Result]) -> list[Trial]:
    """All trials in the order of their units."""
    return [t for _, trials in results for t in trials]
