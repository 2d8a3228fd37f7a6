"""The pages of the six phases: what they ask of a snapshot, and that each state of a phase is a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from acting import commands_on
from made_up_phases import CLASSES, RTL, enrich
from made_up_snapshot import MINILM, changed, publish
from streamlit.testing.v1 import AppTest

from app.phase_names import named
from app.plots import pareto, style
from app.plots import phases as plots
from warehouse.queries import phases as reading_phases

APP = Path(__file__).resolve().parents[3] / "app" / "views"
FULL = ("r1", "p1 p2 p3 e0 e1 e2", None)
PLOTS = {"p1": 4, "p2": 3, "p3": 4, "e0": 3, "e1": 7, "e2": 6}  # with what enrich writes


def shown(phase: str, **address: str) -> AppTest:
    """The page after its first run, at an address."""
    page = AppTest.from_file(str(APP / f"{phase}.py"), default_timeout=60)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert [e.value for e in page.exception] == []
    return page


def text_on(page: AppTest) -> str:
    """All HTML and captions of a page."""
    return " ".join([*(str(h.proto.body) for h in page.get("html")), *(str(c.value) for c in page.caption)])


@pytest.mark.parametrize("phase", PLOTS)
def test_every_page_draws_what_its_phase_found(home: Path, phase: str) -> None:
    """Names that are markup, read from right to left or very long must not break a page, nor undefined numbers."""
    publish(home, FULL, more=enrich)
    page = shown(phase)
    assert len(page.get("plotly_chart")) >= PLOTS[phase]
    assert named(phase) in text_on(page)
    assert "<img src=x" not in text_on(page)
    assert len(page.get("dataframe")) >= 1


def test_e1_says_how_much_of_the_gain_its_labels_have(home: Path) -> None:
    """In the title of the plot that has the labels alone and the vote beside semantic memos."""
    publish(home, FULL, more=enrich)
    charts = [str(c.proto) for c in shown("e1").get("plotly_chart")]
    assert any("Labels alone save 93%" in c and "vote" in c for c in charts)


def test_a_phase_that_failed_shows_the_failure_protocol(home: Path) -> None:
    """What to try is a command that can be copied, its reason beside it."""
    publish(home, FULL)
    page = shown("p2")
    assert commands_on(page)[0] == "lab run p2 --set n_test=64"
    assert "the seen effect asks for 64 problems" in text_on(page)
    assert "lab-fail" in text_on(page)


def test_e1_says_what_retrieval_finds_and_no_more_of_attempts_than_its_verdict(home: Path) -> None:
    """Where the model without memory is at chance, a saving of attempts is no finding, and what was retrieved is."""
    path = publish(home, ("r1", "e1", None), more=enrich)
    charts = [str(c.proto) for c in shown("e1").get("plotly_chart")]
    assert any("Similar memos are more often of the right class than recent ones: 0.35" in c for c in charts)
    assert any("Similar saves 0.43" in c for c in charts) and any("equivalence" in c and "0.25" in c for c in charts)
    with changed(path) as con:
        con.execute("UPDATE verdicts SET findings = '{\"base_above_chance\": false}' WHERE phase = 'e1'")
    charts = [str(c.proto) for c in shown("e1").get("plotly_chart")]
    assert not any("saves" in c for c in charts) and not any("Labels alone save" in c for c in charts)
    assert any("Similar memos are more often of the right class" in c for c in charts)


def test_a_phase_that_is_not_run_says_what_goes_on(home: Path) -> None:
    """A page without results names the command that brings them; one that waits for a failed phase says which."""
    publish(home, ("r1", "p1", None), ("r2", "p1 p2 p3", None))
    assert commands_on(shown("p2", run="r1")) == ["lab pipeline --scale demo"]
    stopped = shown("e1", run="r2")
    assert "The chain stopped at P3" in text_on(stopped)
    assert not commands_on(stopped)


def test_a_phase_that_runs_shows_its_units(home: Path) -> None:
    """While a phase runs there is no metric, but how far it is."""
    publish(home, ("r1", "p1", "p2"))
    assert "3 of 8 units done." in text_on(shown("p2"))


def test_a_host_is_asked_for_in_the_address(home: Path) -> None:
    """The host filter shows that host's own numbers, and says so when it has none."""
    publish(home, FULL, more=enrich)
    rows = shown("p2", host="pi-4").get("dataframe")[0].value
    assert set(rows["metric"]) == {"adjusted p", "accuracy"}  # enrich writes metrics over all hosts only
    with changed(home / "snapshot.duckdb") as con:
        con.execute("DELETE FROM metrics WHERE host = 'pi-4'")
    assert "pi-4 has no result of P2 Retrieval utility" in text_on(shown("p2", host="pi-4"))


