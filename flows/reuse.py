"""Report how many units of a phase are reused, and why the others are not.

A unit's id is the hash of what decides its trials. The reason for a new id is found by comparing the unit with the one that
did the same piece of work in the most similar earlier run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection as Connection

from common.canonical_json import canonical
from experiments.contract import Json, Unit
from flows.chain import Step
from flows.plan import Run
from warehouse.database.records import done_units, examples_of, given_up_of, units_of

NO_RESULT = "no result yet"
PIECE = ("role", "part", "dataset", "condition", "embedder")  # of a unit's spec: which piece of work it is
PARTS = ("problems", "first_order")  # and which part of that
SHOWN = 3  # settings that a reason lists
SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Reuse:
    """The number of units that have a result already, and why the others have none."""

    phase: str
    units: int
    reused: int
    reasons: Mapping[str, int]  # number of units by reason

    @property
    def counts(self) -> list[str]:
        """The count, then a line for each reason, the most frequent first."""
        rows = sorted(self.reasons.items(), key=lambda r: (-r[1], r[0]))
        return [f"{self.reused} of {self.units} units reused", *(f"{n} not reused: {why}" for why, n in rows)]

    def lines(self) -> list[str]:
        """Return what a user is counts, each line with the phase; nothing where all is computed for the first time."""
        first = not self.reused and set(self.reasons) <= {NO_RESULT}
        return [] if first else [f"{self.phase}  {line}" for line in self.counts]


def reuse_of(con: Connection, run: Run, phase: str, step: Step, reported: set[str]) -> Reuse:
    """Return the reuse of those units of a step that are not in `reported`, and add them to it."""
    fresh = [u for u in step.units if u.unit_id not in reported]
    reported |= {u.unit_id for u in fresh}
    done = done_units(con, [u.unit_id for u in fresh])
    new = {u.unit_id for u in fresh} - done
    reasons: Mapping[str, int] = Counter(_reasons(con, run, phase, step.units, new)) if new else {}
    return Reuse(phase, len(fresh), len(done), reasons)


def _reasons(con: Connection, run: Run, phase: str, units: Sequence[Unit], new: Collection[str]) -> Iterator[str]:
    """Give the reason for each new unit."""
    given_up = {u.unit_id: why for u, why in given_up_of(con, run.run_id, phase)}
    examples = examples_of(con, phase, run.run_id)
    earlier: list[Unit] = []
    if examples:
        first = next(u for u in units if u.unit_id in new)
        # Stable: of equally similar runs the one started last.
        like = min(examples, key=lambda r: len(_changes(examples[r], first)))
        earlier = units_of(con, like, phase)
    done = done_units(con, [u.unit_id for u in earlier])
    exact, loose = {_place(u): u for u in earlier}, _numbered(earlier)
    for place, unit in _numbered(units).items():
        if unit.unit_id not in new:
            continue
        other = exact.get(_place(unit)) or loose.get(place)
        if unit.unit_id in given_up:
            yield f"given up, {given_up[unit.unit_id]}"
        elif other is None or other.unit_id not in done:
            yield NO_RESULT
        else:
            yield f"{', '.join(_changes(other, unit) or [_rests_on(other, unit)])} since run {like}"


def _place(unit: Unit) -> str:
    return canonical({k: unit.spec[k] for k in (*PIECE, *PARTS) if k in unit.spec})


def _numbered(units: Sequence[Unit]) -> dict[tuple[str, int], Unit]:
    """Number the units of each piece of work, to match them where their problems differ."""
    count: Counter[str] = Counter()
    found = {}
    for unit in units:
        piece = canonical({k: unit.spec[k] for k in PIECE if k in unit.spec})
        found[piece, count[piece]] = unit
        count[piece] += 1
    return found


def _changes(before: Unit, now: Unit) -> list[str]:
    """List the differences in what decides a unit's trials, apart from results of earlier units."""
    found = []
    if before.identity["code"] != now.identity["code"]:
        found.append(f"code of {now.phase} changed")
    if before.identity["data"] != now.identity["data"]:
        found.append("data changed")
    if before.identity.get("engines") != now.identity.get("engines"):
        found.append("versions of what computes changed")
    old, new = before.identity["models"], now.identity["models"]
    found += [f"model {name} changed" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    if settings := _settings(before.config, now.config):
        found.append(f"settings changed: {settings}")
    return found


def _settings(before: Json, now: Json) -> str:
    names = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
    shown = [f"{k} {_short(before.get(k))}, now {_short(now.get(k))}" for k in names[:SHOWN]]
    return "; ".join([*shown, *([f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else [])])


def _short(value: object) -> str:
    text = canonical(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _rests_on(before: Unit, now: Unit) -> str:
    """Name the results of earlier units that differ between two units that are otherwise the same."""
    names = [k for k in sorted(before.spec.keys() | now.spec.keys()) if before.spec.get(k) != now.spec.get(k)]
    if before.files != now.files and "adapter" not in names:
        names.append("files")
    models = sorted(before.identity["models"].keys() ^ now.identity["models"].keys())
    return f"results that it depends on changed ({', '.join([*names, *models])})"
