"""E0's configurations as factors, and those that no other beats."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app import format as words
from app.reading import Row

CELL = re.compile(r"^(?P<embedder>.*) \| text (?P<weight>[\d.]+) \| k (?P<k>\d+) \| (?P<distance>\w+)$")


def cells(relevance: Sequence[Row], times: Sequence[Row]) -> list[Row]:
    """Return each configuration with its factors, relevance, interval and time_s; without relevance or time it is left out."""
    seconds = {r["condition"]: r["value"] for r in times if words.defined(r["value"])}
    found: list[Row] = []
    for row in relevance:
        cell = row["condition"]
        if (factors := CELL.match(cell)) and words.defined(row["value"]) and cell in seconds:
            numbers = {"weight": float(factors["weight"]), "k": int(factors["k"]), "time_s": seconds[cell]}
            found.append({**row, "cell": cell, **factors.groupdict(), **numbers})
    return found


def front(cells: Sequence[Row], same_s: float) -> list[Row]:
    """Return, by time, the cells that no other beats in relevance without being slower.

    Times closer than `same_s` seconds are one time. The phase chooses by the same rule; here it is only drawn.
    """
    times: dict[str, float] = {}
    group = last = float("-inf")
    for c in sorted(cells, key=lambda c: float(c["time_s"])):
        group = c["time_s"] if c["time_s"] - last >= same_s else group
        last = c["time_s"]
        times[c["cell"]] = group

    def beaten(c: Row) -> bool:
        mine = (times[c["cell"]], -c["value"])
        return any(
            (t := times[o["cell"]]) <= mine[0] and -o["value"] <= mine[1] and (t, -o["value"]) != mine for o in cells
        )

    return sorted((c for c in cells if not beaten(c)), key=lambda c: (float(c["time_s"]), float(c["value"])))
