"""Shares of answers, prompts and texts that are not what they claim, and the share up to which a verdict may rest on them.

A trial whose replies hold no answer failed, a memo may have no room in the prompt, an embedder may read only the beginning of
a text or not know its words. Each is counted for every phase in the same way; beyond its limit the verdict is INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from experiments import statistics
from experiments.backends.protocols import TooLong, Unreadable
from experiments.contract import Metric, Metrics, NextStep, PhaseConfig, Status, Trial, Verdict
from experiments.protocol import next_steps

UNREADABLE, TOO_LONG = f"{Unreadable.__name__}:", f"{TooLong.__name__}:"  # beginnings of an error


@dataclass(frozen=True)
class Defect:
    """A kind of defect; `words` says it of the trials of one condition, or of an embedder."""

    metric: str
    most: float  # share up to which a verdict is given
    words: str
    of_embedder: bool = False


# One in ten: with more of the data missing, results are likely to be biased (Bennett 2001, Aust. N. Z. J. Public Health
# 25:464). The same for what is there but is not the whole: ours.
DEFECTS = {
    d.metric: d
    for d in (
        Defect("unreadable_share", 0.1, "of the trials under {} have no readable answer"),
        Defect(
            "too_long_share", 0.1, "of the trials under {} have a prompt longer than the window, which was not sent"
        ),
        Defect("dropped_share", 0.1, "of the prompts under {} lost memos, which had no room"),
        Defect("cut_share", 0.1, "of the texts are longer than what {} reads", True),
        Defect("unknown_share", 0.1, "of the tokens are unknown to {}", True),
        Defect("equal_vectors_share", 0.1, "of the texts have the same vector as another text under {}", True),
    )
}


def rows(trials: Sequence[Trial]) -> list[Metric]:
    """Return the shares of every condition and embedder that the trials can tell of."""
    found: list[Metric] = []
    for condition, mine in _grouped(trials, lambda t: t.condition).items():
        found += [*_of_answers(condition, mine), *_of_memos(condition, mine)]
    read = [t for t in trials if "reading" in t.details]
    for embedder, mine in _grouped(read, lambda t: str(t.details.get("embedder", t.condition))).items():
        found += _of_texts(embedder, list({t.problem_id: t for t in mine}.values()))
    return found


def _grouped(trials: Iterable[Trial], key: Callable[[Trial], str]) -> Mapping[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for t in trials:
        found.setdefault(key(t), []).append(t)
    return found


def _share(metric: str, condition: str, hits: int, n: int, note: str) -> Metric:
    found = statistics.wilson(hits, n)
    return Metric(metric, found.value, found.low, found.high, n, condition=condition, method=found.method + note)


def _of_answers(condition: str, trials: Sequence[Trial]) -> list[Metric]:
    begins = {"unreadable_share": UNREADABLE, "too_long_share": TOO_LONG}
    asked = [t for t in trials if t.answer is not None or (t.error or "").startswith(tuple(begins.values()))]
    if not asked:
        return []
    found = []
    for metric, begin in begins.items():
        hits = sum((t.error or "").startswith(begin) for t in asked)
        note = f"; {hits} of {len(asked)} trials"
        draws = sum(t.details.get("draws", 0) for t in asked)
        if metric == "unreadable_share" and draws:
            unread = sum(t.details.get("unreadable", 0) for t in asked)
            note += f"; in the others {unread} of {draws} replies name no option and are drawn again"
        found.append(_share(metric, condition, hits, len(asked), note))
    return found


def _of_memos(condition: str, trials: Sequence[Trial]) -> list[Metric]:
    prompts = {t.problem_id: t.details for t in trials if "memos_dropped" in t.details}
    with_memos = [d for d in prompts.values() if d["memos_dropped"] or d.get("retrieved")]
    if not with_memos:
        return []
    lost = [d["memos_dropped"] for d in with_memos if d["memos_dropped"]]
    each = f", {sum(lost) / len(lost):.1f} memos each" if lost else ""
    note = f"; {len(lost)} of {len(with_memos)} prompts{each}"
    return [_share("dropped_share", condition, len(lost), len(with_memos), note)]


def _of_texts(embedder: str, trials: Sequence[Trial]) -> list[Metric]:
    n, readings = len(trials), [t.details["reading"] for t in trials]
    twins = sum(bool(r["twin"]) for r in readings)
    found = [_share("equal_vectors_share", embedder, twins, n, f"; {twins} of {n} texts")]
    told = [r for r in readings if r["tokens"] is not None]
    if not told:
        return found
    cut, longest = sum(r["tokens"] > r["limit"] for r in told), max(r["tokens"] for r in told)
    note = f"; {cut} of {n} texts are longer than {told[0]['limit']} tokens, the longest has {longest:,}"
    tokens, unknown = (sum(r[k] for r in told) for k in ("tokens", "unknown"))
    method = f"{unknown:,} of {tokens:,} tokens, which stand for any word that the embedder does not know"
    return [
        _share("cut_share", embedder, cut, n, note),
        Metric("unknown_share", unknown / tokens if tokens else None, n=n, condition=embedder, method=method),
        *found,
    ]


def beyond(metrics: Metrics, condition: str = "") -> list[Metric]:
    """Return the shares that are beyond their limits, the largest first; of `condition` only, if given."""
    known = [m for m in metrics.values if m.metric in DEFECTS and m.value is not None]
    over = [m for m in known if (m.value or 0) > DEFECTS[m.metric].most and condition in ("", m.condition)]
    return sorted(over, key=lambda m: -(m.value or 0))


def qualified(verdict: Verdict, metrics: Metrics, phase: str, config: PhaseConfig) -> Verdict:
    """Return the verdict with the defects that it rests on named; INCONCLUSIVE if one is beyond its limit."""
    mine = [m for m in metrics.values if m.metric in DEFECTS and m.value and _rests_on(verdict, m)]
    if not mine:
        return verdict
    over = [m for m in beyond(metrics) if m in mine]
    under = [m for m in mine if m not in over]
    note = f" {'; '.join(map(_in_words, under))}." if under else ""
    if not over:
        return replace(verdict, reason=f"{verdict.reason}{note}")
    cause = "; ".join(map(_in_words, over))
    steps = _steps({m.metric for m in over}, phase, config)
    reasons = {step.reason for step in steps}
    # Nothing is to be installed for a model that was loaded.
    loaded = any(m.metric in ("unreadable_share", "too_long_share") for m in over)
    left = [s for s in verdict.next_steps if not (loaded and str(s.command).startswith("pip install"))]
    return replace(
        verdict,
        status=Status.INCONCLUSIVE,
        reason=f"Not decided, since {cause}.{note} What was measured all the same: {verdict.reason}",
        findings=verdict.findings and verdict.findings.doubted(),
        next_steps=(*steps, *(step for step in left if step.reason not in reasons)),
    )


def _rests_on(verdict: Verdict, metric: Metric) -> bool:
    """A verdict on an embedder rests on the texts of that one; E0 names it first in its conditions."""
    return not DEFECTS[metric.metric].of_embedder or metric.condition == verdict.main.condition.partition(" | ")[0]


def _in_words(metric: Metric) -> str:
    defect, numbers = DEFECTS[metric.metric], metric.method.partition("; ")[2]
    words = f"{metric.value:.0%} {defect.words.format(metric.condition)}, at most {defect.most:.0%} may"
    return f"{words} ({numbers})" if numbers else words


def _steps(over: set[str], phase: str, config: PhaseConfig) -> tuple[NextStep, ...]:
    steps: list[NextStep] = []
    k = getattr(config, "k", 1)
    if "dropped_share" in over and k > 1:
        steps.append(next_steps.command(phase, {"k": max(1, k // 2)}, "fewer memos have room"))
    if "too_long_share" in over:
        steps.append(NextStep(f"lab data check FILE --model {config.model}", "names the texts that are too long"))
    if "unreadable_share" in over:
        steps.append(next_steps.larger_model(phase, "its replies can be read"))
    if any(DEFECTS[m].of_embedder for m in over):
        tried = getattr(config, "embedders", ())
        steps += next_steps.other_embedders(phase, tried, [t for t in tried if t == "hybrid"])
    return tuple(steps)
