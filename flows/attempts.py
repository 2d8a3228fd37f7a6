"""How often a phase's units were tried, and when that is enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from prefect import get_run_logger

from common.errors import LabError
from experiments.contract import Unit
from flows.dispatch import Outcome, Try
from flows.plan import Run, options

MAX_ATTEMPTS = 3  # docs/design.md, "The path of the data", 9
MAX_RETURNS = 30  # times that a unit is given back by machines which are not fit, about ten seconds each


class Tries:
    """Attempts of the units of one phase, for each host where it is replicated."""

    def __init__(self, run: Run, phase: str) -> None:
        self.run = run
        self.phase = phase
        self.worked = False
        self._begun: Counter[Try] = Counter()
        self._given_back: Counter[str] = Counter()
        self._too_small: dict[str, str] = {}
        self._wrong: list[str] = []
        self._submissions = 0

    def above(self, units: Sequence[Unit]) -> dict[str | None, list[Unit]]:
        """The units by the pool whose machine ran out of memory with them, which only bigger ones get; None: any."""
        found: dict[str | None, list[Unit]] = {}
        for unit in units:
            found.setdefault(self._too_small.get(unit.unit_id), []).append(unit)
        return found

    def hopeless(self, units: Sequence[Unit]) -> tuple[list[Unit], str]:
        """(units that have had MAX_ATTEMPTS, why they are given up: what shards said last)."""
        said = f": {self._wrong[-1]}" if self._wrong else ""
        found = [u for u in units if self._begun[u.unit_id, None] >= MAX_ATTEMPTS]
        return found, f"no result after {MAX_ATTEMPTS} tries{said}"

    def begin(self, units: Sequence[Unit], host: str | None = None) -> int:
        """Count one more attempt of each unit; its number for the shards, which no two submissions share.

        Raises:
            LabError: nobody takes one; with what shards said last.
        """
        said = f"; {self._wrong[-1]}" if self._wrong else ""
        again = f"mend it, then: lab pipeline {options(self.run.scale, self.run.given)}"
        for unit in units:
            if self._given_back[unit.unit_id] > MAX_RETURNS:
                raise LabError(
                    f"unit {unit.unit_id[:8]} of {self.phase} was given back {MAX_RETURNS} times{said}", again
                )
            self._begun[unit.unit_id, host] += 1
        self.worked = True
        self._submissions += 1
        return self._submissions

    def left(self, units: Sequence[Unit], host: str, under_way: Collection[Try] = ()) -> list[Unit]:
        """Those that this host is at work on or may still try; what it cannot do at all is not asked of it again."""
        left = [u for u in units if (u.unit_id, host) in under_way or self._begun[u.unit_id, host] < MAX_ATTEMPTS]
        if len(left) < len(units):
            given_up = len(units) - len(left)
            get_run_logger().warning("%s: %s has no result of %d units, and is left out", self.phase, host, given_up)
        return left

    def ended(self, outcome: Outcome) -> None:
        """Learn from shards that ended: what was given back was no attempt; a bigger machine is asked for once."""
        for unit_id, host in outcome.given_back:
            self._begun[unit_id, host] -= 1
            self._given_back[unit_id] += 1
        self._wrong += outcome.wrong
        self._too_small = outcome.too_small | self._too_small
