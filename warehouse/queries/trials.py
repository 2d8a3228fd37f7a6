"""Trials one page at a time, selected by SQL, and one trial with its prompt. No query loads all trials."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from experiments.protocol.leakage_gate import LEAKAGE
from warehouse.queries.snapshot import PHASE_ORDER, Row, query

PAGE_ROWS = 50
Outcome = Literal["any", "solved", "unsolved", "failed"]
# Each as a condition on trials t, and on the summaries c.
OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "any": ("true", "true"),
    "solved": ("t.solved", "c.solved"),
    "unsolved": ("t.error IS NULL AND NOT t.solved", "NOT c.failed AND NOT c.solved"),
    "failed": ("t.error IS NOT NULL", "c.failed"),
}
COLUMNS = (
    *"problem_id condition seed host attempts first_right solved answer truth".split(),
    *"tokens_in tokens_out latency_s error bundle_sha256 ordinal".split(),
)


class Sql(NamedTuple):
    """A part of a query, and the values of its parameters."""

    text: str
    values: list[Any]


@dataclass(frozen=True)
class Wanted:
    """A selection of trials of a run; None, "any" and "" select all.

    The leakage check, which asks no model, is left out unless it is the condition. Without a host each unit's result that
    counts, from any host; with one, that host's first result of each unit.
    """

    run_id: str
    phase: str | None = None
    condition: str | None = None
    host: str | None = None
    outcome: Outcome = "any"
    text: str = ""  # part of a problem's id, of an answer, or of the prompt of its first seed, in any case

    def of_trials(self) -> Sql:
        """Return a condition on trials t."""
        parts, values = [f"({OUTCOMES[self.outcome][0]})"], []
        if self.condition is not None:
            parts.append("t.condition = ?")
            values.append(self.condition)
        else:
            parts.append("t.condition <> ?")
            values.append(LEAKAGE)
        if self.text:
            texts = (
                "t.problem_id",
                "coalesce(t.answer, '')",
                "coalesce(t.truth, '')",
                "coalesce(t.details ->> 'prompt', '')",
            )
            parts.append(f"({' OR '.join(f'contains(lower({text}), lower(?))' for text in texts)})")
            values += [self.text] * len(texts)
        return Sql(" AND ".join(parts), values)

    def counts(self) -> Sql:
        """Return a query for (bundle_sha256, n, blank) of the bundles with such trials; blank: none of them is an answer."""
        if self.text:  # the summaries have no problems
            where, values = self.of_trials()
            # By row first: the details of other runs are not to be read.
            mine = (
                "SELECT rowid FROM trials WHERE bundle_sha256 IN (SELECT sha256 FROM bundles JOIN units USING (unit_id) "
                "WHERE run_id = ?)"
            )
            blank = "bool_and(t.attempts IS NULL) AS blank"
            sql = f"SELECT bundle_sha256, count(*) AS n, {blank} FROM trials t WHERE rowid IN ({mine}) AND {where} GROUP BY ALL"  # noqa: S608
            return Sql(sql, [self.run_id, *values])
        condition = " AND c.condition <> ?" if self.condition is None else " AND c.condition = ?"
        values = [LEAKAGE if self.condition is None else self.condition]
        return Sql(
            "SELECT s.sha256 AS bundle_sha256, sum(c.trials) AS n, bool_and(c.attempts IS NULL) AS blank "  # noqa: S608
            "FROM attempt_counts c JOIN bundle_numbers s USING (number) "
            f"WHERE ({OUTCOMES[self.outcome][1]}){condition} GROUP BY s.sha256",
            values,
        )


@dataclass(frozen=True)
class Page:
    """The number of all selected trials, and those of one page (COLUMNS and phase)."""

    total: int
    rows: list[Row]


def phases(run_id: str) -> list[str]:
    """Return the phases of a run that have trials, in order."""
    sql = "SELECT DISTINCT phase FROM phase_hosts WHERE run_id = ? ORDER BY list_position(?, phase)"
    return [r["phase"] for r in query(sql, [run_id, list(PHASE_ORDER)])]


def conditions(run_id: str, phase: str) -> list[str]:
    """Return the conditions of a phase's trials, by name."""
    rows = query(
        "SELECT DISTINCT c.condition FROM units u JOIN bundles b USING (unit_id) JOIN bundle_numbers s USING (sha256) "
        "JOIN attempt_counts c USING (number) WHERE u.run_id = ? AND u.phase = ? ORDER BY 1",
        [run_id, phase],
    )
    return [r["condition"] for r in rows]


