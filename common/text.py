"""Numbers, intervals, durations, sizes and text from outside, written for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """3 min 20 s."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """0.62 (0.55 to 0.69), with three significant digits."""
    if value is None:
        return "undefined"
    shown = f"{value:.3g}"
    return f"{shown} ({low:.3g} to {high:.3g})" if low is not None and high is not None else shown


def printable(text: str) -> str:
    """`text` as a terminal may show it: what steers terminals or turns the writing round is written as \\x1b or \\u202e."""

    def shown(c: str) -> str:
        steers = (c < " " and c != "\n") or "\x7f" <= c <= "\x9f"
        # Overrides and isolates reorder their neighbours; right-to-left letters themselves stay as they are.
        turns = "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069"
        alone = "\ud800" <= c <= "\udfff"
        return c.encode("unicode_escape").decode() if steers or turns or alone else c

    return "".join(map(shown, text))
