"""The trials that a unit yields, as its phase says. What another machine delivers is checked against them before it counts.

A phase's analysis rests on this: every problem once for each condition and seed, with details that it can compute with.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from experiments.contract import Json, PhaseConfig
from experiments.data import universe
from experiments.domains import get_domain
from experiments.solving.controls import RETRIEVALS
from experiments.solving.solving import most_attempts, planned_seeds

AT_ONCE = 64  # details parsed together
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]  # far beyond any similarity, loss or time; squares stay finite


class Details(BaseModel):
    """What the analysis reads of the details of a trial without error; there may be more."""

    model_config = ConfigDict(strict=True, frozen=True)


class Key(NamedTuple):
    """A trial that a unit yields."""

    problem_id: str
    condition: str
    seed: int | None = None
    truth: str | None = None


@dataclass(frozen=True)
class Row:
    """The columns of one trial without error that a phase may have to check."""

    problem_id: str
    condition: str
    tokens_in: int | None
    latency_s: float | None


@dataclass(frozen=True)
class Columns:
    """The trials of a bundle, by column; details as JSON."""

    problem_id: Sequence[str]
    condition: Sequence[str]
    seed: Sequence[int | None]
    truth: Sequence[str | None]
    attempts: Sequence[float | None]
    first_right: Sequence[float | None]
    solved: Sequence[bool | None]
    tokens_in: Sequence[int | None]
    tokens_out: Sequence[int | None]
    latency_s: Sequence[float | None]
    error: Sequence[str | None]
    details: Sequence[bytes]


def nothing_more(rows: Sequence[Row], details: Sequence[Any]) -> str | None:
    """Find nothing wrong."""
    return None


@dataclass(frozen=True)
class Expected:
    """The trials that a unit yields.

    Args:
        details: model of the details of a trial without error.
        failed: the trials where the unit could not be computed at all, if they are others.
        sampled: the trials of a model without log-probabilities, which draws its answers, if they are others.
        attempts: the most that a trial can need; None where nothing is guessed.
        judged: True if each trial without error says whether it was solved.
        fixed: condition -> details that all its trials have.
        attached: the detail that names an attachment of the bundle by its SHA-256; "" for none.
        more: finds what is wrong with trials without error and their details.
    """

    trials: Sequence[Key]
    details: type[Details]
    failed: Sequence[Key] | None = None
    sampled: Sequence[Key] | None = None
    attempts: int | None = None
    judged: bool = False
    fixed: Mapping[str, Json] = field(default_factory=dict)
    attached: str = ""
    more: Callable[[Sequence[Row], Sequence[Any]], str | None] = nothing_more

    def wrong(self, found: Columns, attachments: Sequence[str] = ()) -> str | None:
        """Return what is wrong with a bundle's trials, or None.

        Args:
            attachments: SHA-256 of the files that came with them.
        """
        if why := self._wrong_keys(found) or self._wrong_numbers(found):
            return why
        done = [i for i, error in enumerate(found.error) if error is None]
        try:
            details = _parsed(self.details, [found.details[i] for i in done])
            for i in (i for i, error in enumerate(found.error) if error is not None):
                if not _plain(found.details[i]).items() <= self.fixed.get(found.condition[i], {}).items():
                    return f"failed trial {i} has details"
        except (ValidationError, TypeError) as error:
            return f"the details of a trial are not those of its phase: {_first(error)}"
        for i, one in zip(done, details, strict=True):
            for name, value in self.fixed.get(found.condition[i], {}).items():
                if getattr(one, name) != value:
                    return f"trial {i} has another {name} than its unit"
            if self.attached and getattr(one, self.attached) not in attachments:
                return f"trial {i} names a file that did not come with it"
        rows = [Row(found.problem_id[i], found.condition[i], found.tokens_in[i], found.latency_s[i]) for i in done]
        return self.more(rows, details)

    def _wrong_keys(self, found: Columns) -> str | None:
        none_done = all(error is not None for error in found.error)
        wanted = self.failed if none_done and self.failed is not None else self.trials
        keys = list(zip(found.problem_id, found.condition, found.seed, found.truth, strict=True))
        if self.sampled is not None and Counter(keys) == Counter[tuple[object, ...]](self.sampled):
            return None
        if len(keys) != len(wanted):
            return f"{len(keys)} trials, its unit yields {len(wanted)}"
        if keys != list(wanted) and (others := Counter[tuple[object, ...]](keys) - Counter[tuple[object, ...]](wanted)):
            return f"a trial is not one of its unit: {str(next(iter(others)))[:120]}"
        return None

    def _wrong_numbers(self, found: Columns) -> str | None:
        done = [error is None for error in found.error]
        both = zip(found.attempts, done, strict=True)
        if self.attempts is None:
            if any(a is not None for a in found.attempts):
                return "a trial has attempts, and its phase has none"
        elif any(a is None or not 1 <= a <= self.attempts if d else a is not None for a, d in both):
            return f"a trial needs 1 to {self.attempts} attempts, or an error and none"
        if any(
            (first is not None) != (a is not None) or (first is not None and not 0 <= first <= 1)
            for first, a in zip(found.first_right, found.attempts, strict=True)
        ):
            return "a trial with attempts needs the probability that its first guess is right, and no other has one"
        if any((s is not None) != (d and self.judged) for s, d in zip(found.solved, done, strict=True)):
            return "a trial does not say whether it was solved" if self.judged else "a trial says that it was solved"
        if any(n is not None and n < 0 for n in (*found.tokens_in, *found.tokens_out)):
            return "a trial has fewer than 0 tokens"
        if any(s is not None and not 0 <= s < math.inf for s in found.latency_s):
            return "a trial took less than 0 s, or for ever"
        return None


@cache
def _list_of(kind: type[Details]) -> TypeAdapter[list[Details]]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def _parsed(kind: type[Details], texts: Sequence[bytes]) -> list[Details]:
    found = list[Details]()
    for start in range(0, len(texts), AT_ONCE):
        found += _list_of(kind).validate_json(b"[" + b",".join(texts[start : start + AT_ONCE]) + b"]")
    return found


def _plain(text: bytes) -> Json:
    return dict(json.loads(text))


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)[:200]
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}"[:200]


class ReadingRecord(Details):
    """What an embedder read of a trial's text; numbers are None where its engine does not tell."""

    tokens: int | None = Field(None, ge=0)
    limit: int | None = Field(None, gt=0)
    unknown: int | None = Field(None, ge=0)
    twin: bool  # another text has the same vector


