"""Trials a page at a time, and one trial down to its prompt."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any, get_args

import made_up_hosts
import pytest
from made_up_hosts import RUN, names_of
from made_up_snapshot import HOSTILE, changed, publish

from app.components import trial_view
from experiments.domains import get_domain
from experiments.solving.solving import Memo, memo_spans, prompt_for
from warehouse.database import summaries
from warehouse.queries import trials
from warehouse.queries.trials import Outcome, Wanted


def test_pages_hold_every_counted_trial_once_and_in_order(home: Path) -> None:
    """Turning pages shows nothing twice and leaves nothing out, whatever the page's size; repeats are not counted."""
    publish(home, ("r1", "e1 p1", "p2"), ("r2", "p1", None))
    wanted = Wanted("r1")
    whole = trials.page(wanted, 0, 1000)
    assert (whole.total, len(whole.rows)) == (57, 57)
    assert [r["phase"] for r in whole.rows] == ["p1"] * 24 + ["p2"] * 9 + ["e1"] * 24
    for size in (11, 50):
        pages = [trials.page(wanted, first, size) for first in range(0, 57, size)]
        assert [r for p in pages for r in p.rows] == whole.rows
        assert {p.total for p in pages} == {57}
    behind = trials.page(wanted, 60, 4)
    assert (behind.total, behind.rows) == (57, [])
    assert trials.page(Wanted("neither")).total == 0
    assert trials.phases("r1") == ["p1", "p2", "e1"]


def test_what_is_counted_beside_the_trials_agrees_with_the_trials(home: Path) -> None:
    """A total comes from a summary; one that gave another number than the rows would send a reader past the end."""
    path = publish(home, ("r1", "p1 p2", None))
    with changed(path) as con:
        con.execute("UPDATE trials SET solved = (ordinal = 0) WHERE error IS NULL AND host = 'laptop'")
        con.execute("UPDATE trials SET condition = 'semantic' WHERE ordinal = 1")
        con.execute("DELETE FROM attempt_counts; DELETE FROM problem_results; DELETE FROM bundle_numbers")
        summaries.refresh(con)
    outcomes: tuple[Outcome, ...] = get_args(Outcome)
    for outcome, others in product(outcomes, ((None, None, None), ("p2", "none", "laptop"))):
        beside = trials.page(Wanted("r1", *others, outcome), 0, 1000)
        read = trials.page(Wanted("r1", *others, outcome, "problem-"), 0, 1000)
        assert (beside.total, len(beside.rows)) == (read.total, read.total)
        assert beside.rows == read.rows
    assert trials.page(Wanted("r1", outcome="failed"), 0, 1000).total == 16
    assert trials.page(Wanted("r1", outcome="solved"), 0, 1000).total == 8
    assert trials.page(Wanted("r1", outcome="unsolved"), 0, 1000).total == 8
    assert trials.conditions("r1", "p1") == ["none", "semantic"]


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%", "_", HOSTILE, "problem-1'; DROP TABLE trials"])
def test_a_search_is_data(home: Path, text: str) -> None:
    """Text that is typed into the field is searched literally; it is not a pattern and not SQL."""
    publish(home, ("r1", "p1", None))
    assert trials.page(Wanted("r1", text=text)).total == 0
    assert trials.page(Wanted("r1", text="lem-1")).total == 8


def test_a_trial_comes_with_the_prompt_of_its_first_seed(home: Path) -> None:
    """The prompt is stored once for all seeds; without it the options of the other seeds would have no names."""
    path = publish(home, ("r1", "p2", None))
    with changed(path) as con:
        con.execute("UPDATE trials SET problem_id = 'p' WHERE ordinal < 2")
        for ordinal, details in ((0, {"prompt": "Which?", "guesses": ["a"]}), (1, {"guesses": ["b"]})):
            con.execute("UPDATE trials SET details = ? WHERE ordinal = ?", [json.dumps(details), ordinal])
    found = [trials.trial("r1-p2-0-0", i) for i in range(3)]
    assert [r["details"].get("prompt") for r in found if r] == ["Which?", "Which?", None]
    assert found[1] and (found[1]["phase"], found[1]["host"], found[1]["details"]["guesses"]) == ("p2", "laptop", ["b"])
    assert trials.trial("r1-p2-0-0", 9) is None


def details(**more: Any) -> dict[str, Any]:
    """Details of a choice among three options, with two memos in the prompt."""
    return {"guesses": ["O(n)", "O(1)", "O(n, m)"], "logprobs": [-1.0, -2.0, -3.0]} | more


