"""Queries of the page to a snapshot, and the words it uses for them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import duckdb
import pytest
from made_up_snapshot import HOSTILE, MINILM, START, changed, publish

from app import format as words
from app.components import cards, story
from app.phase_names import named
from app.plots import forest, style
from app.reading import read
from experiments.domains import get_domain
from experiments.registry import PHASES, get_phase
from flows.plan import plan
from warehouse.database.agreement import Pair, RunAgreement, judged
from warehouse.database.connection import migrations
from warehouse.queries import snapshot


def test_no_snapshot_is_missing(home: Path) -> None:
    """A fresh checkout shows the empty state, and asking creates no file."""
    assert (snapshot.state().kind, snapshot.state().mend) == ("missing", "make demo")
    assert snapshot.identity() is None
    assert list(home.iterdir()) == []


def test_another_schema_is_named(home: Path) -> None:
    """A snapshot of a newer version is refused with both numbers, not half read."""
    path = publish(home)
    with changed(path) as con:
        con.execute("INSERT INTO schema_migrations VALUES (?, '9999_later.sql', 'x', now())", [snapshot.SCHEMA + 1])
    state = snapshot.state()
    assert (
        state.kind,
        f"schema {snapshot.SCHEMA + 1}" in state.detail,
        f"knows {snapshot.SCHEMA}" in state.detail,
    ) == ("schema", True, True)
    assert state.mend == "git pull && make setup"


def test_a_snapshot_without_a_schema_is_published_anew(home: Path) -> None:
    """An older snapshot needs no newer code: collecting migrates the warehouse and publishes it."""
    with changed(home / "snapshot.duckdb") as con:
        con.execute("CREATE TABLE anything (x INTEGER)")
    assert (snapshot.state().kind, snapshot.state().mend) == ("schema", "lab collect")


def test_a_new_snapshot_is_asked_at_once_and_the_old_one_let_go(home: Path) -> None:
    """The file stays open between queries; an old one would show old results, and its disk space would not be freed."""
    publish(home, ("r1", "p1", None))
    assert [r["run_id"] for r in snapshot.runs()] == ["r1"]
    (first,) = snapshot.connections.values()
    assert snapshot.runs() and list(snapshot.connections.values()) == [first]
    publish(home, ("r2", "p1", None))
    assert [r["run_id"] for r in snapshot.runs()] == ["r2"]
    assert len(snapshot.connections) == 1
    with pytest.raises(duckdb.ConnectionException):
        first.execute("SELECT 1")


def test_known_schema_is_the_newest_migration() -> None:
    """A new migration without a look at these queries fails here."""
    assert max(number for number, _, _ in migrations()) == snapshot.SCHEMA


def test_damaged_snapshot_and_relative_home_are_states(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a broken file nor a relative LAB_HOME becomes a traceback on the page."""
    (home / "snapshot.duckdb").write_bytes(b"not a database" * 500)
    assert snapshot.state().kind == "unreadable"
    monkeypatch.setenv("LAB_HOME", "relative")
    assert snapshot.state().kind == "unreadable"
    assert snapshot.state().mend.startswith("export LAB_HOME=/")
    assert snapshot.identity() is None


def test_chain_is_in_order_with_counted_trials_only(home: Path) -> None:
    """Phases come as p1 p2 p3 e0 e1 e2; replicates do not count as trials; failed trials are counted as failed."""
    publish(home, ("r1", "e2 e1 e0 p3 p2 p1", None))
    rows = snapshot.chain("r1")
    assert [r["phase"] for r in rows] == ["p1", "p2", "p3", "e0", "e1", "e2"]
    assert {(r["trials"], r["failed"]) for r in rows} == {(24, 8)}
    assert rows[0]["hosts"] == ["laptop", "pi-4"]
    assert rows[0]["actual_s"] == 200.0
    assert str(rows[1]["next_steps"][0]).startswith("lab run p2")
    assert rows[2]["value"] is None


def test_progress_counts_units_with_a_counted_bundle(home: Path) -> None:
    """A running phase shows units done of all, though every bundle has a replicate."""
    publish(home, ("r1", "p1", "p2"))
    assert snapshot.progress("r1") == {"p1": (8, 8), "p2": (3, 8)}
    assert snapshot.latest_results("r1") == {"p1": START, "p2": START}
    assert snapshot.measured_phases("r1") == ["p1"]


