"""What E2 trains on: datasets S and R from memos, the query asked for, and what a query is worth."""

from __future__ import annotations

import pytest
from fake_engines import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import e2_finetuned_retrieval as e2
from experiments.data import universe
from experiments.domains import get_domain
from experiments.solving.choice import option_order
from experiments.solving.distillation import dataset, distilled, hunch_prompt, query_quality, raw
from experiments.solving.memory_bank import Bank, MemoRecord
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, prompt_for

DOMAIN = get_domain("big_o")
CONFIG = e2.Config(n_problems=24)
PROBLEMS = universe(CONFIG).problems
MEMOS = [
    MemoRecord(
        problem_id=p.problem_id,
        answer=p.label,
        order=i,
        attempts=1 if i % 2 else 4,
        success=bool(i % 2),
        guesses=(p.label,) if i % 2 else (DOMAIN.options[0], p.label),
    )
    for i, p in enumerate(PROBLEMS[:10])
]


def bank(k: int = 3) -> Bank:
    memos = [Memo(p, p.label, i) for i, p in enumerate(PROBLEMS[:10])]
    return Bank(DOMAIN, memos, FakeEmbedder(), RetrievalConfig(k=k))


def test_the_hunch_prompt_asks_for_a_query_and_tells_no_answer() -> None:
    """The model must search by what the problem looks like; the truth may stand nowhere but among the options."""
    prompt = hunch_prompt(DOMAIN, PROBLEMS[0], CONFIG)
    assert prompt.endswith("\nQuery:")
    assert f"Analysis: {DOMAIN.describe(PROBLEMS[0])}" in prompt
    assert PROBLEMS[0].label not in prompt.partition("\n\n")[2]


@pytest.mark.parametrize("i", range(10))
def test_a_memo_never_retrieves_itself(i: int) -> None:
    """Every problem here is in the bank and nearest to itself: its own answer may not come out of the search."""
    found, _ = bank().semantic(PROBLEMS[i])
    assert found[-1].problem == PROBLEMS[i]
    prompt, completion = distilled(DOMAIN, PROBLEMS[i], bank(), CONFIG)
    retrieved = completion.split("Retrieved: ")[1].splitlines()[0].split(", ")
    assert retrieved == [m.answer for m in found[:-1]]
    assert completion.endswith(f"Answer: {PROBLEMS[i].label}")
    assert prompt == hunch_prompt(DOMAIN, PROBLEMS[i], CONFIG)
    query, *rest = completion.splitlines()
    assert query.startswith(" function with ") and len(rest) == 3
    assert not any(option in query for option in DOMAIN.options)


def test_alone_in_memory_nothing_is_retrieved() -> None:
    """The one memo is the problem itself: the example says so, and does not fail."""
    only = Bank(DOMAIN, [Memo(PROBLEMS[0], PROBLEMS[0].label, 0)], FakeEmbedder(), RetrievalConfig(k=3))
    assert (
        "Retrieved: nothing\nApproach: similar ones are mostly nothing"
        in distilled(DOMAIN, PROBLEMS[0], only, CONFIG)[1]
    )


def test_a_raw_trajectory_keeps_its_failures_up_to_the_right_guess() -> None:
    """Dataset R is what happened: wrong guesses are named wrong, and nothing follows the right one."""
    wrong = [o for o in DOMAIN.options if o != PROBLEMS[0].label]
    prompt, completion = raw(DOMAIN, PROBLEMS[0], [wrong[0], wrong[1], PROBLEMS[0].label, wrong[2]], CONFIG)
    assert completion == (
        f"Attempt 1: {wrong[0]}. Wrong.\nAttempt 2: {wrong[1]}. Wrong.\n"
        f"Attempt 3: {PROBLEMS[0].label}. Right.\nAnswer: {PROBLEMS[0].label}"
    )
    listed = option_order(CONFIG, DOMAIN, PROBLEMS[0])
    assert prompt == prompt_for(DOMAIN, PROBLEMS[0], [], listed).removesuffix("Answer:") + "Attempts:\n"


@pytest.mark.parametrize(("name", "size"), [("s", 5), ("r", 10)])
def test_s_takes_the_solved_memos_and_r_all(name: str, size: int) -> None:
    """S distils what worked; R is raw. 80/20, no pair on both sides, the same split every time."""
    train, held = dataset(name, DOMAIN, MEMOS, bank(), CONFIG, 100, 0.2)
    assert (len(train), len(held)) == (size - round(size / 5), round(size / 5))
    assert not set(train) & set(held)
    assert dataset(name, DOMAIN, MEMOS, bank(), CONFIG, 100, 0.2) == (train, held)
    assert sum(map(len, dataset(name, DOMAIN, MEMOS, bank(), CONFIG, 4, 0.2))) == 4


def test_nothing_solved_leaves_s_empty() -> None:
    """E2 then reports a failed training for S; it may not train on failures instead."""
    failures = [memo.model_copy(update={"success": False}) for memo in MEMOS]
    assert dataset("s", DOMAIN, failures, bank(), CONFIG, 100, 0.2) == ([], [])
    assert len(dataset("r", DOMAIN, failures, bank(), CONFIG, 100, 0.2)[0]) == 8


@pytest.mark.parametrize(
    ("query", "match", "quality"),
    [
        ("", 1.0, 0.4),
        ("...", 0.5, 0.2),
        # One word: diversity 1, length 1/3, one of three terms.
        ("loop", 0.0, 0.2 + 0.2 / 3 + 0.2 / 3),
        ("nested loops inside recursion", 1.0, 1.0),
        # Four times the same word: diversity 1/4, length 1, one term.
        ("loop loop loop loop", 0.0, 0.05 + 0.2 + 0.2 / 3),
        # Forty words, all different, no term: length 20/40.
        (" ".join(f"w{i}" for i in range(40)), 0.0, 0.2 + 0.1),
        ("Nested LOOPS, inside!", 0.0, 0.6),
    ],
)
def test_query_quality_by_hand(query: str, match: float, quality: float) -> None:
    """0.4 type match, 0.2 diversity, 0.2 length (3 to 20 words), 0.2 domain terms (three make it full)."""
    assert query_quality(DOMAIN, query, match) == pytest.approx(quality)


@given(st.text(max_size=60), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_query_quality_lies_between_its_bounds(query: str, match: float) -> None:
    """Whatever the model writes, the number is finite and at least what the retrieval earned."""
    assert 0.4 * match <= query_quality(DOMAIN, query, match) <= 0.4 * match + 0.6 + 1e-9