class Solved(Details):
    """Of a trial in which a problem was solved."""

    guesses: list[str] = Field(min_length=1)
    group: str
    retrieved: list[str] = []
    memos_dropped: int = Field(0, ge=0)
    draws: int = Field(0, ge=0)  # replies, where answers are drawn
    unreadable: int = Field(0, ge=0)  # of them: without an option


class Retrieved(Details):
    """Measures of what was retrieved for a problem; None where nothing in memory has its class, or nobody votes."""

    relevance: Share
    type_match: Share
    recall: Share | None
    reciprocal_rank: Share | None
    ndcg: Share | None
    vote_attempts: Number | None = None
    vote_first_right: Share | None = None


class Remembering(Solved):
    """Of a trial under one of the conditions of P2 and E1; without a memory it has no measures."""

    relevance: Share | None = None
    type_match: Share | None = None
    recall: Share | None = None
    reciprocal_rank: Share | None = None
    ndcg: Share | None = None
    vote_attempts: Number | None = None
    vote_first_right: Share | None = None
    unseen: dict[str, Retrieved] = {}  # of other retrievals, whose memos no model saw


def unmeasured(rows: Sequence[Row], details: Sequence[Remembering]) -> str | None:
    """Find a trial on a memory without measures of what was retrieved."""
    for row, one in zip(rows, details, strict=True):
        if row.condition != "none" and (one.relevance is None or one.type_match is None):
            return "the relevance of what was retrieved is missing"
        measured: list[Remembering | Retrieved] = [one, *one.unseen.values()]
        if any((m.vote_attempts is None) != (m.vote_first_right is None) for m in measured):
            return "one of the two measures of a vote is missing"
        if row.condition == "semantic" and set(one.unseen) != set(RETRIEVALS):
            return f"the measures of {', '.join(RETRIEVALS)} are missing"
    return None


def solving(
    config: PhaseConfig,
    problems: Sequence[str],
    conditions: Sequence[str],
    details: type[Details] = Solved,
    *,
    drawn: Collection[str] = (),
    seeds: Sequence[int] | None = None,
    **more: Any,
) -> Expected:
    """Return the trials of problems that are solved under each condition: one, or one for each seed where it draws.

    Args:
        drawn: conditions whose memos each run seed draws.
        seeds: of answers that are drawn, instead of the config's run seeds.
    """
    known = universe(config).by_id()

    def keys(seeds_of: Callable[[str], Sequence[int | None]]) -> list[Key]:
        return [Key(p, c, seed, known[p].truth) for p in problems for c in conditions for seed in seeds_of(c)]

    most = most_attempts(get_domain(config.domain), config)
    return Expected(
        keys(lambda c: planned_seeds(config, c in drawn, seeds)),
        details,
        sampled=keys(lambda c: seeds or config.run_seeds),
        attempts=most,
        judged=True,
        **more,
    )


def without_costs(rows: Sequence[Row], details: Sequence[Any]) -> str | None:
    """Find a training without its time or its tokens, by which others are divided."""
    ok = all(r.latency_s and r.tokens_in for r in rows)
    return None if ok else "a training has no time or no tokens"
