"""The conditions of P2 and E1 by name: the memories that they compare, and the controls that say why one helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from experiments.domains import Problem
from experiments.seeds import generator
from experiments.solving.memory_bank import NOTHING, Bank, Found

Control = Literal["lexical", "oracle", "other_families", "label_only", "shuffled_labels"]
RETRIEVALS = ("lexical", "oracle", "other_families")  # of these, what is found is measured also where no model sees it
RELABELLED = ("label_only", "shuffled_labels")  # memos under answers that are not theirs
DRAWN = frozenset({"random", "recent", "temporal", *RELABELLED})  # conditions whose memos each run seed draws


def with_controls(conditions: Sequence[str], controls: Sequence[str]) -> tuple[str, ...]:
    """Return the conditions of a phase, then its controls."""
    return tuple(dict.fromkeys((*conditions, *controls)))


def ask(bank: Bank, phase: str, condition: str, problem: Problem, seed: int | None) -> Found:
    """Return the memos that a condition shows for a problem.

    Under semantic the facts also have what the other retrievals would find (`unseen`), which costs no model call.

    Args:
        seed: the run seed, where it draws the memos.
    """
    if condition == "none":
        return NOTHING
    if condition == "semantic":
        found = bank.semantic(problem)
        unseen = {name: ask(bank, phase, name, problem, None).facts for name in RETRIEVALS}
        return Found(found.memos, {**found.facts, "unseen": unseen})
    if seed is None:
        asked = {"lexical": bank.lexical, "oracle": bank.oracle, "other_families": bank.other_families}
        return asked[condition](problem)
    if condition in ("recent", "temporal"):
        return bank.recent(seed, problem)
    drawing = {"random": bank.random, "label_only": bank.label_only, "shuffled_labels": bank.shuffled_labels}
    return drawing[condition](generator(seed, phase, problem.problem_id, condition), problem)