def test_runs_latest_first_and_provenance(home: Path) -> None:
    """The page opens on the latest run and can say what made it."""
    publish(home, ("old", "p1", None), ("new", "p1", None))
    assert [r["run_id"] for r in snapshot.runs()] == ["new", "old"]
    found = snapshot.provenance("new")
    assert found is not None
    assert found["content"]["data_version"] == ["big_o-1650-42-9f3c21aa"]
    assert [(h["host"], h["tier"], h["units"]) for h in found["hosts"]] == [
        ("laptop", "strong", 4),
        ("pi-4", "weak", 4),
    ]
    assert found["dirty"] is True
    assert snapshot.provenance("neither") is None


def test_metrics_of_hosts_and_over_all(home: Path) -> None:
    """The comparison holds each host's rows and not the row over all hosts; undefined stays None."""
    publish(home, ("r1", "p1 p2", None))
    rows = snapshot.host_comparison("r1", "p1")
    assert {r["host"] for r in rows} == {"laptop", "pi-4"}
    assert [r["value"] for r in rows if r["condition"] == "random"] == [None, None]
    overall = snapshot.phase_metrics("r1", "p1")
    assert {r["host"] for r in overall} == {snapshot.ALL_HOSTS}
    assert [r["value"] for r in overall if r["condition"] == MINILM] == [1.342]


def test_identity_changes_with_a_publication(home: Path) -> None:
    """The page's refresh rests on it; the next query must see the new file."""
    publish(home, ("r1", "p1", None))
    before = snapshot.identity()
    publish(home, ("r2", "p1", None))
    assert before != snapshot.identity()
    assert [r["run_id"] for r in snapshot.runs()] == ["r2"]


def test_titles_and_questions_are_those_of_the_plan(home: Path) -> None:
    """The page may not import the phases, so what it calls them is what the plan stored; an older plan has only names."""
    path = publish(home, ("r1", "p1", None))
    texts = snapshot.phase_texts("r1")
    assert {p: (t.title, t.question, t.blocking) for p, t in texts.items()} == {
        p: (get_phase(p).TITLE, get_phase(p).QUESTION, get_phase(p).BLOCKING) for p in PHASES
    }
    assert snapshot.phase_texts() == texts and named("p1") == "P1 Embedding validity"
    with changed(path) as con:
        con.execute("UPDATE plans SET content = '{}'")
    assert set(snapshot.phase_texts("r1").values()) == {snapshot.PhaseText()} and named("p1") == "P1"


def test_a_prerequisite_that_failed_stops_the_story(home: Path) -> None:
    """The first sentence says that the chain stopped, and gives the failure protocol's command; an override goes on."""
    publish(home, ("stopped", "p1 p2 p3", None), ("on", "p1 p2", None))
    run = {r["run_id"]: r for r in snapshot.runs()}
    verdicts = {v["phase"]: v for v in snapshot.chain("stopped")}
    reported = story.story_of(run["stopped"], verdicts, {})
    assert "P3 says INCONCLUSIVE. The chain stopped at P3." in reported.sentence
    assert reported.command == "lab run p3 --scale full"
    overridden = story.story_of(run["on"], {v["phase"]: v for v in snapshot.chain("on")}, {})
    assert "stopped" not in overridden.sentence
    assert "P2 says FAIL, overridden" in overridden.sentence
    assert overridden.then == "P3 Fine-tuning preservation"


def test_a_chain_that_went_on_did_not_stop(home: Path) -> None:
    """A run without gates decides what comes after a FAIL: it must not be shown to have stopped there."""
    publish(home, ("r1", "p1", None))
    failed, passed = ({"status": s, "overridden_by": None, "why": None, "next_steps": []} for s in ("FAIL", "PASS"))
    assert story.stopped_at({"p1": failed}) == "p1"
    assert story.stopped_at({"p1": failed, "p2": passed}) is None
    assert story.stopped_at({"p1": passed, "e0": failed}) is None


