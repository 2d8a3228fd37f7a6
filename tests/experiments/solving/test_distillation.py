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
from experiments.solving.distillation import (
    Dataset,
    Pair,
    candidates,
    cut_to_tokens,
    dataset,
    distilled,
    hunch_prompt,
    query_quality,
    raw,
    target_query,
)
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
    assert prompt.endswith("\nQuery: function with")
    assert f"Analysis: {DOMAIN.describe(PROBLEMS[0])}" in prompt
    assert PROBLEMS[0].label not in prompt.partition("\n\n")[2]


@pytest.mark.parametrize("i", range(10))
def test_a_target_query_is_what_finds_most_and_never_the_problem_itself(i: int) -> None:
    """Every problem here is in the bank under its own analysis: its own answer may not come out of the search."""
    own = bank()
    queries = candidates(DOMAIN, PROBLEMS[i])
    assert queries[0] == DOMAIN.describe(PROBLEMS[i]).rstrip(".").lower()
    assert not any(option in query for query in queries for option in DOMAIN.options)
    found = {q: own.by_query(q, PROBLEMS[i]).memos for q in queries}
    assert all(len(memos) == 3 and PROBLEMS[i] not in [m.problem for m in memos] for memos in found.values())
    hits = {q: sum(m.problem.label == PROBLEMS[i].label for m in memos) for q, memos in found.items()}
    target = target_query(DOMAIN, PROBLEMS[i], own)
    assert target.query == next(q for q in queries if hits[q] == max(hits.values()))
    assert target.precision == pytest.approx(max(hits.values()) / 3)
    prompt, completion = distilled(DOMAIN, PROBLEMS[i], own, CONFIG)
    query, retrieved, _, answer = completion.splitlines()
    assert query == f" {target.query}" and answer == f"Answer: {PROBLEMS[i].label}"
    assert retrieved == f"Retrieved: {', '.join(m.answer for m in found[target.query])}"
    assert prompt == hunch_prompt(DOMAIN, PROBLEMS[i], CONFIG)


def test_a_query_searches_the_analyses_of_memos_and_not_their_texts() -> None:
    """The words of an analysis bring back the memos that are described so, nearest last; a text's own words do not count."""
    analyses = [DOMAIN.describe(p) for p in PROBLEMS[:10]]
    for problem, analysis in zip(PROBLEMS[:10], analyses, strict=True):
        nearest = bank(1).by_query(analysis, PROBLEMS[11]).memos[-1].problem
        assert DOMAIN.describe(nearest) == analysis
        alike = [p for p, a in zip(PROBLEMS[:10], analyses, strict=True) if a == analysis and p != problem]
        found = bank(9).by_query(analysis, problem).memos
        assert {m.problem.problem_id for m in found[9 - len(alike) :]} == {p.problem_id for p in alike}


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


@pytest.mark.parametrize(("name", "size"), [("s", 5), ("r", 5)])
def test_s_takes_solved_memos_and_r_as_many_of_all(name: str, size: int) -> None:
    """S distils what worked, R is raw, from as many examples. 80/20, no pair on both sides, the same split every time."""
    train, held = dataset(name, DOMAIN, MEMOS, bank(), CONFIG, 100, 0.2)
    assert (len(train), len(held)) == (size - round(size / 5), round(size / 5))
    assert not set(train) & set(held)
    assert dataset(name, DOMAIN, MEMOS, bank(), CONFIG, 100, 0.2) == (train, held)
    assert sum(map(len, dataset(name, DOMAIN, MEMOS, bank(), CONFIG, 4, 0.2))) == 4
    assert any("Wrong" in pair.completion for pair in (*train, *held)) == (name == "r")


def test_the_longer_dataset_is_cut_to_the_tokens_of_the_shorter() -> None:
    """Words as tokens, by hand: 3 + 2 + 4 of S against 5 of R leave two examples of S; held out ones stay."""
    pairs = [Pair("a b", " c"), Pair("a", " b"), Pair("a b", " c d")]
    s, r = Dataset(pairs, [Pair("x", "y")]), Dataset([Pair("a b c", " d e")], [Pair("u", "v")])

    def words(text: str) -> int:
        return len(text.split())

    assert cut_to_tokens(s, r, words) == ("s", Dataset(pairs[:2], s.held))
    assert cut_to_tokens(r, s, words) == ("r", Dataset(pairs[:2], s.held)), "whichever is longer"
    assert cut_to_tokens(Dataset([], []), r, words) == ("r", Dataset([], r.held)), "no S to be as long as"


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