def test_an_address_that_asks_for_what_is_not_there_shows_what_is(home: Path) -> None:
    """An old link, or one that was mistyped, opens a page and not an error."""
    publish(home, FULL, more=enrich)
    page = shown("p1", run="gone", host="nobody", scale="<b>", embedder="none such")
    assert "The run in the address does not exist" in text_on(page)
    assert page.query_params["run"] in ("r1", ["r1"])
    assert "host" not in page.query_params


def test_filters_that_leave_no_run_can_be_taken_back(home: Path) -> None:
    """Each filter lists all values, so two of them may exclude each other; one button shows all runs again."""
    path = publish(home, FULL, ("r2", "p1", None))
    with changed(path) as con:
        con.execute("UPDATE runs SET scale = 'full', domain = 'equations' WHERE run_id = 'r2'")
    page = shown("p1", scale="full", domain="big_o")
    assert "No run has this scale, domain and model together." in text_on(page)
    page.button[0].click().run()
    assert named("p1") in text_on(page)


def test_only_counted_trials_are_counted(home: Path) -> None:
    """A replicate of a unit must not count a second time, nor a failed trial as attempts."""
    publish(home, ("r1", "p2", None))
    assert reading_phases.attempt_counts("r1", "p2") == [
        {"condition": "none", "attempts": 1, "trials": 16, "first_right": 16}
    ]
    assert reading_phases.attempt_counts("r1", "p2", "laptop") == [
        {"condition": "none", "attempts": 1, "trials": 8, "first_right": 8}
    ]


def test_paired_differences_are_of_the_same_problem(home: Path) -> None:
    """Made-up attempts of condition c on problem i are 1 + (i + c) % 4: a step of c is 1 more, or 3 fewer at the turn."""
    publish(home, ("r1", "p2", None), more=enrich)
    found = reading_phases.paired_differences("r1", "p2", "recent", "semantic")
    assert found == [{"difference": -1.0, "problems": 18}, {"difference": 3.0, "problems": 6}]


def test_similarities_and_map_are_of_one_embedder(home: Path) -> None:
    """24 problems have 2 memos of their class each, and 3 others in two bins."""
    publish(home, ("r1", "p1", None), more=enrich)
    assert reading_phases.embedders_of("r1", "p1") == sorted([MINILM, "none", RTL])
    bins = reading_phases.similarity_bins("r1", "p1", MINILM)
    assert [(b["kind"], b["cosine"], b["width"], b["pairs"]) for b in bins] == [
        ("between", -0.75, 0.5, 24),
        ("between", 0.25, 0.5, 48),
        ("within", 0.75, 0.5, 48),
    ]
    points = reading_phases.map_points("r1", "p1", RTL)
    assert {p["truth"] for p in points} == set(CLASSES) and len(points) == 24
    assert {(p["x"], p["y"]) for p in points if p["problem_id"] == "problem-7"} == {(2.0, 1.0)}


def test_relevance_is_held_against_attempts(home: Path) -> None:
    """Each step of relevance has its mean, its n and an interval around it."""
    publish(home, ("r1", "e1", None), more=enrich)
    rows = [r for r in reading_phases.relevance_against_attempts("r1", "e1") if r["condition"] == "none"]
    assert [r["relevance"] for r in rows] == [i / 10 for i in range(10)]
    assert sum(r["n"] for r in rows) == 24
    assert rows[0]["value"] == pytest.approx((1 + 3 + 1) / 3)  # problems 0, 10, 20
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]


def test_trainings_bring_their_losses(home: Path) -> None:
    """P3 keeps no validation loss, E2 does; both adapters of E2 come in order."""
    publish(home, FULL, more=enrich)
    [p3] = reading_phases.trainings("r1", "p3")
    assert (p3["train_loss"], p3["validation_loss"], p3["seconds"]) == ([1.2, 0.9], None, 1.5)
    assert [t["condition"] for t in reading_phases.trainings("r1", "e2")] == ["train_r", "train_s"]


