"""Analysis of the controls of P2 and E1: how good retrieval is, what a vote gives without a model, what labels alone give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.outcome import LEVEL, Outcome
from experiments.analysis import attempts
from experiments.analysis.attempts import Table, row
from experiments.analysis.resampling import Resampling
from experiments.contract import Metric, Metrics, Trial
from experiments.solving.controls import RELABELLED

# Detail of a trial -> metric, and what it is.
MEASURES = {
    "type_match": ("type_match", "share of the k memos with the problem's class"),
    "recall": ("recall_at_k", "share of the memos of the problem's class that are among the k"),
    "reciprocal_rank": ("mrr", "1 / place of the first memo of the problem's class, 0 where none is among the k"),
    "ndcg": ("ndcg_at_k", "gain of the memos of the problem's class, discounted by place, over the best there can be"),
}
OF_E0 = {
    **MEASURES,
    "type_match_other_families": ("type_match_other_families", "the same among the k memos of other families"),
    "vote_first_right": ("vote_accuracy", "the most frequent class of the k memos is right, equal ones by lot"),
}
VOTE = "vote"  # of the labels of the semantic memos; of other retrievals vote_lexical and so on
LABEL_ONLY = "label_only"
Found = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]  # condition -> problem id -> facts of what was found


def rows(trials: Sequence[Trial], table: Table, by: Resampling) -> list[Metric]:
    """Return retrieval measures, votes, comparisons with the controls, and what of the gain the controls have too.

    The comparisons are a family of their own in Holm's adjustment: they explain a difference and decide nothing.
    """
    found = found_by(trials)
    votes = _votes(found, "vote_attempts")
    first = _votes(found, "vote_first_right")
    values = measures(found, by)
    for name, known in votes.items():
        how = "; guesses in the order of the retrieved labels' frequency, ties in random order, no model"
        values.append(row("attempts_mean", name, by.mean(known), note=how))
        values.append(row("accuracy", name, by.share(first[name]), note=how))
    both: Table = {**table, **votes}  # a vote is compared as a condition is
    pairs = [
        (first, second)
        for first, second in (
            *(("semantic", c) for c in (VOTE, *RELABELLED, "other_families")),
            (LABEL_ONLY, "none"),
            ("other_families", "none"),
        )
        if first in both and second in both
    ]
    values += attempts.comparisons(both, pairs, by=by)
    values += [gain_share(both, c, by) for c in (LABEL_ONLY, "shuffled_labels", "other_families", VOTE) if c in both]
    return values


def found_by(trials: Sequence[Trial]) -> Found:
    """Return the facts of what each condition found; those of retrievals that no model saw from the semantic trials."""
    seen: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for t in trials:
        if t.condition in RELABELLED or t.error is not None:
            continue
        there: dict[str, Mapping[str, Any]] = dict(t.details.get("unseen", {}))
        if "recall" in t.details:
            there[t.condition] = t.details
        for condition, facts in there.items():
            seen.setdefault(condition, defaultdict(list))[t.problem_id].append(facts)
    return seen


def measures(found: Found, by: Resampling) -> list[Metric]:
    """Return type_match, recall_at_k, mrr and ndcg_at_k of each condition, one value a problem."""
    values = []
    for condition, problems in found.items():
        for detail, (metric, words) in MEASURES.items():
            known = _mean_of(problems, detail)
            if known:
                values.append(row(metric, condition, by.mean(known), note=f"; {words}"))
    return values


def ranking_means(condition: str, trials: Sequence[Trial]) -> list[Metric]:
    """Return the means of what E0 measures of rankings, without intervals: its grid has too many configurations for them."""
    found = []
    for detail, (metric, words) in OF_E0.items():
        known = [t.details[detail] for t in trials if t.details.get(detail) is not None]
        if known:
            method = f"mean over the queries; {words}"
            found.append(Metric(metric, float(np.mean(known)), n=len(known), condition=condition, method=method))
    return found


def _mean_of(problems: Mapping[str, Sequence[Mapping[str, Any]]], detail: str) -> dict[str, float]:
    """Mean over a problem's trials; problems where it is undefined are left out."""
    seen = {p: [f[detail] for f in facts if f.get(detail) is not None] for p, facts in sorted(problems.items())}
    return {p: float(np.mean(values)) for p, values in seen.items() if values}


def _votes(found: Found, detail: str) -> Table:
    known = {VOTE if c == "semantic" else f"{VOTE}_{c}": _mean_of(found[c], detail) for c in found}
    asked = (VOTE, f"{VOTE}_lexical", f"{VOTE}_other_families")
    return {name: known[name] for name in asked if known.get(name)}


def gain_share(table: Table, condition: str, by: Resampling) -> Metric:
    """Return the share that a condition has of the attempts that semantic memos save against none.

    It is a ratio of two sums over the same problems, (none - condition) / (none - semantic): 1 where the condition saves as
    much, above 1 where it saves more.
    """
    both = attempts.whole(table, ("none", "semantic", condition))
    gain, own = attempts.differences(both, "none", "semantic"), attempts.differences(both, "none", condition)
    if sum(gain.values()) <= 0:
        return Metric("gain_share", None, n=len(gain), condition=condition, method="semantic memos save no attempts")
    return row("gain_share", condition, by.ratio(own, gain), note="; (none - condition) / (none - semantic)")


def copied(metrics: Metrics, alpha: float = LEVEL) -> Metric | None:
    """Return the share of the gain that labels alone have; None where no gain is shown at `alpha` or the control was not run."""
    found = metrics.find("gain_share", LABEL_ONLY)
    return found if _gained(metrics, alpha) and found is not None and found.value is not None else None


def _gained(metrics: Metrics, alpha: float) -> bool:
    return attempts.outcome(metrics, "semantic - none", alpha) is Outcome.FEWER


def copying_in_words(metrics: Metrics, alpha: float = LEVEL) -> str:
    """Return how much of the gain of semantic memos is copying labels, as the end of a reason; "" without any control.

    `alpha` is the level of the gain itself, which the gate has tested.
    """
    share = copied(metrics, alpha)
    none, semantic, labels, vote = (_mean(metrics, c) for c in ("none", "semantic", LABEL_ONLY, VOTE))
    if none is None or semantic is None or (labels is None and vote is None):
        return ""
    parts = []
    if not _gained(metrics, alpha):
        parts.append("semantic memos are not shown to save attempts against none, so there is no gain to explain")
    elif share is not None and share.value is not None:
        between = "" if share.low is None or share.high is None else f" ({share.low:.0%} to {share.high:.0%})"
        parts.append(
            f"unrelated problems under the labels of the semantic memos save {share.value:.0%}{between} of the "
            f"{none - semantic:.2f} attempts that semantic memos save against none: {_part(share.value)} of the gain is copying labels"
        )
    if vote is not None:
        parts.append(
            f"the vote of the semantic memos' labels without a model needs {vote:.2f} attempts, "
            f"the model with the memos {semantic:.2f}"
        )
    return f" {parts[0][0].upper()}{'; '.join(parts)[1:]}." if parts else ""


def _part(share: float) -> str:
    return "all" if share >= 1 else "none" if share <= 0 else "so much"


def _mean(metrics: Metrics, condition: str) -> float | None:
    found = metrics.find("attempts_mean", condition)
    return None if found is None else found.value