def test_options_are_named_in_the_order_of_their_probabilities() -> None:
    """A probability beside the wrong option would be worse than none; where the order is not certain none is named."""
    answers = ("O(1)", "O(n, m)", "O(n)")
    assert trial_view.options_of(details(), answers) == answers
    assert trial_view.options_of(details(), ()) is None
    assert trial_view.options_of(details(guesses=["O(n)"]), answers) is None
    assert trial_view.options_of(details(guesses=["O(n)", "O(2)", "O(3)"]), answers) is None
    assert trial_view.options_of(details(logprobs=[-1.0]), answers) is None
    assert trial_view.softmax([0.0, 0.0]) == [0.5, 0.5]
    assert trial_view.softmax([-1000.0, -1000.0 + 1]) == pytest.approx([0.26894, 0.73106], abs=1e-5)


@pytest.mark.parametrize("domain", ["big_o", "equations"])
def test_memos_are_shown_as_the_prompt_holds_them(domain: str) -> None:
    """A memo that is cut in the wrong place would show an answer that was never given."""
    problems = get_domain(domain).problems(4, 1)
    memos = [Memo(p, f"answer {i}", i) for i, p in enumerate(problems[:3])]
    stored = {
        "prompt": prompt_for(get_domain(domain), problems[3], memos),
        "retrieved": [p.problem_id for p in problems[:3]],
        "memo_spans": memo_spans(get_domain(domain), memos),
    }
    assert trial_view.memos_of(stored) == [(m.problem.problem_id, m.problem.text.strip(), m.answer) for m in memos]
    for wrong in ({"retrieved": ["m1"]}, {"retrieved": 3}, {"memo_spans": [["x"]] * 3}, {"memo_spans": [3] * 3}):
        assert trial_view.memos_of(stored | wrong) == []
    assert trial_view.memos_of({"prompt": stored["prompt"], "retrieved": []}) == []


def test_a_search_finds_answers_and_prompts_of_this_run(home: Path) -> None:
    """A reader looks for what was asked and answered, not for the number of a problem."""
    path = publish(home, ("r1", "p2", None), ("r2", "p2", None))
    with changed(path) as con:
        con.execute("UPDATE trials SET answer = 'O(n log n)' WHERE ordinal = 0 AND unit_id = 'r1-p2-0'")
        con.execute(
            "UPDATE trials SET details = '{\"prompt\": \"Sort a List\"}' WHERE ordinal = 1 AND unit_id = 'r1-p2-2'"
        )
    assert [r["answer"] for r in trials.page(Wanted("r1", text="N LOG")).rows] == ["O(n log n)"]
    assert [r["ordinal"] for r in trials.page(Wanted("r1", text="a list")).rows] == [1]
    assert trials.page(Wanted("r2", text="a list")).total == 0


def test_the_list_opens_on_answers_and_the_leakage_check_can_be_chosen(home: Path) -> None:
    """The first page was full of rows without an answer, of a search that asks no model."""
    path = publish(home, ("r1", "p1", None))
    with changed(path) as con:
        con.execute("UPDATE trials SET condition = 'leakage' WHERE ordinal = 0")
        con.execute("DELETE FROM attempt_counts; DELETE FROM problem_results; DELETE FROM bundle_numbers")
        summaries.refresh(con)
    assert {r["condition"] for r in trials.page(Wanted("r1")).rows} == {"none"}
    assert trials.page(Wanted("r1")).total == 16
    assert trials.page(Wanted("r1", "p1", "leakage")).total == 8


def test_a_trial_leads_to_its_neighbours_and_to_the_same_problem_elsewhere(home: Path) -> None:
    """To understand an answer one looks at the same problem with another memory, and on another machine."""
    made_up_hosts.publish(home, names_of(2), "replicate", decided="p1 p2")
    first = trials.page(Wanted(RUN, "p2", "none")).rows[0]
    assert trials.beside(first["bundle_sha256"], first["ordinal"]) == (None, 1)
    found = trials.elsewhere(RUN, first["bundle_sha256"], first["ordinal"])
    assert {(r["condition"], r["host"]) for r in found} == {
        (c, h) for c in ("none", "random", "recent", "semantic") for h in ("desktop", "laptop")
    }
    assert {(r["problem_id"], r["seed"]) for r in found} == {(first["problem_id"], first["seed"])}


def test_answers_come_before_measurements(home: Path) -> None:
    """P1 asks no model, so its trials have no answer; the list began with them."""
    made_up_hosts.publish(home, names_of(1), "split", decided="p1 p2")
    for text in ("", "big_o-p"):
        phases = [r["phase"] for r in trials.page(Wanted(RUN, text=text), 0, 1000).rows]
        assert phases[0] == "p2" and phases[-1] == "p1"