def test_trainings_of_a_dataset_are_told_apart_and_their_price_is_a_mean(home: Path) -> None:
    """At full scale S and R stood there three times, all alike, under a note on one training each."""
    with changed(publish(home, FULL, more=enrich)) as con:
        con.execute("INSERT INTO trials SELECT * REPLACE (200 AS seed) FROM trials WHERE condition = 'train_s'")
    page = shown("e2")
    [adapters] = [list(d.value["adapter"]) for d in page.dataframe if "adapter" in d.value]
    assert adapters == ["R, seed 100", "S, seed 100", "S, seed 200"]
    titles = " ".join(str(c.proto.spec) for c in page.get("plotly_chart")).replace("<br>", " ")
    assert "(mean of 2 trainings)" in titles.replace("\u00a0", " ") and "train_s, seed 200" in titles
    assert "one training each" not in text_on(page)


def test_e0_shows_the_chosen_configuration_on_the_queries_that_did_not_choose_it(home: Path) -> None:
    """0.775 is what the gate looked at; 0.795, of the queries that chose, is drawn and named beside it. Older runs have one."""
    path = publish(home, FULL, more=enrich)
    chosen = f"{MINILM} | text 0.7 | k 5 | cosine"
    with changed(path) as con:
        con.execute("UPDATE verdicts SET main_condition = ? WHERE phase = 'e0'", [chosen])
    titles = [str(c.proto.spec).replace("<br>", " ").replace("\u00a0", " ") for c in shown("e0").get("plotly_chart")]
    [front] = [t for t in titles if "Chosen: text 0.7, k 5, cosine" in t]
    assert "on held-out queries" in front and "0.795 where it was chosen" in front
    with changed(path) as con:
        con.execute("DELETE FROM metrics WHERE metric = 'relevance_choosing'")
    titles = [str(c.proto.spec) for c in shown("e0").get("plotly_chart")]
    assert any("Chosen:" in t for t in titles) and not any("held-out" in t for t in titles)


