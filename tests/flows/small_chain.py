"""A whole chain with as little work as leaves each phase all its kinds of units, and the questions on what came out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

WHY = "a test looks at every phase"
LITTLE: dict[str, Any] = {"max_guesses": 2, "run_seeds": [100, 200]}
SMALL: dict[str, dict[str, Any]] = {
    "p2": {"per_unit": 1, "n_test": 2} | LITTLE,
    "e1": {"n_memory": 4, "memos_per_unit": 2, "n_test": 3} | LITTLE,
    "e2": {"n_test": 2} | LITTLE,
}
# E2's findings name the success criteria, which rest on a clock.
VERDICTS = (
    "SELECT phase, status, main_metric, value, low, high, n, CASE WHEN phase <> 'e2' THEN findings END FROM verdicts "
    "WHERE run_id = ? ORDER BY phase"
)
TRIALS = (
    "SELECT problem_id, condition, seed, attempts, answer, tokens_in, tokens_out, error FROM counted_trials JOIN units "
    "USING (unit_id) WHERE run_id = ? ORDER BY unit_id, ordinal"
)


def pipeline(values: Mapping[str, Mapping[str, Any]], *more: str) -> list[str]:
    """Return the command with the values by phase, and further options."""
    given = [f"{phase}.{name}={json.dumps(value)}" for phase, own in values.items() for name, value in own.items()]
    return ["pipeline", "--scale", "smoke", *(part for g in given for part in ("--set", g)), *more]
