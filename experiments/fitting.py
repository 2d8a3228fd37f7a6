"""Counts of a scale that the data cannot serve, made smaller by a stated rule (docs/science.md, Splits and leaks)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from experiments.contract import PhaseConfig
from experiments.data import universe, zone_of, zones_of
from experiments.domains import Problem, get_domain
from experiments.domains.jsonl import JsonLines

STORED, ASKED = ("n_memory", "n_train"), ("n_test", "n_queries")  # fields of a Config: problems of memory, and to solve


def smaller_counts(config: PhaseConfig, given: Collection[str] = ()) -> dict[str, int]:
    """Return the counts of `config` that the data cannot serve, as they must be.

    A file of the user's serves what it has, at least one of each label on each side. With split: group each side has what
    its groups have. Other data are made.

    Args:
        given: fields that the user set; they stay as they are, and fail later when they ask for too much.
    """
    domain = get_domain(config.domain)
    found: dict[str, int] = {}
    if isinstance(domain, JsonLines):
        rows, labels = len(domain.rows), len(domain.options)
        if config.n_problems > rows and "n_problems" not in given:
            found["n_problems"] = rows
        if found.get("n_problems", config.n_problems) > rows:
            return found
        counts = [f for f in (*STORED, *ASKED) if hasattr(config, f) and f not in given]
        found |= {f: labels for f in counts if getattr(config, f) < labels}
    elif config.split != "group":
        return {}
    fitted = config.model_copy(update=found)
    more = _of_groups(fitted, given) if config.split == "group" else _of_variants(fitted, given)
    return {**found, **more}


def unused_rows(config: PhaseConfig) -> str:
    """Return what equal classes leave unused of the user's file, as a sentence; "" if nothing."""
    domain = get_domain(config.domain)
    if not isinstance(domain, JsonLines) or config.balance == "natural":
        return ""
    counts = Counter(p.label for p in domain.rows)
    rows, most = len(domain.rows), min(counts.values()) * len(counts)
    rarest = min(counts, key=lambda c: (counts[c], c))
    if most == rows:
        return ""
    return (
        f"classes are equal, and {rarest!r} has {counts[rarest]} rows: "
        f"at most {most} of {rows} rows are used; --set balance=natural uses all"
    )


def _fewest(problems: Sequence[Problem], config: PhaseConfig) -> int:
    """Return the problems of a side: of its rarest class, in all with natural balance."""
    return len(problems) if config.balance == "natural" else min(Counter(p.label for p in problems).values(), default=0)


def _of_groups(config: PhaseConfig, given: Collection[str]) -> dict[str, int]:
    zones = zones_of(config)
    classes = len(get_domain(config.domain).options)
    times = 1 if config.balance == "natural" else classes
    sides = dict.fromkeys(STORED, zones.memory) | {"n_test": zones.test, "n_queries": zones.tuning}
    rooms = {f: times * _fewest(side, config) for f, side in sides.items()}
    return {f: room for f, room in rooms.items() if f not in given and getattr(config, f, 0) > room}


def _of_variants(config: PhaseConfig, given: Collection[str]) -> dict[str, int]:
    labels = Counter(p.label for p in universe(config).problems)
    equal = config.balance == "equal"
    zones = {label: zone_of(n) for label, n in labels.items()}
    classes = len(labels) if equal else 1
    # The one with the least for the memory: of 29 and 30 rows that is the second, of which three are a tenth.
    rarest = min(labels, key=lambda label: (labels[label] - 2 * zones[label], labels[label]))
    n, zone = (labels[rarest], zones[rarest]) if equal else (sum(labels.values()), sum(zones.values()))
    stored = next(f for f in STORED if hasattr(config, f))
    asked = next((f for f in ASKED if hasattr(config, f)), "")
    m, a = -(-getattr(config, stored) // classes), -(-getattr(config, asked) // classes) if asked else 0
    room = n - zone  # the other side's zone is left alone
    if max(a, zone) + m <= room:
        return {}
    found: dict[str, int] = {}
    if asked and asked not in given:
        # Its share of the room, at least the whole of its zone.
        share = room - m if stored in given else room * a // (a + m)
        if (fitting := max(1, min(a, max(zone, share)))) < a:
            found[asked], a = fitting * classes, fitting
    if stored not in given and (fitting := max(1, room - max(a, zone))) < m:
        found[stored] = fitting * classes
    return found
