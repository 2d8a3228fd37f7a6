"""The pages Hosts, Trials, Compare, Provenance and Monitor in the states in which a reader may meet them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import duckdb
import pytest
from acting import commands_on
from fake_prefect import serving
from made_up_report import report_file
from made_up_snapshot import HOSTILE, changed, publish
from streamlit.testing.v1 import AppTest

from warehouse import run_notes
from warehouse.paths import Paths

APP = Path(__file__).resolve().parents[3] / "app" / "views"
OF_A_RUN = ("hosts", "runs", "trials", "compare", "provenance")
FULL = ("full", "p1 p2 p3 e0 e1 e2", None)


def shown(name: str, **query: str) -> AppTest:
    """A page, run once, with what its address says; no exception is on it."""
    page = AppTest.from_file(str(APP / f"{name}.py"), default_timeout=60)
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert [e.value for e in page.exception] == []
    return page


def text_on(page: AppTest) -> str:
    """All HTML, captions and text of a page."""
    html = [str(h.proto.body) for h in page.get("html")]
    return "\n".join(
        [*html, *(c.value for c in page.caption), *(m.value for m in page.markdown), *(t.value for t in page.text)]
    )


@pytest.mark.parametrize("name", OF_A_RUN)
def test_without_results_each_page_names_the_command(home: Path, name: str) -> None:
    """A fresh checkout shows a sentence and a command on every page, never a traceback."""
    page = shown(name)
    assert "There are no results on this host yet." in text_on(page)
    assert commands_on(page) == ["make demo"]


def test_a_run_that_has_only_begun_is_a_state_of_each_page(home: Path) -> None:
    """Before the first verdict there is no metric, no second run and no duration; each page says so."""
    publish(home, ("begun", "", "p1"))
    assert "No metric yet" in text_on(shown("hosts"))
    assert "There is one run only" in text_on(shown("compare"))
    assert "Not checked yet" in text_on(shown("provenance"))
    assert "1 to 9" in text_on(shown("trials"))


def test_hosts_shows_agreement_work_and_durations(home: Path) -> None:
    """Who did what, whether they agree, and how good the plan was stand on one page."""
    publish(home, FULL)
    page = shown("hosts", phase="p1")
    assert "laptop and pi-4 shared the work; they had different problems: not a test." in text_on(page)
    assert commands_on(page) == ["lab assess", "lab audit --fraction 0.05"]
    assert [d.value["host"].tolist() for d in page.dataframe if "trials" in d.value] == [["laptop", "pi-4"]]


@pytest.mark.parametrize(
    "odd", [{"gpus": 5}, {"matrix_gflops": 10**400}, {"reasons": "[x](http://x)"}, {"host": "![x](/x)"}]
)
def test_a_report_that_cannot_be_read_costs_one_line(home: Path, odd: dict[str, object]) -> None:
    """One machine's report made the page of all machines fail, for everybody; and its words stay words."""
    with changed(publish(home, FULL)) as con:
        con.execute("UPDATE hosts SET report = ? WHERE host = 'pi-4'", [report_file("pi-4", **odd).decode()])
        con.execute("UPDATE hosts SET report = ? WHERE host = 'laptop'", [report_file("laptop", os="Plan 9").decode()])
    page = shown("hosts")
    html = [str(h.proto.body) for h in page.get("html")]
    assert len([h for h in html if "Left out, since its report cannot be read: pi-4: capability report" in h]) == 1
    assert [d.value["system"].tolist() for d in page.dataframe if "system" in d.value] == [["Plan 9"]]


def test_provenance_says_what_speaks_against_the_numbers(home: Path) -> None:
    """An override, uncommitted changes and failed trials must not stand in small print."""
    publish(home, FULL)
    text = text_on(shown("provenance"))
    assert "3 things to know before these numbers are believed" in text
    for part in (
        "uncommitted changes",
        "P2 did not pass and was overridden: pilot says go on",
        "48 of 144 trials failed",
    ):
        assert part in text
    assert HOSTILE not in text


def verified(con: duckdb.DuckDBPyConnection, at: str, phase: str | None, findings: list[dict[str, object]]) -> None:
    """One run of lab verify, as warehouse/maintenance/verify.py records it."""
    faults = sum(bool(f["fault"]) for f in findings)
    con.execute(
        "INSERT INTO verifications VALUES (?, 'laptop', ?, true, '{}', ?, ?, ?, 1)",
        [at, phase, faults, len(findings) - faults, json.dumps(findings)],
    )


