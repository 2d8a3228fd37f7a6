"""Metrics, differences, counts and times as text. Numbers, intervals, durations and sizes come from common.text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from common.text import UNDEFINED as UNDEFINED
from common.text import defined as defined
from common.text import duration as duration
from common.text import interval as interval
from common.text import number as number
from common.text import size as size
from common.text import with_interval as with_interval
from common.text import words as words

ENDS = {  # unit -> ends of the metrics that have it, the first that fits
    "share of memos": ("retrieval_precision", "precision_difference", "seed_spread"),
    "attempts": ("attempts_mean", "difference", "equivalence_margin"),
    "0 to 1, 0.5 by chance": ("auc", "auc_other_families"),
    "share": (
        "equivalence_power",
        "accuracy",
        "over_chance",
        "by_memory",
        "rate",
        "score",
        "share",
        "type_match",
        "families",
        "recall_at_k",
    ),
    "0 to 1": ("quality", "relevance", "relevance_choosing", "optimism", "mrr", "ndcg_at_k"),
    "cosine": ("similarity", "similarity_std", "separation"),
    "tokens": ("tokens_mean", "_tokens"),
    "%": ("percent",),
    "bytes": ("_bytes",),
    "problems": ("_problems",),
    "pairs": ("_pairs",),
    "texts": ("leak_named",),
    "relevance a second": ("efficiency",),
    "tuned / base": ("retention",),
    "nats a token": ("loss",),
    "Cohen's dz": ("smallest_effect",),
    "of a chance solver's": ("attempts_sd_ratio", "smallest_ratio"),
}


# Condition as it is stored -> its name; the others are named as they are stored.
CONDITIONS = {
    "semantic": "similar",
    "temporal": "recent",
    "lexical": "same words",
    "other_families": "similar, other families",
    "label_only": "labels only",
    "shuffled_labels": "similar, shuffled labels",
    "vote_lexical": "vote, same words",
    "vote_other_families": "vote, other families",
    "base_query": "base, own query",
    "base_semantic": "base, similar",
    "base_temporal": "base, recent",
    "weak_signal": "weak signal",  # a hypothesis of E1, which stands in reasons as conditions do
    "base_best": "base, best",
    "tuned_s": "tuned S",
    "tuned_r": "tuned R",
    "tuned_tokens": "tuned S or R, as many tokens",
    "tuned_s_random": "tuned S, random",
    "tuned_s_none": "tuned S, none",
    "write_base_solve_s": "query by base, solved by S",
    "write_base_solve_r": "query by base, solved by R",
    "write_s_solve_base": "query by S, solved by base",
    "write_s_solve_r": "query by S, solved by R",
    "write_r_solve_base": "query by R, solved by base",
    "write_r_solve_s": "query by R, solved by S",
}
_CONDITION = re.compile(rf"\b(?:{'|'.join(sorted(CONDITIONS, key=len, reverse=True))})\b", re.IGNORECASE)


def lower_is_better(metric: str) -> bool:
    """Return True for p-values, times, attempts and their differences, and perplexity."""
    if metric == "precision_difference":
        return False
    return (
        metric == "p" or metric.startswith("perplexity") or metric.endswith(("_p", "_s", "difference", "attempts_mean"))
    )


def met(metric: str, value: float, threshold: float) -> bool:
    """Return True if a value is better than its threshold, not equal to it."""
    return value < threshold if lower_is_better(metric) else value > threshold


def shortened(text: str, most: int) -> str:
    """Cut a text to `most` characters, the last one an ellipsis if some were left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def estimate(row: Mapping[str, Any]) -> str:
    """Return "0.620 (0.550 to 0.690)" for a row with value, low and high."""
    return with_interval(row["value"], row["low"], row["high"])


def estimate_abs(row: Mapping[str, Any]) -> str:
    """Return a difference without its sign, for a sentence that says which way it goes; the interval turns with it."""
    value, low, high = row["value"], row["low"], row["high"]
    if value >= 0:
        return with_interval(value, low, high)
    return with_interval(-value, None if high is None else -high, None if low is None else -low)


def percent(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with value, low and high in percent instead of shares."""
    return [{**r, **{k: None if r[k] is None else 100 * r[k] for k in ("value", "low", "high")}} for r in rows]


def count(n: int, one: str, many: str | None = None) -> str:
    """Return "1 trial" or "1,350 trials"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def zone(name: str | None) -> tzinfo | None:
    """Return the reader's time zone; None, which means this machine's, if the browser names none that is known."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def local_time(moment: datetime, where: tzinfo | None, short: bool = False) -> str:
    """Return "23 Nov 2026, 21:04" on the reader's clock; short: "23 Nov 21:04"."""
    return moment.astimezone(where).strftime("%-d %b %H:%M" if short else "%-d %b %Y, %H:%M")


def utc_time(moment: datetime) -> str:
    """Return "2026-11-23 20:04:05 UTC"."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def conditions(text: str) -> str:
    """Return a text in which conditions have the names that people read, one each on every page."""

    def named(found: re.Match[str]) -> str:
        name = CONDITIONS[found[0].lower()]
        return name[0].upper() + name[1:] if found[0][0].isupper() else name

    return _CONDITION.sub(named, text)


def axis(metric: str) -> str:
    """Return a metric's name with its unit, for an axis: "mean difference (attempts)"."""
    if metric.endswith("_s"):
        return f"{words(metric.removesuffix('_s'))} (s)"
    return f"{words(metric)} ({next((unit for unit, ends in ENDS.items() if metric.endswith(ends)), 'no unit')})"


def plain(text: str) -> str:
    """Escape Markdown in a text for a label or a message of Streamlit."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-.!|~$:<>" else c for c in text)


def listed(names: list[str]) -> str:
    """Return "P1, P2 and P3"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def reason(text: str) -> str:
    """Return a verdict's reason for people, without the full stop of a quoted error where another stop follows."""
    return conditions(re.sub(r"(?<!\.)\.(?=;|\.(?!\.))", "", text))


def side(value: float, threshold: float) -> str:
    """Return "above", "below" or "at"."""
    return "above" if value > threshold else "below" if value < threshold else "at"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return "12 s ago"; empty for an unknown time, and never in the future."""
    return "" if moment is None else f"{duration(max(0.0, round((now - moment).total_seconds())))} ago"
