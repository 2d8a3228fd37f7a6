"""The controls show what they say: right class, other families, labels without their problems and the other way round."""

from __future__ import annotations

import pytest
from fake_engines import FakeEmbedder

from experiments.domains import Problem, get_domain
from experiments.solving.controls import RETRIEVALS, ask
from experiments.solving.memory_bank import Bank, Found
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo

DOMAIN = get_domain("big_o")


def made(i: int, label: str, family: str) -> Problem:
    return Problem(f"p{i}", f"def f(n):\n    return n + {i}", label, family)


# Four memos of the asked class, two of them of the asked family, and four of other classes.
PROBLEMS = [
    made(0, "O(1)", "own"),
    made(1, "O(1)", "own"),
    made(2, "O(1)", "far"),
    made(3, "O(1)", "farther"),
    *(made(i, ("O(n)", "O(n^2)")[i % 2], f"other{i}") for i in range(4, 8)),
]
ASKED = made(0, "O(1)", "own")


def bank(k: int = 2, problems: list[Problem] = PROBLEMS) -> Bank:
    memos = [Memo(p, p.label, i) for i, p in enumerate(problems)]
    return Bank(DOMAIN, memos, FakeEmbedder(), RetrievalConfig(k=k, text_weight=1.0))


def shown(condition: str, seed: int | None = None, k: int = 2) -> Found:
    return ask(bank(k), "e1", condition, ASKED, seed)


def test_an_oracle_shows_the_right_class_of_other_families() -> None:
    """As many as there are, two; where the class has no other family, its own."""
    assert {m.problem.group for m in shown("oracle", k=5).memos} == {"far", "farther"}
    own = bank(5, [p for p in PROBLEMS if p.group not in ("far", "farther")])
    assert {m.problem.problem_id for m in own.oracle(ASKED).memos} == {"p0", "p1"}
    assert own.oracle(made(9, "O(2^n)", "none")).memos == []


def test_without_the_own_family_none_of_it_is_shown() -> None:
    """The text itself is in memory, and is what semantic finds; the measures count the memos that may be shown."""
    assert shown("semantic").memos[-1].problem == PROBLEMS[0]
    found = shown("other_families", k=6)
    assert len(found.memos) == 6 and "own" not in {m.problem.group for m in found.memos}
    assert found.facts["recall"] == 1.0 and found.facts["type_match"] == pytest.approx(2 / 6)
    assert found.facts["vote_attempts"] == 2.0, "two votes for each of three classes"


def test_words_that_few_memos_have_decide_lexical_retrieval() -> None:
    """All texts have the same words but one number."""
    assert shown("lexical").memos[-1].problem == PROBLEMS[0]


@pytest.mark.parametrize("seed", [100, 200])
def test_labels_alone_stand_over_unrelated_problems(seed: int) -> None:
    """The answers are the semantic memos' in their order; the problems are of other families and none of theirs."""
    semantic, found = shown("semantic"), shown("label_only", seed)
    assert [m.answer for m in found.memos] == [m.answer for m in semantic.memos] == found.facts["answers"]
    assert not {m.problem.problem_id for m in found.memos} & {m.problem.problem_id for m in semantic.memos}
    assert "own" not in {m.problem.group for m in found.memos}


def test_labels_alone_need_no_more_memos_than_there_are() -> None:
    """In a memory of three, of which two are semantic, one of them is shown again."""
    small = bank(2, PROBLEMS[:3])
    found = ask(small, "e1", "label_only", ASKED, 100)
    assert len(found.memos) == 2 and PROBLEMS[2] in [m.problem for m in found.memos]


def test_shuffled_labels_leave_the_problems() -> None:
    """The same problems as semantic, under answers drawn from the whole memory: others for another seed."""
    semantic = [m.problem for m in shown("semantic", k=4).memos]
    drawn = [shown("shuffled_labels", seed, k=4) for seed in range(20)]
    assert all([m.problem for m in found.memos] == semantic for found in drawn)
    answers = {tuple(m.answer for m in found.memos) for found in drawn}
    assert len(answers) > 1 and {a for one in answers for a in one} == {"O(1)", "O(n)", "O(n^2)"}


def test_each_condition_is_the_same_wherever_it_is_asked() -> None:
    """Every draw is a function of seed, phase, problem and condition."""
    for condition in ("random", "recent", "label_only", "shuffled_labels"):
        assert shown(condition, 100) == shown(condition, 100)
    assert ask(bank(4), "p2", "label_only", ASKED, 100).memos != ask(bank(4), "e1", "label_only", ASKED, 100).memos


def test_what_no_model_saw_is_measured_with_the_semantic_memos() -> None:
    """The other retrievals cost no model call, so they are measured where their condition is not run."""
    facts = shown("semantic").facts
    unseen = facts["unseen"]
    assert isinstance(unseen, dict) and tuple(unseen) == RETRIEVALS
    assert unseen["oracle"]["type_match"] == 1.0 and unseen["other_families"] == shown("other_families").facts
