"""Numbers, intervals, durations, sizes and untrusted text, formatted for people."""

from __future__ import annotations

import math

SPELT = {"knn": "kNN", "auc": "AUC"}  # words in names of metrics that are not written as they are stored
UNDEFINED = "undefined"


def defined(value: float | None) -> bool:
    """Return True for a finite number; None and not-a-number are undefined."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> str:
    """Format with three significant digits; from 1,000 on whole, with commas; "undefined" for None."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-4 else f"{value:.2e}"


def interval(low: float | None, high: float | None) -> str:
    """Format as "0.550 to 0.690"; empty when a bound is undefined."""
    return f"{number(low)} to {number(high)}" if defined(low) and defined(high) else ""


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format as "0.620 (0.550 to 0.690)", or the value alone when it has no interval."""
    bounds = interval(low, high) if defined(value) else ""
    return f"{number(value)} ({bounds})" if bounds else number(value)


def duration(seconds: float | None) -> str:
    """Format seconds as "4.2 s", "48 s", "3 min 20 s" or "2 h 5 min"; empty for None, "0 s" for less than nothing."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds > 0 else "0 s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(n_bytes: float) -> str:
    """Format bytes in powers of 1,000 with three significant digits: "512 B", "1.23 GB"."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if n_bytes < 999.5:
            break
        n_bytes, unit = n_bytes / 1000, larger
    return f"{n_bytes:.3g} {unit}"


def printable(text: str) -> str:
    """Return `text` with characters that control a terminal or reverse the writing direction escaped: \\x1b, \\u202e."""

    def shown(c: str) -> str:
        steers = (c < " " and c != "\n") or "\x7f" <= c <= "\x9f"
        # Overrides and isolates reorder their neighbours; right-to-left letters themselves stay as they are.
        turns = "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069"
        alone = "\ud800" <= c <= "\udfff"
        return c.encode("unicode_escape").decode() if steers or turns or alone else c

    return "".join(map(shown, text))


def value_text(value: object) -> str:
    """Return a setting as a reader has it: the items of a list with blanks between them."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def words(name: str) -> str:
    """Return a metric's name with blanks: "adjusted p", "mean difference", "kNN accuracy"."""
    return " ".join(SPELT.get(word, word) for word in name.split("_"))
