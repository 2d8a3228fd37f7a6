"""Queries about hosts: what ran where and when, how fast each host is, where they differ."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import LabError
from experiments.statistics import Interval
from warehouse.database import agreement
from warehouse.queries.snapshot import PHASE_ORDER, Row, query
from workpools.report import CapabilityReport, validated

STRETCHES = 300  # parts of a run's time; a gap shorter than one part cannot be seen in a plot
CLOCK_SLACK_S = 300  # largest difference of a host's clock (workpools.assess)
MOST_DIFFERING = 50  # problems that are listed
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
    """Count the units of each host over all phases of the run, those whose result counts, and trials, failed ones too.

    Repeats of units are included: in mode replicate every host has results of all units, which count once.
    """
    return query(
        "SELECT b.host, count(DISTINCT b.unit_id) AS units, count(DISTINCT b.unit_id) FILTER (b.replicate = 0) AS counted, "
        "sum(c.trials)::BIGINT AS trials, coalesce(sum(c.trials) FILTER (c.failed), 0)::BIGINT AS failed "
        "FROM units u JOIN bundles b USING (unit_id) JOIN bundle_numbers s USING (sha256) "
        "JOIN attempt_counts c USING (number) WHERE u.run_id = ? GROUP BY b.host ORDER BY b.host",
        [run_id],
    )


def seconds_a_trial(run_id: str) -> list[Row]:
    """Return the mean seconds of a trial on each host, by phase: phase, host, trials, work_s, mean_s.

    Results without readable times, and those that took no time, are left out.
    """
    return query(
        """
        WITH each AS (
          SELECT u.phase, b.host, (u.spec ->> 'n_trials')::INTEGER AS trials,
                 epoch(TRY_CAST(b.manifest ->> 'finished_at' AS TIMESTAMPTZ))
                   - epoch(TRY_CAST(b.manifest ->> 'started_at' AS TIMESTAMPTZ)) AS seconds
          FROM units u JOIN bundles b USING (unit_id) WHERE u.run_id = ?
        )
        SELECT phase, host, sum(trials)::BIGINT AS trials, sum(seconds) AS work_s, sum(seconds) / sum(trials) AS mean_s
        FROM each WHERE seconds > 0 AND trials > 0 GROUP BY phase, host ORDER BY list_position(?, phase), host
        """,
        [run_id, list(PHASE_ORDER)],
    )


def left(run_id: str) -> list[Row]:
    """Return the seconds of work that hosts have before them: host, phase, units, left_s.

    Units that were sent to a host and have no result of it, at the pace of that host in this run; without one, left out.
    """
    return query(
        """
        WITH each AS (
          SELECT b.host, u.phase, (u.spec ->> 'cost')::DOUBLE AS cost,
                 epoch(TRY_CAST(b.manifest ->> 'finished_at' AS TIMESTAMPTZ))
                   - epoch(TRY_CAST(b.manifest ->> 'started_at' AS TIMESTAMPTZ)) AS seconds
          FROM units u JOIN bundles b USING (unit_id) WHERE u.run_id = $run
        ),
        pace AS (SELECT host, phase, sum(seconds) / sum(cost) AS ratio FROM each WHERE seconds > 0 AND cost > 0
                 GROUP BY GROUPING SETS ((host, phase), (host))),
        waiting AS (
          SELECT DISTINCT a.host, u.phase, u.unit_id, (u.spec ->> 'cost')::DOUBLE AS cost
          FROM assignments a JOIN units u USING (run_id, unit_id) LEFT JOIN verdicts v ON v.run_id = a.run_id AND v.phase = u.phase
          WHERE a.run_id = $run AND a.host IS NOT NULL AND v.status IS NULL
          AND NOT EXISTS (SELECT 1 FROM bundles b WHERE b.unit_id = a.unit_id AND b.host = a.host)
        )
        SELECT w.host, w.phase, count(*) AS units, sum(w.cost) * any_value(coalesce(own.ratio, whole.ratio)) AS left_s
        FROM waiting w LEFT JOIN pace own ON own.host = w.host AND own.phase = w.phase
        LEFT JOIN pace whole ON whole.host = w.host AND whole.phase IS NULL
        GROUP BY w.host, w.phase HAVING left_s IS NOT NULL ORDER BY ALL
        """,
        {"run": run_id},
    )


def main_difference(run_id: str, phase: str, host: str, other: str) -> Interval | None:
    """Return the phase's main metric on `host` less that on `other`, by problem; None where it is no mean over problems."""
    return agreement.main_difference(query, run_id, phase, host, other)


def differing(run_id: str, phase: str, host: str, other: str, most: int = MOST_DIFFERING) -> list[Row]:
    """Return problems under a condition with trials that differ between two hosts, those with most of them first.

    Each: condition, problem_id, trials, differing, difference (where the first of them differs), ordinal (of that trial),
    sha256 and other_sha256 (the bundles of `host` and `other`).
    """
    return query(
        """
        WITH placed AS (
          SELECT sha256, unit_id, host, row_number() OVER (PARTITION BY unit_id, host ORDER BY replicate) AS nth
          FROM bundles WHERE host IN ($host, $other)
        )
        SELECT c.condition, c.problem_id, c.trials, c.differing, c.difference, c.ordinal,
               if(a.host = $host, a.sha256, b.sha256) AS sha256, if(a.host = $host, b.sha256, a.sha256) AS other_sha256
        FROM comparisons c JOIN units u USING (unit_id) JOIN placed a ON a.sha256 = c.first_sha256
        JOIN placed b ON b.sha256 = c.second_sha256
        WHERE u.run_id = $run AND u.phase = $phase AND c.differing > 0 AND a.host <> b.host AND a.nth = 1 AND b.nth = 1
        ORDER BY c.differing DESC, c.condition, c.problem_id LIMIT $most
        """,
        {"run": run_id, "phase": phase, "host": host, "other": other, "most": most},
    )
