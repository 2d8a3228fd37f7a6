"""Queries about hosts: what ran where and when, how fast each host is, where they differ."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import LabError
from warehouse.queries.snapshot import PHASE_ORDER, Row, query
from workpools.report import CapabilityReport, validated

STRETCHES = 300  # parts of a run's time; a gap shorter than one part cannot be seen in a plot
CLOCK_SLACK_S = 300  # largest difference of a host's clock (workpools.assess)
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
    """Times at which hosts worked on phases, and the number of bundles that are older than the run.

    Each stretch: phase, host, `begun_at` and `ended_at` (aware datetimes), `units` (bundles), `work_s` (sum of their seconds).
    """

    stretches: list[Row]
    reused: int


def timeline(run_id: str) -> Timeline:
    """Return what ran where, the earliest first; a stretch has no gap that a plot could show.

    Bundles without readable times, and those that are older than the run, are in no stretch.
    """
    *rows, before = query(_STRETCHES, [CLOCK_SLACK_S, run_id, STRETCHES])
    return Timeline(rows, before["units"])


def predictions(run_id: str) -> list[Row]:
    """Return predicted and actual seconds of each phase that has both, in the order of the phases."""
    wanted = "FROM predictions WHERE run_id = ? AND actual_s IS NOT NULL AND predicted_s > 0"
    sql = f"SELECT phase, predicted_s, actual_s {wanted} ORDER BY list_position(?, phase)"
    return query(sql, [run_id, list(PHASE_ORDER)])


@dataclass(frozen=True)
class Reports:
    """Hosts with their reports, in the order first seen, and a line for each report that cannot be read.

    Each host: host, tier, `first_at` and `last_at` (seconds since the epoch), python, `report` (fields by name, as valid today).
    """

    hosts: list[Row]
    problems: list[str]


def reports() -> Reports:
    """Return every known host whose capability report is valid, and why the others are not.

    A report may be older than the rules by which new ones are taken in.
    """
    columns = "host, tier, epoch(first_seen) AS first_at, epoch(last_seen) AS last_at, report, python"
    rows, problems = [], []
    for row in query(f"SELECT {columns} FROM hosts ORDER BY first_seen, host"):  # noqa: S608 - fixed words
        try:
            rows.append(row | {"report": validated(CapabilityReport, row["report"].encode()).model_dump(mode="json")})
        except LabError as error:
            problems.append(f"{row['host']}: {error.what}")
    return Reports(rows, problems)


def work(run_id: str) -> list[Row]:
    """Count the units, trials and failed trials of each host over all phases of the run."""
    return query(
        "SELECT b.host, count(DISTINCT b.unit_id) AS units, sum(c.trials)::BIGINT AS trials, "
        "coalesce(sum(c.trials) FILTER (c.failed), 0)::BIGINT AS failed FROM units u JOIN bundles b USING (unit_id) "
        "JOIN bundle_numbers s USING (sha256) JOIN attempt_counts c USING (number) "
        "WHERE u.run_id = ? AND b.replicate = 0 GROUP BY b.host ORDER BY b.host",
        [run_id],
    )


def apart(run_id: str) -> list[Row]:
    """Return metrics in which the intervals of two hosts do not overlap, in the phase's order; timings are left out."""
    return query(
        "SELECT a.phase, a.metric, a.condition, a.host, a.value, a.low, a.high, b.host AS other, b.value AS other_value, "
        "b.low AS other_low, b.high AS other_high "
        "FROM host_comparison a JOIN host_comparison b USING (run_id, phase, metric, condition) "
        "WHERE run_id = ? AND a.host < b.host AND NOT a.timing AND (a.high < b.low OR b.high < a.low) "
        "ORDER BY list_position(?, a.phase), a.position, a.host, b.host",
        [run_id, list(PHASE_ORDER)],
    )
