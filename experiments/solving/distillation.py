"""Datasets and queries of E2: datasets S (distilled) and R (raw) from E1's memos, and the model-written query."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from experiments.contract import PhaseConfig
from experiments.data import universe
from experiments.domains import Domain, Problem
from experiments.seeds import generator
from experiments.solving.choice import option_order
from experiments.solving.guessing import feedback
from experiments.solving.memory_bank import Bank, Found, MemoRecord, analysis_of
from experiments.solving.solving import prompt_for


class Pair(NamedTuple):
    """A prompt and its completion, to learn from."""

    prompt: str
    completion: str


QUERY_WORDS = (3, 20)  # a query with fewer or more words scores lower (docs/science.md, E2)
QUERY_TERMS = 3  # domain terms that make a query specific


def hunch_prompt(domain: Domain, problem: Problem, config: PhaseConfig) -> str:
    """Ask the model for the query with which it would search the memory; the analysis is read off the problem's text.

    The line breaks off within a phrase: after "Query:" SmolLM2 ended the line at once for 23 of 24 problems (measured on the
    memory's side), here for none.
    """
    head = _question(domain, problem, config)
    return f"{head}Analysis: {domain.describe(problem)}\nQuery: {domain.noun.lower()} with"


def _question(domain: Domain, problem: Problem, config: PhaseConfig) -> str:
    return prompt_for(domain, problem, [], option_order(config, domain, problem)).removesuffix(domain.lead)


class Target(NamedTuple):
    """The query that S learns to write for a problem, and what it brings back from the memory."""

    query: str
    found: Found

    @property
    def precision(self) -> float:
        """The share of what it brings back that is of the problem's class."""
        return float(self.found.facts.get("type_match", 0.0))  # type: ignore[arg-type]


def candidates(domain: Domain, problem: Problem) -> list[str]:
    """Return queries for a problem: its analysis, the analysis without one part, single parts, its technical words.

    They are made of the text alone, so none names the answer.
    """
    analysis = analysis_of(domain, problem).rstrip(".").lower()
    parts = analysis.split(", ")
    shorter = [", ".join(p for p in parts if p != left) for left in parts] if len(parts) > 2 else []
    words = [w for w in re.findall(r"[a-z]+", analysis) if w in domain.terms()]
    return list(dict.fromkeys([analysis, *shorter, *parts, *([", ".join(words)] if words else [])]))


def target_query(domain: Domain, problem: Problem, bank: Bank) -> Target:
    """Choose the candidate that brings back the most memos of the problem's class, without the problem itself.

    Labels of the memory's side choose it, as they supervise the rest of the example; of equals the first, which says most.
    """
    return max((Target(q, bank.by_query(q, problem)) for q in candidates(domain, problem)), key=lambda t: t.precision)


def distilled(domain: Domain, problem: Problem, bank: Bank, config: PhaseConfig) -> Pair:
    """S: analysis, query, what it retrieved, approach, answer, in a few lines."""
    target = target_query(domain, problem, bank)
    memos = target.found.memos
    labels = Counter(m.problem.label for m in reversed(memos))  # of two as frequent the more relevant one
    common = labels.most_common(1)[0][0] if labels else "nothing"
    completion = (
        f" {target.query}\nRetrieved: {', '.join(m.answer for m in memos) or 'nothing'}\n"
        f"Approach: similar ones are mostly {common}; check it against the analysis.\n{domain.lead} {problem.truth}"
    )
    return Pair(hunch_prompt(domain, problem, config), completion)


def raw(domain: Domain, problem: Problem, guesses: Sequence[str], config: PhaseConfig) -> Pair:
    """R: the trajectory as it was, failures and all, up to the right guess."""
    lines = []
    for i, guess in enumerate(guesses, 1):
        judged = domain.judge(problem, guess)
        heard = f", {feedback(judged)}" if domain.answers == "guessing" else ""
        lines.append(f"Attempt {i}: {guess}. {'Right' if judged.solved else 'Wrong'}{heard}.")
        if judged.solved:
            break
    return Pair(
        _question(domain, problem, config) + "Attempts:\n", "\n".join(lines) + f"\n{domain.lead} {problem.truth}"
    )


class Dataset(NamedTuple):
    """Pairs to train on, and those held out for validation."""

    train: list[Pair]
    held: list[Pair]


def dataset(
    name: str,
    domain: Domain,
    memos: Sequence[MemoRecord],
    bank: Bank,
    config: PhaseConfig,
    limit: int,
    validation: float,
) -> Dataset:
    """Make dataset `s` (solved memos only) or `r` (all), of at most `limit` pairs, split by data_seed.

    Both have as many pairs as there are solved memos to learn from, so that neither learns from more examples.
    """
    known = universe(config).by_id()
    solved = [m for m in memos if m.success]
    chosen = solved if name == "s" else list(memos)
    most = min(limit, len(solved) or len(memos))
    order = generator(config.data_seed, "e2", name).permutation(len(chosen))[:most]
    pairs = []
    for memo in (chosen[i] for i in order):
        problem = known[memo.problem_id]
        if name == "s":
            pairs.append(distilled(domain, problem, bank, config))
        else:
            pairs.append(raw(domain, problem, memo.guesses, config))
    held = round(validation * len(pairs))
    return Dataset(pairs[held:], pairs[:held])


class Cut(NamedTuple):
    """The dataset with more tokens, without the examples that the other has no tokens for."""

    of: str  # which it is
    dataset: Dataset


def cut_to_tokens(s: Dataset, r: Dataset, count: Callable[[str], int]) -> Cut:
    """Return that of S and R which is longer, cut in its drawn order to what the other's training pairs have in tokens.

    Args:
        count: tokens of a text.
    """
    tokens = {name: [count(f"{p.prompt}{p.completion}") for p in own.train] for name, own in (("s", s), ("r", r))}
    of = max(tokens, key=lambda name: sum(tokens[name]))
    most = min(sum(own) for own in tokens.values())
    kept = sum(total <= most for total in accumulate(tokens[of]))
    longer = {"s": s, "r": r}[of]
    return Cut(of, Dataset(longer.train[:kept], longer.held))


def query_quality(domain: Domain, query: str, type_match: float) -> float:
    """0.4 type match + 0.2 diversity + 0.2 length + 0.2 domain terms, each 0 to 1 (docs/science.md, E2)."""
    words = re.findall(r"[a-z0-9]+", query.lower())
    if not words:
        return 0.4 * type_match
    diversity = len(set(words)) / len(words)
    low, high = QUERY_WORDS
    length = float(np.clip(min(len(words) / low, high / len(words)), 0.0, 1.0))
    terms = min(1.0, len(set(words) & domain.terms()) / QUERY_TERMS)
    return 0.4 * type_match + 0.2 * diversity + 0.2 * length + 0.2 * terms
