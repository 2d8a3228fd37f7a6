"""Take in results before a phase asks for more, and refuse to give up units whose bundles exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection as Connection

from common.errors import LabError
from experiments.contract import Unit
from flows.chain import Step, advance
from flows.plan import Run
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.protocol import bundles_in
from warehouse.ingest.collector import collect
from warehouse.ingest.outcome import Refused
from warehouse.paths import Paths


@dataclass(frozen=True)
class Intake:
    """The state of a phase after a collection, and which results could not be taken in now."""

    step: Step
    left: Mapping[str, str]  # unit id -> the bundle that stays, and why
    refused: Mapping[str, str]  # unit id -> the bundle that is in quarantine, and why


def take_in(con: Connection, paths: Paths, store: Store, run: Run, phase: str) -> Intake:
    """Collect, from the inbox and from what the archive holds without a row; then ask the phase for its next units."""
    before: set[str] = set()
    refused: dict[str, str] = {}
    while True:
        taken = collect(paths, store, con)
        refused |= _by_unit(taken.quarantined)
        step = advance(con, run, phase)
        # Units asked for only now may have results in the archive, where an older warehouse was put back.
        lost = {u.unit_id for u in step.pending} & _archived(paths)
        if lost == before:
            return Intake(step, _by_unit(taken.left), refused)
        before = lost


def existing(paths: Paths, store: Store, units: Sequence[Unit]) -> list[Unit]:
    """Return those units that have a bundle in the spool, the inbox or the archive of this host."""
    there = store.waiting() | _archived(paths)
    return [u for u in units if u.unit_id in there]


def not_taken_in(phase: str, unit: Unit, found: Intake, again: str) -> LabError:
    """Return the error for a unit whose bundle exists, but did not reach the warehouse.

    Args:
        again: the command that goes on, such as "lab run p1 --scale smoke".
    """
    why = found.left.get(unit.unit_id) or found.refused.get(unit.unit_id) or "its bundle waits for delivery (lab spool)"
    what = f"unit {unit.unit_id[:8]} of {phase} was computed, but its result did not reach the warehouse: {why}"
    return LabError(what, f"remove the cause, then: {again}")


def _by_unit(entries: Sequence[Refused]) -> dict[str, str]:
    return {name.split(".")[0]: f"{name}: {reason}" for name, reason in entries}


def _archived(paths: Paths) -> set[str]:
    return {path.name.split(".")[0] for path in bundles_in(paths.bundles)}
