"""Metrics of a phase from the trials in the warehouse, for the verdict and for its verification."""

from __future__ import annotations

from collections.abc import Sequence

from duckdb import DuckDBPyConnection as Connection

from common.environment import ALL_HOSTS
from experiments.contract import Metrics, PhaseConfig, Result, Trial
from experiments.findings import Earlier
from experiments.protocol import leakage_gate
from experiments.protocol.giving_up import failed_trials
from warehouse.database import records
from warehouse.database.statements import column_of


def results(con: Connection, run_id: str, phase: str, until: int | None = None) -> list[Result]:
    """Return the units that have results or were given up; the trials of the latter are failed ones.

    Args:
        until: leave out results with a higher number of arrival.
    """
    found = records.trials_of(con, run_id, phase, until=until)
    lost = records.given_up_of(con, run_id, phase, until=until)
    return [*found, *(Result(unit, failed_trials(unit, why)) for unit, why in lost)]


def measure(
    con: Connection, run_id: str, phase: str, config: PhaseConfig, findings: Earlier, until: int | None = None
) -> dict[str, Metrics]:
    """Compute the metrics over all hosts, under the name ALL_HOSTS, and then those of each host under its own name.

    Args:
        findings: those of the phases before it.
        until: leave out results with a higher number of arrival; repeats of units come in after the verdict.
    """
    hosts = records.hosts_of(con, run_id, phase, until=until)
    overall = leakage_gate.measured(phase, config, findings, flat(results(con, run_id, phase, until)))
    found = {ALL_HOSTS: overall}
    for host in hosts:
        trials = flat(records.trials_of(con, run_id, phase, host, until))
        # A host may have searched for leaks and nothing else.
        if any(t.condition != leakage_gate.LEAKAGE for t in trials):
            found[host] = overall if len(hosts) == 1 else leakage_gate.measured(phase, config, findings, trials)
    return found


def whole_hosts(con: Connection, run_id: str, phase: str, until: int | None = None) -> list[str]:
    """Return the hosts that have a result of every unit of this phase, by name; the search for leaks may be another's.

    Args:
        until: leave out results with a higher number of arrival.
    """
    units = [u.unit_id for u in records.units_of(con, run_id, phase) if u.spec.get("role") != leakage_gate.LEAKAGE]
    sql = (
        "SELECT host FROM bundles WHERE unit_id IN (SELECT unnest(?::VARCHAR[])) AND (arrival <= ? OR ? IS NULL) "
        "GROUP BY 1 HAVING count(DISTINCT unit_id) = ? ORDER BY 1"
    )
    return column_of(con, sql, [units, until, until, len(units)])


def flat(results: Sequence[Result]) -> list[Trial]:
    """Return all trials in the order of their units."""
    return [t for _, trials in results for t in trials]