def page(wanted: Wanted, first: int = 0, rows: int = PAGE_ROWS) -> Page:
    """Return at most `rows` trials from number `first` (0-based) on, answers first, in the order of phases, units and their trials.

    Trials are counted by bundle and then read from the few bundles of the page, so the last page is as fast as the first.
    """
    counts, counted = wanted.counts()
    shown = "b.replicate = 0"
    if wanted.host is not None:
        shown = "b.replicate = (SELECT min(o.replicate) FROM bundles o WHERE o.unit_id = b.unit_id AND o.host = ?) AND b.host = ?"
    host = [] if wanted.host is None else [wanted.host] * 2
    of_phase = [] if wanted.phase is None else [wanted.phase]
    holding = query(
        f"""
        WITH counts AS ({counts}),
        placed AS (
            SELECT c.*, u.phase, sum(n) OVER (ORDER BY c.blank, list_position(?, u.phase), u.position, b.sha256) - n AS before,
                   sum(n) OVER () AS total
            FROM counts c JOIN bundles b ON b.sha256 = c.bundle_sha256 JOIN units u USING (unit_id)
            WHERE {shown} AND u.run_id = ? {"AND u.phase = ?" if of_phase else ""}
        )
        SELECT bundle_sha256, phase, n::BIGINT AS n, before::BIGINT AS before, total::BIGINT AS total FROM placed
        WHERE (before < ? AND before + n > ?) OR before = 0 ORDER BY before
        """,  # noqa: S608 - only fixed words are put in
        [*counted, list(PHASE_ORDER), *host, wanted.run_id, *of_phase, first + rows, first],
    )
    total = holding[0]["total"] if holding else 0
    holding = [b for b in holding if b["before"] + b["n"] > first]  # the first bundle is there for the total only
    place = {b["bundle_sha256"]: i for i, b in enumerate(holding)}
    of_trials, values = wanted.of_trials()
    # As a sub-query: a comparison with constants reads every column of every trial (measured, DuckDB 1.5).
    found = query(
        f"SELECT {', '.join(COLUMNS)} FROM trials t WHERE bundle_sha256 IN (SELECT unnest(?::VARCHAR[])) AND {of_trials}",  # noqa: S608
        [list(place), *values],
    )
    found.sort(key=lambda r: (place[r["bundle_sha256"]], r["ordinal"]))
    start = first - holding[0]["before"] if holding else 0
    some = found[start : start + rows]
    return Page(total, [{"phase": holding[place[r["bundle_sha256"]]]["phase"], **r} for r in some])


def trial(bundle_sha256: str, ordinal: int) -> Row | None:
    """Return one trial with its details (a dictionary), phase and time of arrival; None if it does not exist.

    A prompt is stored with the first seed of a problem only; `details["prompt"]` is copied from there.
    """
    found = query(
        f"SELECT {', '.join(f't.{c}' for c in COLUMNS)}, t.details, t.unit_id, b.attempt, b.replicate, "  # noqa: S608
        "epoch(b.received_at) AS received_at, (SELECT any_value(phase) FROM units u WHERE u.unit_id = b.unit_id) AS phase "
        "FROM trials t JOIN bundles b ON b.sha256 = t.bundle_sha256 "
        "WHERE t.bundle_sha256 IN (SELECT ?) AND t.ordinal = ?",
        [bundle_sha256, ordinal],
    )
    if not found:
        return None
    row = found[0]
    row["details"] = json.loads(row["details"] or "{}")
    if "prompt" not in row["details"] and row["error"] is None:
        shared = query(
            "SELECT details ->> 'prompt' AS prompt FROM trials WHERE bundle_sha256 IN (SELECT ?) AND problem_id = ? "
            "AND condition = ? AND ordinal < ? AND (details ->> 'prompt') IS NOT NULL ORDER BY ordinal DESC LIMIT 1",
            [bundle_sha256, row["problem_id"], row["condition"], ordinal],
        )
        if shared:
            row["details"]["prompt"] = shared[0]["prompt"]
    return row


class Beside(NamedTuple):
    """Ordinals of the trials before and after one in its bundle; None at its ends."""

    before: int | None
    after: int | None


def beside(bundle_sha256: str, ordinal: int) -> Beside:
    """Return the neighbours of a trial in its bundle, the leakage check left out."""
    found = query(
        "SELECT max(ordinal) FILTER (ordinal < $at) AS before, min(ordinal) FILTER (ordinal > $at) AS after FROM trials "
        "WHERE bundle_sha256 IN (SELECT $bundle) AND condition <> $leakage",
        {"at": ordinal, "bundle": bundle_sha256, "leakage": LEAKAGE},
    )[0]
    return Beside(found["before"], found["after"])


def elsewhere(run_id: str, bundle_sha256: str, ordinal: int) -> list[Row]:
    """Return the trials of a run with the problem and seed of one, on each host that has them: COLUMNS, by condition and host."""
    columns = ", ".join(f"t.{c}" for c in COLUMNS)
    return query(
        f"""
        WITH shown AS (SELECT problem_id, seed, unit_id FROM trials WHERE bundle_sha256 IN (SELECT $bundle) AND ordinal = $at),
        mine AS (
          SELECT b.sha256 FROM units u JOIN bundles b USING (unit_id)
          WHERE u.run_id = $run AND u.phase = (SELECT any_value(o.phase) FROM units o JOIN shown USING (unit_id))
          QUALIFY row_number() OVER (PARTITION BY b.unit_id, b.host ORDER BY b.replicate) = 1
        )
        SELECT {columns} FROM trials t WHERE rowid IN (
          SELECT rowid FROM trials WHERE problem_id = (SELECT problem_id FROM shown) AND bundle_sha256 IN (SELECT sha256 FROM mine)
        ) AND t.seed IS NOT DISTINCT FROM (SELECT seed FROM shown) AND t.condition <> $leakage ORDER BY t.condition, t.host
        """,  # noqa: S608 - only fixed words are put in
        {"run": run_id, "bundle": bundle_sha256, "at": ordinal, "leakage": LEAKAGE},
    )
