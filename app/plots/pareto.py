"""E0's configurations as factors, and which of them none other beats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app import format as words

Row = Mapping[str, Any]
CELL = re.compile(r"^(?P<embedder>.*) \| text (?P<weight>[\d.]+) \| k (?P<k>\d+) \| (?P<distance>\w+)$")


def cells(relevance: Sequence[Row], times: Sequence[Row]) -> list[Row]:
    """Each configuration with its factors, relevance, interval and time_s; those without one of both are left out."""
    seconds = {r["condition"]: r["value"] for r in times if words.defined(r["value"])}
    found: list[Row] = []
    for row in relevance:
        named = CELL.match(row["condition"])
        if named and words.defined(row["value"]) and row["condition"] in seconds:
            found.append(
                {
                    **row,
                    "cell": row["condition"],
                    "embedder": named["embedder"],
                    "weight": float(named["weight"]),
                    "k": int(named["k"]),
                    "distance": named["distance"],
                    "time_s": seconds[row["condition"]],
                }
            )
    return found


def front(cells: Sequence[Row], same_s: float) -> list[Row]:
    """Cells that none beats in relevance without being slower, by time; times nearer than `same_s` are one time.

    The phase chooses by the same rule; here it only draws.
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
