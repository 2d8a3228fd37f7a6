"""What the snapshot says of the hosts: what ran where and when, how fast each is, where they do not agree."""

from __future__ import annotations

import json
from dataclasses import dataclass

from warehouse.queries.snapshot import PHASE_ORDER, Row, query

STRETCHES = 300  # of a run's whole time; a gap shorter than one of these parts cannot be seen in a plot
CLOCK_SLACK_S = 300  # how far a host's clock may be off and its reports still be taken (workpools.assess)
SPEEDS = ("matrix_gflops", "embedding_texts_per_s", "prefill_tokens_per_s", "disk_write_mb_s")  # fields of a report

# Every bundle of a run's units, repeats included, with its times in seconds since the epoch. A manifest is parsed once:
# that is most of the work. The last row counts what was there before the run.
_STRETCHES = """
WITH read AS MATERIALIZED (
    SELECT u.phase, b.host, epoch(r.started_at) - ? AS earliest,
           json_extract_string(b.manifest, ['$.started_at', '$.finished_at']) AS times
    FROM units u JOIN runs r USING (run_id) JOIN bundles b USING (unit_id) WHERE u.run_id = ?
),
each AS MATERIALIZED (
    SELECT phase, host, earliest, epoch(TRY_CAST(times[1] AS TIMESTAMPTZ)) AS started,
           epoch(TRY_CAST(times[2] AS TIMESTAMPTZ)) AS finished
    FROM read
),
timed AS MATERIALIZED (SELECT * FROM each WHERE finished >= started AND finished >= earliest),
marked AS (
    SELECT *, started > (SELECT (max(finished) - min(started)) / ? FROM timed)
                        + max(finished) OVER (PARTITION BY host, phase ORDER BY started, finished
                                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS fresh
    FROM timed
),
numbered AS (
    SELECT *, coalesce(sum(fresh::INTEGER) OVER (PARTITION BY host, phase ORDER BY started, finished
                                                 ROWS UNBOUNDED PRECEDING), 0) AS stretch
    FROM marked
)
SELECT phase, host, min(started) AS begun_at, max(finished) AS ended_at, count(*) AS units, sum(finished - started) AS work_s
FROM numbered GROUP BY phase, host, stretch
UNION ALL SELECT NULL, NULL, NULL, NULL, count(*), NULL FROM each WHERE finished < earliest
ORDER BY begun_at NULLS LAST, host, phase
"""


@dataclass(frozen=True)
class Timeline:
    """When hosts worked on phases, and how many bundles were there before the run, so that nothing was computed for it.

    Each stretch: phase, host, `begun_at` and `ended_at` (aware datetimes), `units` (bundles in it), `work_s` (the sum of
    their seconds).
    """

    stretches: list[Row]
    reused: int


def timeline(run_id: str) -> Timeline:
    """What ran where: a stretch has no gap that a plot could show; the earliest first.

    Bundles without readable times, and those that were there before the run, are in no stretch.
    """
    *rows, before = query(_STRETCHES, [CLOCK_SLACK_S, run_id, STRETCHES])
    return Timeline(rows, before["units"])


def predictions(run_id: str) -> list[Row]:
    """Predicted and actual seconds of each phase that has both, in the order of the phases."""
    return query(
        "SELECT phase, predicted_s, actual_s FROM predictions WHERE run_id = ? AND actual_s IS NOT NULL AND predicted_s > 0 "
        "ORDER BY list_position(?, phase)",
        [run_id, list(PHASE_ORDER)],
    )


def reports() -> list[Row]:
    """Every known host with its capability report (a dictionary), in the order first seen."""
    rows = query(
        "SELECT host, tier, epoch(first_seen) AS first_at, epoch(last_seen) AS last_at, report, python FROM hosts "
        "ORDER BY first_seen, host"
    )
    for row in rows:
        row["report"] = json.loads(row["report"])
    return rows


def work(run_id: str) -> list[Row]:
    """What each host did of the run: counted units and trials, failed trials, over all its phases; by host."""
    return query(
        "SELECT b.host, count(DISTINCT b.unit_id) AS units, sum(c.trials)::BIGINT AS trials, "
        "coalesce(sum(c.trials) FILTER (c.failed), 0)::BIGINT AS failed FROM units u JOIN bundles b USING (unit_id) "
        "JOIN bundle_numbers s USING (sha256) JOIN attempt_counts c USING (number) "
        "WHERE u.run_id = ? AND b.replicate = 0 GROUP BY b.host ORDER BY b.host",
        [run_id],
    )


def apart(run_id: str) -> list[Row]:
    """Metrics, those of a clock aside, in which the intervals of two hosts do not meet; the phase's order."""
    return query(
        "SELECT a.phase, a.metric, a.condition, a.host, a.value, a.low, a.high, b.host AS other, b.value AS other_value, "
        "b.low AS other_low, b.high AS other_high "
        "FROM host_comparison a JOIN host_comparison b USING (run_id, phase, metric, condition) "
        "WHERE run_id = ? AND a.host < b.host AND NOT a.timing AND (a.high < b.low OR b.high < a.low) "
        "ORDER BY list_position(?, a.phase), a.position, a.host, b.host",
        [run_id, list(PHASE_ORDER)],
    )