def test_provenance_says_when_the_results_were_proved(home: Path) -> None:
    """What lab verify found, and what came in after it, decides whether the numbers can be believed; its texts are text."""
    path = publish(home, FULL)
    assert "The warehouse was never verified." in text_on(shown("provenance"))
    fault = {"fault": True, "check": "checksum", "about": HOSTILE, "what": "another SHA-256"}
    with changed(path) as con:
        verified(con, "2026-11-19 00:00:00+00", None, [fault])
        verified(con, "2026-11-21 00:00:00+00", "p1", [])
    page = shown("provenance")
    assert "4 things to know before these numbers are believed" in text_on(page)
    assert "lab verify found 1 fault in the warehouse" in text_on(page)
    assert "No fault found by the last lab verify</strong>, of P1 Embedding validity" in text_on(page)
    assert [f.value["about"].tolist() for f in page.dataframe if "about" in f.value] == [[HOSTILE]]
    with changed(path) as con:
        verified(con, "2026-11-22 00:00:00+00", None, [])
        con.execute("UPDATE bundles SET arrival = 2 WHERE unit_id = 'full-p1-0'")
    page = shown("provenance")
    assert "3 things to know" in text_on(page)
    assert "of the whole warehouse: every metric computed again" in text_on(page)
    assert "came in after it and" in text_on(page)


def test_a_run_without_a_doubt_says_so(home: Path) -> None:
    """Nothing to warn of is a sentence too, not an empty box that Streamlit refuses."""
    path = publish(home, ("clean", "p1", None))
    with changed(path) as con:
        con.execute(
            "UPDATE runs SET dirty = false; UPDATE attempt_counts SET failed = false; UPDATE trials SET error = NULL"
        )
    assert "Nothing recorded speaks against these numbers" in text_on(shown("provenance"))


def test_trials_are_filtered_by_the_address_down_to_one(home: Path) -> None:
    """A copied link opens the same filters, and the same trial, whose texts are text."""
    path = publish(home, ("r1", "p1 e1", None))
    with changed(path) as con:
        con.execute("UPDATE trials SET problem_id = ?, error = ? WHERE ordinal = 2", [HOSTILE, f"failed at {HOSTILE}"])
    page = shown("trials", run="r1", phase="e1", outcome="failed")
    assert "**1 to 8** of 8 trials" in text_on(page)
    assert page.dataframe[0].value["problem_id"].tolist() == [HOSTILE] * 8
    one = shown("trials", run="r1", trial="r1-e1-0-0.2")
    assert ("This trial failed" in text_on(one), HOSTILE in text_on(one)) == (True, False)
    assert one.code[0].value == f"failed at {HOSTILE}"
    assert one.query_params["trial"] in ("r1-e1-0-0.2", ["r1-e1-0-0.2"])
    gone = shown("trials", run="r1", trial="nowhere.0")
    assert "This trial is not in the results any more." in text_on(gone)
    assert "No trial matches these filters." in text_on(shown("trials", run="r1", problem="none such"))


def test_a_trial_shows_its_options_and_memos_by_what_was_stored(home: Path) -> None:
    """Options come from the plan and memos from their places in the prompt: no page may guess them from its text."""
    path = publish(home, ("r1", "p2", None))
    prompt = "Which?\n\nFunction:\nx = 1\nAnswer: O(n)\n\nFunction:\ny\nAnswer:"
    details = {
        "prompt": prompt,
        "guesses": ["O(n)", HOSTILE, "O(1)"],
        "logprobs": [-2.0, -1.0, -3.0],
        "retrieved": ["memo-1"],
        "memo_spans": [[18, 23, 32, 36]],
    }
    with changed(path) as con:
        con.execute("UPDATE trials SET truth = 'O(n)', seed = 1, details = ? WHERE ordinal = 0", [json.dumps(details)])
    page = shown("trials", run="r1", trial="r1-p2-0-0.0")
    drawn = page.get("plotly_chart")[0].proto.spec
    assert '"O(1): 24.5 %","O(n): 66.5 %","&lt;img src=x' in drawn and "guess 1, right" in drawn
    assert [c.value for c in page.code] == ["x = 1", prompt]
    assert page.expander[0].label.replace("\\", "") == "1. memo-1: O(n)"
    assert "guesses expected until the right answer" in text_on(page)


