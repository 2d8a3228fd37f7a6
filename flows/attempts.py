"""Count the attempts of each unit; give up after MAX_ATTEMPTS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from prefect import get_run_logger

from common.errors import LabError
from experiments.contract import Unit
from flows.dispatch import Outcome, UnitOnHost
from flows.plan import Run, pipeline_command

MAX_ATTEMPTS = 3  # docs/design.md, "The path of the data", 9
MAX_RETURNS = 30  # times that unfit machines may return a unit, about ten seconds each


class GivenUp(NamedTuple):
    """Units that had MAX_ATTEMPTS, and the reason that is stored with them."""

    units: list[Unit]
    reason: str


class Attempts:
    """Attempts of the units of one phase, for each host where it is replicated."""

    def __init__(self, run: Run, phase: str, again: str = "") -> None:
        self.phase = phase
        self.again = again or pipeline_command(run)  # the command that starts the pipeline once more
        self.worked = False
        self._begun: Counter[UnitOnHost] = Counter()
        self._returned: Counter[str] = Counter()
        self._too_small: dict[str, str] = {}
        self._errors: list[str] = []
        self._submissions = 0

    def by_too_small_pool(self, units: Sequence[Unit]) -> dict[str | None, list[Unit]]:
        """Group units by the pool whose machine ran out of memory with them; under None those without such a pool."""
        found: dict[str | None, list[Unit]] = {}
        for unit in units:
            found.setdefault(self._too_small.get(unit.unit_id), []).append(unit)
        return found

    def exhausted(self, units: Sequence[Unit]) -> GivenUp:
        """Return the units that had MAX_ATTEMPTS, with the last error of their shards."""
        last = f": {self._errors[-1]}" if self._errors else ""
        found = [u for u in units if self._begun[UnitOnHost(u.unit_id)] >= MAX_ATTEMPTS]
        return GivenUp(found, f"no result after {MAX_ATTEMPTS} attempts{last}")

    def begin(self, units: Sequence[Unit], host: str | None = None) -> int:
        """Count one more attempt of each unit; return a number that no two submissions share.

        Refuse a unit that machines returned MAX_RETURNS times, with the last error of its shards.
        """
        last = f"; {self._errors[-1]}" if self._errors else ""
        for unit in units:
            if self._returned[unit.unit_id] > MAX_RETURNS:
                raise LabError(
                    f"unit {unit.unit_id[:8]} of {self.phase} was given back {MAX_RETURNS} times{last}",
                    f"remove the cause, then: {self.again}",
                )
            self._begun[UnitOnHost(unit.unit_id, host)] += 1
        self.worked = True
        self._submissions += 1
        return self._submissions

    def left(self, units: Sequence[Unit], host: str, under_way: Collection[UnitOnHost] = ()) -> list[Unit]:
        """Return the units that this host is working on or may still attempt; log how many are left out."""
        left = [
            u for u in units if (one := UnitOnHost(u.unit_id, host)) in under_way or self._begun[one] < MAX_ATTEMPTS
        ]
        if len(left) < len(units):
            given_up = len(units) - len(left)
            get_run_logger().warning("%s: %s has no result of %d units, and is left out", self.phase, host, given_up)
        return left

    def record(self, outcome: Outcome) -> None:
        """Take in the outcome of ended shards: a returned unit had no attempt; too small a pool is remembered once."""
        for one in outcome.given_back:
            self._begun[one] -= 1
            self._returned[one.unit_id] += 1
        self._errors += outcome.errors
        self._too_small = outcome.too_small | self._too_small
