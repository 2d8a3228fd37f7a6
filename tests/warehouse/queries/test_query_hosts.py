"""Queries about hosts: what ran where, how fast, and where hosts differ."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from made_up_snapshot import START, changed, publish

from app.plots import hosts as host_figures
from warehouse.queries import checks
from warehouse.queries import hosts as reading_hosts


def timed(path: Path, *bundles: tuple[str, float, float]) -> None:
    """Give bundles (by sha256) a start and an end, in seconds after the run's start."""
    with changed(path) as con:
        for sha256, begun, ended in bundles:
            times = {
                "started_at": (START + timedelta(seconds=begun)).isoformat(),
                "finished_at": (START + timedelta(seconds=ended)).isoformat(),
            }
            con.execute("UPDATE bundles SET manifest = ? WHERE sha256 = ?", [json.dumps(times), sha256])


def test_stretches_join_what_a_plot_could_not_part(home: Path) -> None:
    """A run of 100,000 units is a few bars, its work is their seconds, and what lay there before is not drawn."""
    path = publish(home, ("r1", "p1", None))
    assert reading_hosts.timeline("r1").stretches == []  # no bundle of the snapshot says when it was made
    timed(
        path,
        ("r1-p1-0-0", 0, 10),
        ("r1-p1-2-0", 10.5, 20),
        ("r1-p1-4-0", 900, 905),
        ("r1-p1-1-0", 5, 15),
        ("r1-p1-6-0", -9000, -8990),
    )
    rows = reading_hosts.timeline("r1").stretches
    assert [(r["host"], r["units"], r["work_s"]) for r in rows] == [
        ("laptop", 2, 19.5),
        ("pi-4", 1, 10.0),
        ("laptop", 1, 5.0),
    ]
    assert (rows[0]["begun_at"], rows[0]["ended_at"]) == (START, START + timedelta(seconds=20))
    assert reading_hosts.timeline("r1").reused == 1
    assert host_figures.busy_by_host(rows) == {"laptop": 24.5, "pi-4": 10.0}


def test_work_holds_repeats_and_names_what_counts(home: Path) -> None:
    """A host that repeated all units worked as much as the first; its results do not count a second time."""
    publish(home, ("r1", "p1 p2", None))
    assert reading_hosts.work("r1") == [
        {"host": "laptop", "units": 8, "counted": 8, "trials": 48, "failed": 16},
        {"host": "pi-4", "units": 8, "counted": 8, "trials": 48, "failed": 16},
    ]


def test_only_ended_phases_are_compared_with_their_prediction(home: Path) -> None:
    """A phase under way has no duration yet, and none is made up for it."""
    path = publish(home, ("r1", "p2 p1 e0", None))
    with changed(path) as con:
        con.execute("UPDATE predictions SET actual_s = NULL WHERE phase = 'e0'")
    assert reading_hosts.predictions("r1") == [
        {"phase": "p1", "predicted_s": 180.0, "actual_s": 200.0},
        {"phase": "p2", "predicted_s": 180.0, "actual_s": 48.2},
    ]
    figure = host_figures.predicted(reading_hosts.predictions("r1"))
    assert "P2 was furthest off, 0.268 times" in figure.layout.meta["finding"]


def test_the_order_of_lanes_leaves_no_bar_over_another(home: Path) -> None:
    """Two phases at once on one host are two lanes, or the later would hide the earlier."""
    path = publish(home, ("r1", "p1 p2", None))
    timed(path, ("r1-p1-0-0", 0, 100), ("r1-p2-0-0", 50, 150), ("r1-p2-2-0", 400, 450), ("r1-p1-1-0", 0, 10))
    figure = host_figures.gantt(reading_hosts.timeline("r1").stretches, None)
    p1, p2 = figure.data
    assert (list(p1.y), list(p2.y)) == ([0, 2], [1, 0])
    assert list(figure.layout.yaxis.ticktext) == ["laptop", "pi-4"]


def test_what_speaks_against_a_run_is_counted(home: Path) -> None:
    """Units given up, repeats and failures are on the page that says whether to believe the numbers."""
    path = publish(home, ("r1", "p1", "p2"))
    with changed(path) as con:
        con.execute("INSERT INTO given_up VALUES ('r1', 'r1-p2-7', 'out of memory', now())")
        con.execute("INSERT INTO quarantine VALUES ('x.parquet', 'torn', 12, now())")
        con.execute(
            "UPDATE metrics SET metric = 'leak_near_pairs', value = 3, method = 'exploratory; cosine' WHERE condition = 'none'"
        )
        con.execute("""UPDATE units SET spec = '{"config": {"allow_leakage": "a trial run"}}'""")
    found = checks.results("r1")
    counts = ("units", "with_result", "given_up", "repeats", "retried", "trials", "failed", "quarantined")
    assert [found[k] for k in counts] == [16, 11, 1, 11, 0, 33, 11, 1]
    with changed(path) as con:  # sent once and answered; sent twice and answered once; a phase under way
        sent = [("r1-p1-0", "p1"), ("r1-p1-1", "p1"), ("r1-p1-1", "p1"), ("r1-p2-0", "p2"), ("r1-p2-0", "p2")]
        con.execute("DELETE FROM bundles WHERE replicate > 0")
        con.executemany("INSERT INTO assignments VALUES ('r1', ?, ?, 'weak', 'pi-4', 1, now(), 0)", sent)
    assert checks.results("r1")["retried"] == 1
    assert checks.exploratory("r1") == [{"phase": "p1", "metric": "leak_near_pairs", "conditions": 1}]
    (leak,) = checks.leakage("r1")
    assert (leak["phase"], leak["near"], leak["exact"], leak["allowed"]) == ("p1", 3, None, "a trial run")