def test_pages_of_trials_are_turned(home: Path) -> None:
    """The buttons turn the page, the address follows, and another filter starts at the front."""
    publish(home, FULL)
    page = shown("trials", page="3")
    assert "**101 to 144** of 144 trials" in text_on(page)
    page.button(key="page-Previous").click().run()
    assert "**51 to 100** of 144 trials" in text_on(page)
    page.text_input(key="choice-problem").set_value("problem-1").run()
    assert "**1 to 48** of 48 trials" in text_on(page)


def test_two_runs_are_compared(home: Path) -> None:
    """The other run is chosen in the address; both are named, and equal plans are called equal."""
    publish(home, FULL, ("other", "p1 p2", None))
    page = shown("compare", run="full", **{"with": "other"})
    text = text_on(page)
    assert ("full" in text, "other" in text) == (True, True)
    assert "settings, versions and digests are equal" in text
    assert page.dataframe[0].value["verdict B"].tolist()[:3] == ["PASS", "FAIL", "not run"]


def test_three_runs_stand_side_by_side(home: Path) -> None:
    """Settings, verdicts and metrics have a column a run, and problems are paired with the run that is asked for."""
    publish(home, FULL, ("other", "p1 p2", None), ("third", "p1 p2 p3", None))
    page = shown("compare", run="full", **{"with": "other,third", "beside": "third"})
    verdicts = page.dataframe[0].value
    assert verdicts["verdict C"].tolist()[2:] == ["INCONCLUSIVE", "not run", "not run", "not run"]
    assert not any("★" in value for value in verdicts["value A"]), "equal values have no best"
    assert any({"A", "C", "C - A"} <= set(table.value.columns) for table in page.dataframe)
    assert "No metric of a phase that is decided in all of them differs." in text_on(page)
    assert shown("compare", run="full", **{"with": "other,none-such"}).multiselect[0].value == ["other"]


def test_all_runs_are_listed_with_verdicts_and_the_users_notes(home: Path) -> None:
    """Weeks later a run is found by what was thought of it; a note is saved from the page and filters the list."""
    publish(home, FULL, ("other", "p1 p2", None))
    page = shown("runs", run="other")
    assert (text_on(page).count("2 runs"), page.dataframe[0].value["run"].tolist()) == (1, ["other", "full"])
    assert page.dataframe[0].value["P2"].tolist() == ["✗ 0.0812", "✗ 0.0812"]
    assert page.dataframe[0].value["E2"].tolist()[0] == "–"
    page.text_input(key="tags-other").set_value("baseline, <b>odd</b>, baseline")
    page.text_area(key="text-other").set_value("k was too large")
    page.button[0].click().run()
    assert run_notes.notes(Paths(home)) == {
        "other": run_notes.RunNote(note="k was too large", tags=("baseline", "<b>odd</b>"))
    }
    assert page.dataframe[0].value["note"].tolist() == ["k was too large", ""]
    tagged = shown("runs", run="full", tag="baseline")
    assert tagged.dataframe[0].value["run"].tolist() == ["other"]
    page.text_input(key="tags-other").set_value(",".join(f"tag-{i}" for i in range(11)))
    page.button[0].click().run()
    assert "The note was not saved" in page.error[0].value and len(run_notes.notes(Paths(home))["other"].tags) == 2


def test_the_page_of_the_machines_says_that_no_server_answers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server away the page names the address and the command, and still shows this machine's spool."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    page = shown("monitor")
    assert f"No Prefect server answers at {url}." in text_on(page)
    assert commands_on(page) == ["lab up"]
    assert "every result of this machine is delivered" in text_on(page)


def test_the_page_of_the_machines_keeps_what_it_saw_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is away for a moment the reader still sees who was there, and that this is old."""
    publish(home, FULL)
    with serving() as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        page = shown("monitor")
        assert "1 machine online, 2 runs under way, 1 waiting" in text_on(page)
        assert page.dataframe[0].value["tier"].tolist() == ["not known", "strong", "weak"]
        assert page.dataframe[3].value["message"].tolist() == ["<b>disk full</b>"]
    page.run()
    assert [e.value for e in page.exception] == []
    assert "No Prefect server answers" in text_on(page)
    assert "What follows is from" in text_on(page)
    assert page.dataframe[0].value["machine"].tolist() == ["desktop", "laptop", "pi-4"]