def test_a_question_is_asked_once_a_publication(home: Path) -> None:
    """Ten readers of one page cost one query, and a new snapshot's answer is never an old one."""
    publish(home, ("r1", "p1", None))
    asked: list[str] = []

    def question(run_id: str) -> list[str]:
        asked.append(run_id)
        return [r["run_id"] for r in snapshot.runs()]

    assert read(question, "x") is read(question, "x") and asked == ["x"]
    publish(home, ("r2", "p1", None))
    assert read(question, "x") == ["r2"] and asked == ["x", "x"]


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [(-1.5, -2.0, -1.0, "1.50 (1.00 to 2.00)"), (0.5, 0.1, 0.9, "0.500 (0.100 to 0.900)"), (-1.5, None, None, "1.50")],
)
def test_a_difference_without_its_sign_turns_its_interval(
    value: float, low: float | None, high: float | None, text: str
) -> None:
    """ "Saves 1.5 (1 to 2) attempts" is the same as a difference of -1.5 (-2 to -1), and not (-1 to -2)."""
    assert words.estimate_abs({"value": value, "low": low, "high": high}) == text


@pytest.mark.parametrize(("n", "text"), [(900, "900 B"), (1_858_872, "1.86 MB"), (1.2e9, "1.2 GB")])
def test_sizes(n: float, text: str) -> None:
    """Sizes read the same on every page."""
    assert words.size(n) == text


def test_only_what_was_overridden_is_called_so() -> None:
    """E0's FAIL needs no override; the headline must not say that it had one."""
    rows = {"p1": "why", "p2": "why", "e0": None}
    verdicts = {p: {"status": "FAIL", "overridden_by": why and "pi-4", "why": why} for p, why in rows.items()}
    assert story._decided(verdicts).endswith("P1, P2 and E0 say FAIL, P1 and P2 overridden")


def test_the_command_goes_on_with_the_same_run(home: Path) -> None:
    """Other settings would be another plan, and without its override the chain would stop again; the shell sees text."""
    publish(home, ("r1", "p1 p2", None))
    (verdicts,) = [{v["phase"]: v for v in snapshot.chain("r1")}]
    run = {"scale": "demo", "arguments_given": {"config": {"p1": {"embedders": ["a b"]}, "p2": {"n_test": 8}}}}
    assert shlex.split(story.again(run, verdicts)) == [
        "lab",
        "pipeline",
        "--scale",
        "demo",
        "--set",
        'p1.embedders=["a b"]',
        "--set",
        "p2.n_test=8",
        "--override",
        f"pilot says go on {HOSTILE}",
    ]


def test_evidence_marks_what_weakens_the_verdicts(home: Path) -> None:
    """Failed trials, hosts that differ and uncommitted changes are marked; the sum counts every phase once."""
    publish(home, ("r1", "p1 p2", None))
    (run,) = snapshot.runs()
    verdicts = {v["phase"]: v for v in snapshot.chain("r1")}
    pair = Pair("p1", "laptop", "pi-4", 1, 4, 8, 7, 0, 0, 1, 1 / 8, 0, 0.5)
    compared = RunAgreement([pair], [], {"p1": judged("p1", [pair], [], ["laptop", "pi-4"])})
    assert [(f.value, f.warns) for f in story.evidence(run, verdicts, compared)] == [
        ("48 trials on laptop and pi-4", False),
        ("16 failed", True),
        ("hosts differ in P1", True),
        ("commit 34c42bd34c42 with uncommitted changes", True),
    ]


def test_a_fail_above_its_threshold_says_that_it_rests_on_more(home: Path) -> None:
    """P1 can fail on kNN while its ratio is fine: the card must not look like a contradiction."""
    publish(home, ("r1", "p1", None))
    verdict = snapshot.chain("r1")[0]
    assert cards.note(verdict) == "threshold 1.2, higher is better"
    assert cards.note({**verdict, "status": "FAIL"}) == "above 1.2, but another condition is not met"
    low_p = {**verdict, "status": "FAIL", "main_metric": "adjusted_p", "value": 0.01, "threshold": 0.05}
    assert cards.note(low_p) == "below 0.05, but another condition is not met"


def test_html_escapes_what_the_snapshot_says(home: Path) -> None:
    """Names and reasons are data: none of them becomes markup."""
    publish(home, ("r1", "p2", None))
    verdict = snapshot.chain("r1")[0]
    html = cards.card("p2", verdict, None) + cards.reasons({"p2": verdict})["p2"]
    assert HOSTILE not in html
    assert "&lt;img src=x" in html


