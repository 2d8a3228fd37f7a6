"""What the first page says was found, and what its cards show: never more than the verdicts."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import made_up_hosts
import pytest
from made_up_hosts import RUN, names_of
from streamlit.testing.v1 import AppTest

from app.components import card_parts, cards, found, live
from app.prefect_api import FlowRun, Now
from app.reading import Row
from warehouse.queries import snapshot
from warehouse.queries.agreement import Mark


def verdict(status: str, **findings: str | float | bool) -> dict[str, Any]:
    found = {"status": status, "main_condition": "semantic - none", "findings": findings}
    return found | {"main_metric": "precision_difference"}


def difference(value: float | None) -> found.Find:
    def find(phase: str, metric: str, condition: str) -> Row | None:
        return {"value": {"p2": value, "e1": value}.get(phase)} if metric == "mean_difference" else None

    return find


def test_the_headline_is_what_was_found() -> None:
    """A count of verdicts answers nobody's question."""
    verdicts = {
        "p2": verdict("PASS", retrieval_helps="semantic"),
        "e1": verdict("PASS", hypothesis="amplification"),
        "e2": verdict("FAIL"),
    }
    assert found.sentence(verdicts, difference(-1.5)) == (
        "Similar memories save 1.5 attempts a problem; against recent ones they save 1.5; "
        "fine-tuning did not teach the model to search better."
    )
    verdicts["e2"]["main_metric"] = "mean_difference"
    assert found.sentence(verdicts, difference(-1.5)).endswith("; fine-tuning did not improve on that."), (
        "an earlier run"
    )
    copied = {"e1": verdict("PASS", hypothesis="amplification", labels_copied=0.934)}
    assert found.sentence(copied, difference(-1.5)).endswith("and 93% of what they save against none is copied labels.")
    chance = {"e1": verdict("INCONCLUSIVE", hypothesis="weak_signal", base_above_chance=False)}
    assert found.sentence(chance, difference(-1.5)).startswith("Without memory the model was not shown to be better")
    assert found.sentence({}, difference(-1.5)) == ""
    assert found.sentence({"p1": verdict("PASS")}, difference(-1.5)) == ""


@pytest.mark.parametrize("value", [-1.5, 0.0, 2.0, None])
def test_the_headline_says_no_more_than_the_verdicts(value: float | None) -> None:
    """A saving beside FAIL, or an improvement beside INCONCLUSIVE, is what a reader takes home."""
    outcomes = ("PASS", "FAIL", "INCONCLUSIVE")
    for p2, e1, e2, attempts in product(outcomes, outcomes, outcomes, ("confirmed", "refuted")):
        for hypothesis in ("amplification", "correction", "stabilization", "weak_signal"):
            verdicts = {"p2": verdict(p2), "e1": verdict(e1, hypothesis=hypothesis), "e2": verdict(e2)}
            verdicts["e2"]["findings"]["attempts_verdict"] = attempts
            memory, *strategy, tuning = found.sentence(verdicts, difference(value)).lower().rstrip(".").split("; ")
            assert ("memories save" in memory) == (p2 == "PASS")
            assert ("save" in strategy[0]) <= (e1 == "PASS" and hypothesis in ("amplification", "correction"))
            assert ("taught" in tuning) == (e2 == "PASS")
            assert ("made attempts" in tuning) == (e2 == "PASS" and attempts == "confirmed")


def test_a_card_shows_the_number_that_decided(home: Path) -> None:
    """P1 failed on kNN, and its card showed a ratio above the threshold in red."""
    made_up_hosts.publish(home, names_of(1), "split", decided="p1 p2")
    p1, p2 = snapshot.chain(RUN)
    shown = card_parts.deciding(RUN, p1)
    assert (shown["main_metric"], shown["value"], shown["threshold"]) == ("knn_accuracy", 0.5, 0.7)
    assert cards.note(shown) == "threshold 0.7, higher is better"
    assert card_parts.deciding(RUN, p2) is p2


def test_an_override_has_its_reason_once(home: Path) -> None:
    """The demo's reason stood on every card, in the headline and below."""
    made_up_hosts.publish(home, names_of(1), "split", decided="p1 p2")
    verdicts = {v["phase"]: v for v in snapshot.chain(RUN)}
    verdicts["p2"] |= {"overridden_by": "desktop", "why": verdicts["p1"]["why"]}
    texts = "".join(cards.reasons(verdicts).values())
    assert texts.count("the demo shows every phase") == 1


def test_a_bar_has_a_line_at_its_reference_even_without_a_value() -> None:
    """A bar alone says nothing: more than what?"""
    row = {
        "value": None,
        "low": None,
        "high": None,
        "threshold": 0.8,
        "main_metric": "retention",
        "status": "INCONCLUSIVE",
    }
    assert "lab-line" in cards.bar(row)
    assert cards.reference({**row, "threshold": None}) == 1
    assert cards.reference({**row, "threshold": None, "main_metric": "mean_difference"}) == 0


def test_the_mark_of_a_card_names_who_differs() -> None:
    """One word and a shape: same, differs, not compared, one host."""
    assert card_parts.agreement_mark({"a": Mark("reference"), "b": Mark("same")}) == ("same", "hosts agree")
    assert card_parts.agreement_mark({"a": Mark("reference"), "b": Mark("differs")}) == ("differs", "b differs")
    assert card_parts.agreement_mark({"a": Mark("apart"), "b": Mark("apart")}) == ("apart", "split, not compared")
    assert card_parts.agreement_mark({"a": Mark("apart")}) == ("absent", "one host")


def test_the_live_line_stands_only_while_something_runs(home: Path) -> None:
    """Phase, units, hosts and time left; no line for a run that ended, or of another phase."""
    made_up_hosts.publish(home, names_of(1), "split", decided="p1 p2 p3 e0")
    at = made_up_hosts.START
    run = FlowRun("e1 · shard 1 of 2 · pi-4", "Running", "RUNNING", "weak", "pi-4", at)
    left = [
        {"host": "pi-4", "phase": "e1", "units": 3, "left_s": 90.0},
        {"host": "old", "phase": "e1", "units": 3, "left_s": 900.0},
    ]
    line = live.strip("e1", (3, 6), Now(at, under_way=[run]), left)
    assert "3 of 6 units · on pi-4 · 1 min 30 s left" in line
    assert live.strip("e2", (3, 6), Now(at, under_way=[run]), left) == ""
    assert live.strip("e1", (3, 6), Now(at), left) == live.strip("e1", (3, 6), None, left) == ""


def test_a_run_under_way_is_shown_without_a_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit refuses to draw nothing: the page failed while a phase ran and no server answered."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    made_up_hosts.publish(home, names_of(1), "split", decided="p1 p2 p3 e0")
    page = AppTest.from_file(
        str(Path(__file__).resolve().parents[3] / "app/views/overview.py"), default_timeout=60
    ).run()
    assert not page.exception
    html = " ".join(h.proto.body for h in page.get("html"))
    assert "<h1>Similar memories save" in html and "lab-live" not in html
