"""Queries of the six phase pages. All counting is done in SQL, on summaries where there are many trials.

`host` None means the results on which the verdict rests: each unit once, from any host. A host's name means that host's first
result of each unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from common.environment import ALL_HOSTS
from warehouse.queries.snapshot import METRIC, Row, query

# `chosen`: the bundles that count, as `number` of the summaries and `sha256` of the trials. `mine`: their trials, found by
# row first, since to filter by the bundle alone would unpack the details of every row.
_CHOSEN = """
WITH chosen AS (
  SELECT arg_min(s.number, b.replicate) AS number, arg_min(b.sha256, b.replicate) AS sha256
  FROM units u JOIN bundles b USING (unit_id) JOIN bundle_numbers s USING (sha256)
  WHERE u.run_id = $run_id AND u.phase = $phase AND (b.host = $host OR ($host IS NULL AND b.replicate = 0))
  GROUP BY u.unit_id
), mine AS (
  SELECT * FROM trials WHERE rowid IN (SELECT rowid FROM trials WHERE bundle_sha256 IN (SELECT sha256 FROM chosen))
)
"""
MOST_POINTS = 2000  # of a map; more cannot be told apart


def _of_chosen(sql: str, of: tuple[str, str, str | None], more: Mapping[str, str | int] | None = None) -> list[Row]:
    """Run a query that may use `chosen` and `mine`, of a run, a phase and a host."""
    return query(_CHOSEN + sql, {**dict(zip(("run_id", "phase", "host"), of, strict=True)), **(more or {})})


def metrics(run_id: str, phase: str, host: str | None = None) -> list[Row]:
    """Return the phase's metrics over all hosts, or of one host, in the phase's order."""
    sql = f"SELECT {METRIC} FROM metrics WHERE run_id = ? AND phase = ? AND host = ? ORDER BY position"  # noqa: S608 - fixed words
    return query(sql, [run_id, phase, host or ALL_HOSTS])


def config(run_id: str, phase: str) -> Row:
    """Return the phase's settings in the run, given and default ones; empty if they are not recorded."""
    found = query("SELECT arguments_given, arguments_defaulted FROM runs WHERE run_id = ?", [run_id])
    if not found:
        return {}
    given, defaulted = (json.loads(found[0][k] or "{}") for k in ("arguments_given", "arguments_defaulted"))
    settings: Row = {**defaulted.get(phase, {}), **(given.get("config") or {}).get(phase, {})}
    return settings


def attempt_counts(run_id: str, phase: str, host: str | None = None) -> list[Row]:
    """Count trials by condition and rounded attempts, with the sum of their first_right; failed trials are left out."""
    sums = "sum(trials)::BIGINT AS trials, sum(first_right) AS first_right"
    counted = f"SELECT condition, attempts, {sums} FROM attempt_counts JOIN chosen USING (number)"  # noqa: S608 - fixed words
    sql = f"{counted} WHERE attempts IS NOT NULL GROUP BY ALL ORDER BY condition, attempts"
    return _of_chosen(sql, (run_id, phase, host))


def paired_differences(run_id: str, phase: str, first: str, second: str, host: str | None = None) -> list[Row]:
    """Count problems by the difference of their median attempts, first - second, to a tenth, if they have both."""
    return _of_chosen(
        ", own AS (SELECT condition, problem_id, attempts FROM problem_results JOIN chosen USING (number) "
        "WHERE condition IN ($first, $second)) "
        "SELECT round(a.attempts - b.attempts, 1) AS difference, count(*) AS problems FROM own a JOIN own b USING (problem_id) "
        "WHERE a.condition = $first AND b.condition = $second GROUP BY ALL ORDER BY difference",
        (run_id, phase, host),
        {"first": first, "second": second},
    )


def relevance_against_attempts(run_id: str, phase: str, host: str | None = None) -> list[Row]:
    """Return mean attempts by relevance of the retrieved memos, in steps of 0.1, with a normal 95 % interval."""
    return _of_chosen(
        "SELECT condition, round(relevance, 1) AS relevance, avg(attempts) AS value, count(*) AS n, "
        "avg(attempts) - 1.96 * stddev_samp(attempts) / sqrt(count(*)) AS low, "
        "avg(attempts) + 1.96 * stddev_samp(attempts) / sqrt(count(*)) AS high "
        "FROM problem_results JOIN chosen USING (number) WHERE relevance IS NOT NULL GROUP BY ALL ORDER BY ALL",
        (run_id, phase, host),
    )


def trainings(run_id: str, phase: str, host: str | None = None) -> list[Row]:
    """Return each training: condition, seed, seconds, tokens, examples, losses (a list by epoch, or None), error."""
    rows = _of_chosen(
        ", training AS (SELECT DISTINCT c.sha256 FROM chosen c JOIN attempt_counts a USING (number) "
        "WHERE starts_with(a.condition, 'train')) "
        "SELECT condition, seed, latency_s AS seconds, tokens_in AS tokens, error, details FROM trials "
        "WHERE rowid IN (SELECT rowid FROM trials WHERE bundle_sha256 IN (SELECT sha256 FROM training)) "
        "AND starts_with(condition, 'train') ORDER BY condition, seed",
        (run_id, phase, host),
    )
    for row in rows:
        details = json.loads(row.pop("details") or "{}")
        for name in ("examples", "held", "train_loss", "validation_loss", "best_epoch", "adapter_bytes"):
            row[name] = details.get(name)
    return rows


def embedders_of(run_id: str, phase: str, host: str | None = None) -> list[str]:
    """Return the conditions of P1 that were measured."""
    conditions = "SELECT DISTINCT condition FROM attempt_counts JOIN chosen USING (number)"
    sql = f"{conditions} WHERE NOT failed AND condition <> 'leakage' ORDER BY condition"
    return [r["condition"] for r in _of_chosen(sql, (run_id, phase, host))]


def map_points(run_id: str, phase: str, embedder: str, host: str | None = None) -> list[Row]:
    """Return P1's 2-D map: problem_id, truth, family, x, y; at most MOST_POINTS, chosen by the hash of the problem."""
    return _of_chosen(
        "SELECT problem_id, truth, (details ->> 'group') AS family, ((details -> 'map') ->> 0)::DOUBLE AS x, "
        "((details -> 'map') ->> 1)::DOUBLE AS y FROM mine WHERE condition = $embedder AND error IS NULL "
        "AND (details -> 'map') IS NOT NULL ORDER BY hash(problem_id) LIMIT $most",
        (run_id, phase, host),
        {"embedder": embedder, "most": MOST_POINTS},
    )


def similarity_bins(run_id: str, phase: str, embedder: str, host: str | None = None) -> list[Row]:
    """Count P1's pairs of a query and a memo by cosine: kind (within a class or between), cosine, width, pairs.

    The cosine is the middle of a bin, and each trial has its own counts.
    """
    return _of_chosen(
        ", own AS (SELECT kind, (details -> 'histogram' -> kind)::BIGINT[] AS counts "
        "FROM mine, (VALUES ('within'), ('between')) kinds(kind) WHERE condition = $embedder AND error IS NULL), "
        "bin AS (SELECT kind, len(counts) AS bins, unnest(range(len(counts))) AS i, unnest(counts) AS pairs FROM own) "
        "SELECT kind, (i + 0.5) * 2 / bins - 1 AS cosine, 2 / bins AS width, sum(pairs)::BIGINT AS pairs "
        "FROM bin WHERE pairs > 0 GROUP BY ALL ORDER BY ALL",
        (run_id, phase, host),
        {"embedder": embedder},
    )