def cell(weight: float, k: int, value: float, time_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Relevance and time of one configuration."""
    name = f"{MINILM} | text {weight:g} | k {k} | cosine"
    return {"condition": name, "value": value, "low": None, "high": None, "n": 6}, {"condition": name, "value": time_s}


def test_the_front_holds_what_none_beats(home: Path) -> None:
    """By hand: 0.9 in 50 ms and 0.5 in 10 ms are not beaten; 0.6 in 60 ms is; 12 ms and 10 ms are one time."""
    pairs = [cell(1, 5, 0.9, 0.05), cell(0.7, 5, 0.6, 0.06), cell(0, 5, 0.5, 0.01), cell(0, 7, 0.4, 0.012)]
    cells = pareto.cells([r for r, _ in pairs], [t for _, t in pairs])
    assert (cells[0]["weight"], cells[0]["k"], cells[0]["distance"]) == (1.0, 5, "cosine")
    assert [(c["value"], c["time_s"]) for c in pareto.front(cells, 0.005)] == [(0.5, 0.01), (0.9, 0.05)]
    one_time = pareto.cells([cell(1, 5, 0.9, 0.012)[0], pairs[2][0]], [cell(1, 5, 0.9, 0.012)[1], pairs[2][1]])
    assert [c["value"] for c in pareto.front(one_time, 0.005)] == [0.9]
    assert pareto.cells([{"condition": "leakage", "value": 1.0}], []) == []


def test_a_name_keeps_its_colour_and_markup_in_titles_is_text() -> None:
    """The same condition is the same colour on every page; a title made of data cannot become markup."""
    assert style.colour("base_semantic") == style.colour("semantic") != style.colour("temporal")
    assert style.colour("pi-4", ["laptop", "pi-4"]) == style.OKABE_ITO[1]
    figure = style.titled("<b>bold</b> & more", "<i>n 3</i>", "<x>", "<y>")
    shown = style.drawing(figure)
    for title in (shown.head, shown.plot.layout.meta["saved"]["title"]["text"]):
        assert "&lt;b&gt;bold" in title and "&lt;i&gt;n 3" in title
    assert figure.layout.xaxis.title.text == "&lt;x&gt;"


def test_the_margin_and_the_mean_are_drawn() -> None:
    """A paired difference is judged against its margin of equivalence, which must be where the phase put it."""
    rows = [{"difference": -1.0, "problems": 4}, {"difference": 0.0, "problems": 6}]
    main = {"value": -0.4, "low": -0.6, "high": -0.1, "n": 10}
    figure = plots.differences(rows, main, "finding", "n 10", "semantic", "temporal", margin=0.25)
    assert [(s.x0, s.x1) for s in figure.layout.shapes if s.type == "rect"] == [(-0.25, 0.25)]
    mean = figure.data[1]
    assert (mean.x[0], mean.error_x.array[0], mean.error_x.arrayminus[0]) == pytest.approx((-0.4, 0.3, 0.2))


def test_rows_are_not_cut_their_numbers_stand_beside_and_intervals_end_in_arrows() -> None:
    """ "all-MiniLM-L6-v2, familie…" hid what was drawn; a threshold went through a number; an interval just stopped."""
    names = ("all-MiniLM-L6-v2, families apart", "short")
    rows = [{"condition": c, "value": 100.0, "low": 80.0, "high": 450.0, "n": 9} for c in names]
    figure = plots.rows_with_intervals(rows, "finding", "n 9", "percent")
    style.within(figure, 0, 220)
    assert list(figure.layout.yaxis.ticktext) == ["all-MiniLM-L6-v2,<br>families apart", "short"]
    assert [(a.text, a.xref, a.x) for a in figure.layout.annotations] == [("100", "paper", 1)] * 2
    arrows = [(t.x[0], t.y[0], t.marker.symbol) for t in figure.data[2:]]
    assert arrows == [(220, 0, "triangle-right"), (220, 1, "triangle-right")]
    assert {style.ink(c) for c in style.OKABE_ITO} == {"#000000", "#FFFFFF"} and style.ink("#777777") == "#000000"


def test_one_run_folds_the_filters(home: Path) -> None:
    """With one run there is nothing to choose; a filter in use is never hidden."""
    publish(home, ("r1", "p1", None))
    assert [e.proto.expanded for e in shown("p1").sidebar.expander] == [False]
    assert [e.proto.expanded for e in shown("p1", host="pi-4").sidebar.expander] == [True]
    publish(home, ("r1", "p1", None), ("r2", "p1", None))
    assert not shown("p1").sidebar.expander


def test_a_title_is_cut_where_it_reads_well() -> None:
    """A last word on a line of its own, or an interval in two lines, is the first thing that a reader stumbles over."""
    text = "Neighbours of hybrid share its class in 0.500 (0.332 to 0.668), below 0.7 in 12 % of all"
    lines = style.balanced(text, 54)
    assert [line.replace("\u00a0", " ") for line in lines] == [
        "Neighbours of hybrid share its class in 0.500",
        "(0.332 to 0.668), below 0.7 in 12 % of all",
    ]
    assert style.balanced("n 12 · the test · bootstrap", 16) == ["n 12\u00a0· the", "test\u00a0· bootstrap"]
    assert style.balanced("highest at text 0.3, k 3", 18) == ["highest at", "text\u00a00.3, k\u00a03"]
    assert style.balanced("", 54) == []


@pytest.mark.parametrize(
    "change",
    [
        "value = 0.12 WHERE metric = 'adjusted_p'",  # and the interval of the mean, -0.61 to -0.25, is below zero
        "value = 0.3 WHERE metric = 'rank_biserial'",
    ],
)
def test_no_title_says_what_the_gates_test_denies(home: Path, change: str) -> None:
    """ "Saves 1.33" stood beside FAIL, since one read the interval of the mean and the other the adjusted p."""
    path = publish(home, FULL, more=enrich)

    def titles(phase: str) -> str:
        return " ".join(c.proto.spec for c in shown(phase).get("plotly_chart")).replace("<br>", " ")

    assert " memos save " in titles("p2")
    with changed(path) as con:
        con.execute(f"UPDATE metrics SET {change}")
    for phase, nothing in (("p2", "No retrieval is shown to save"), ("e2", "No tuned model is shown to save")):
        found = titles(phase)
        assert nothing in found and ("not shown to differ" in found or "signed ranks on" in found)
        assert " saves " not in found and " memos save " not in found