def test_forest_draws_hosts_intervals_and_threshold(home: Path) -> None:
    """A host keeps its colour when another is missing; intervals end where the table says; the threshold is labelled."""
    publish(home, ("r1", "p1", None))
    rows = [r for r in snapshot.host_comparison("r1", "p1") if r["metric"] == "similarity_ratio"]
    verdict = snapshot.chain("r1")[0]
    both = forest.forest(rows, ["laptop", "pi-4"], verdict)
    alone = forest.forest([r for r in rows if r["host"] == "pi-4"], ["laptop", "pi-4"], verdict)
    assert both.data[1].marker.color == alone.data[0].marker.color != both.data[0].marker.color
    assert both.data[0].x[0] + both.data[0].error_x.array[0] == pytest.approx(1.411)
    assert both.layout.annotations[0].text == "threshold 1.2"
    assert (
        forest.finding(rows, verdict)
        == "Similarity ratio 1.34 (1.28 to 1.41) for all-MiniLM-L6-v2, above the threshold 1.2"
    )


def test_undefined_is_named_in_the_plot(home: Path) -> None:
    """A condition without a value keeps its row and says so, instead of a point at zero."""
    publish(home, ("r1", "p1", None))
    rows = [*snapshot.phase_metrics("r1", "p1"), *snapshot.host_comparison("r1", "p1")]
    accuracy = [r for r in rows if r["metric"] == "accuracy"]
    figure = forest.forest(accuracy, ["laptop", "pi-4"], None)
    assert [trace.name for trace in figure.data] == ["all hosts", "laptop", "pi-4"]
    assert {len(trace.x) for trace in figure.data} == {2}
    assert [(a.text, a.y) for a in figure.layout.annotations] == [("undefined", 2)]
    assert forest.finding(accuracy, None) == "Highest accuracy for semantic: 0.731 (0.655 to 0.794)"


def test_long_labels_of_a_grid_do_not_overlap(home: Path) -> None:
    """E0's conditions are long: what all share is left out, and a row is as tall as its lines (they ran together once)."""
    grid = [
        f"all-MiniLM-L6-v2 | text {w} | k {k} | {d}"
        for w in (0.3, 0.7)
        for k in (5, 10)
        for d in ("cosine", "euclidean")
    ]
    rows = [
        {
            "metric": "relevance",
            "condition": c,
            "host": "pi-4",
            "value": 0.4,
            "low": 0.3,
            "high": 0.5,
            "n": 6,
            "method": "mean",
        }
        for c in grid
    ]
    figure = forest.forest(rows, ["pi-4"], None)
    ticks = list(figure.layout.yaxis.ticktext)
    assert ticks[0] == "text 0.3 | k 5 | cosine" and len(set(ticks)) == len(grid)
    most = max(t.count("<br>") + 1 for t in ticks)
    assert most == 2 and figure.layout.height >= most * style.LINE_PX * len(grid)
    assert forest.distinct_parts(["one"]) == ["one"]
    assert forest.distinct_parts(["a | b", "a | c"]) == ["b", "c"]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("mean_difference", "mean difference (attempts)"),
        ("training_time_s", "training time (s)"),
        ("knn_accuracy", "kNN accuracy (share)"),
        ("improvement_percent", "improvement percent (%)"),
        ("adjusted_p", "adjusted p (no unit)"),
    ],
)
def test_an_axis_names_its_unit(metric: str, text: str) -> None:
    """A number on an axis without a unit can be read as anything."""
    assert words.axis(metric) == text


def test_a_reason_reads_as_a_sentence() -> None:
    """A quoted error's own full stop must not look like a misprint."""
    assert words.reason("cannot be loaded: no cached files.; kNN 0.50 (needs > 0.7). So it is..") == (
        "cannot be loaded: no cached files; kNN 0.50 (needs > 0.7). So it is."
    )
    assert words.reason("and so on... Then 0.5.") == "and so on... Then 0.5."


def test_what_a_plan_stores_is_what_the_page_reads(home: Path) -> None:
    """The plan is the only source of titles, blocking and options, so both sides must agree on its form."""
    path = publish(home, ("r1", "p1", None))
    with changed(path) as con:
        con.execute("UPDATE plans SET content = ?", [json.dumps(plan("smoke").content)])
    texts = snapshot.phase_texts("r1")
    assert [(p, t.title, t.blocking) for p, t in texts.items()][:1] == [("p1", "Embedding validity", True)]
    assert texts["e1"].answers == get_domain("big_o").options and texts["e1"].question.endswith("?")
