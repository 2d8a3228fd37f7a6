"""Words for numbers: three significant digits, intervals, durations, times, names of phases and metrics."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from common.text import UNDEFINED as UNDEFINED
from common.text import defined as defined
from common.text import duration as duration
from common.text import interval as interval
from common.text import number as number
from common.text import size as size
from common.text import with_interval as with_interval

UNITS = (  # of metrics, by how they end
    ("attempts_mean", "attempts"),
    ("difference", "attempts"),
    ("percent", "%"),
    ("tokens_mean", "tokens"),
    ("_tokens", "tokens"),
    ("_bytes", "bytes"),
    ("_problems", "problems"),
    ("accuracy", "share"),
    ("accuracy_groupwise", "share"),
    ("rate", "share"),
    ("score", "share"),
    ("share", "share"),
    ("quality", "0 to 1"),
    ("relevance", "0 to 1"),
    ("efficiency", "relevance a second"),
    ("retention", "tuned / base"),
    ("loss", "nats a token"),
    ("similarity", "cosine"),
    ("similarity_std", "cosine"),
    ("separation", "cosine"),
    ("_pairs", "pairs"),
    ("leak_named", "texts"),
    ("smallest_effect", "Cohen's dz"),
)


def lower_is_better(metric: str) -> bool:
    """Whether less is better: p-values, times, attempts and their differences, perplexity."""
    return (
        metric == "p" or metric.startswith("perplexity") or metric.endswith(("_p", "_s", "difference", "attempts_mean"))
    )


def met(metric: str, value: float, threshold: float) -> bool:
    """Whether a value is on the good side of its threshold, not on it."""
    return value < threshold if lower_is_better(metric) else value > threshold


def shortened(text: str, most: int) -> str:
    """At most `most` characters, the last one an ellipsis when some were left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def with_interval_abs(value: float, low: float | None, high: float | None) -> str:
    """A difference without its sign, for a sentence that says which side it is on; the interval turns with it."""
    if value >= 0:
        return with_interval(value, low, high)
    return with_interval(-value, None if high is None else -high, None if low is None else -low)


def holds_zero(low: float | None, high: float | None) -> bool:
    """Whether an interval of a difference holds zero, so that nothing is saved or lost for certain."""
    return low is not None and high is not None and low <= 0 <= high


def count(n: int, one: str, many: str | None = None) -> str:
    """ "1 trial", "1,350 trials"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def zone(name: str | None) -> tzinfo | None:
    """The reader's time zone; None, which is this machine's, when the browser named none that is known."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def local_time(moment: datetime, where: tzinfo | None, short: bool = False) -> str:
    """ "23 Nov 2026, 21:04" on the reader's clock; short: "23 Nov 21:04"."""
    return moment.astimezone(where).strftime("%-d %b %H:%M" if short else "%-d %b %Y, %H:%M")


def utc_time(moment: datetime) -> str:
    """ "2026-11-23 20:04:05 UTC"."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def words(name: str) -> str:
    """A metric's name as it is read: "adjusted p", "mean difference"."""
    return name.replace("_", " ")


def axis(metric: str) -> str:
    """A metric's name with its unit, for an axis: "mean difference (attempts)"."""
    if metric.endswith("_s"):
        return f"{words(metric.removesuffix('_s'))} (s)"
    return f"{words(metric)} ({next((unit for end, unit in UNITS if metric.endswith(end)), 'no unit')})"


def listed(names: list[str]) -> str:
    """ "P1, P2 and P3"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def command_and_remark(step: str) -> tuple[str, str]:
    """A next step's command and the remark in brackets behind it, so that only the command is copied."""
    command, _, remark = step.partition("  (")
    return command.strip(), words(remark.removesuffix(")").strip())


def reason(text: str) -> str:
    """A verdict's reason; the full stop of an error quoted in it goes where another stop follows."""
    return re.sub(r"(?<!\.)\.(?=;|\.(?!\.))", "", text)


def side(value: float, threshold: float) -> str:
    """ "above", "below" or "at"."""
    return "above" if value > threshold else "below" if value < threshold else "at"


def ago(moment: datetime | None, now: datetime) -> str:
    """ "12 s ago"; nothing for a time that is not known, and never in the future."""
    return "" if moment is None else f"{duration(max(0.0, round((now - moment).total_seconds())))} ago"
