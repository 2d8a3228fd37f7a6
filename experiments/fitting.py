"""Counts that a file of the user's can serve: a scale asks for 1,650 problems, and a file may have 200."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from experiments.contract import PhaseConfig
from experiments.domains import get_domain
from experiments.domains.jsonl import JsonLines

PER_CLASS = "per_class"
DRAWN = ("n_memory", "n_test", "n_queries", "n_train")  # fields of a Config: problems drawn apart, classes equal


def smaller_counts(config: PhaseConfig, given: Collection[str] = ()) -> dict[str, int]:
    """Counts of `config` that its file cannot serve, as they must be; {} for domains that make their problems.

    Classes stay equal, so the rarest label decides: each count keeps its share of what that label has.

    Args:
        given: fields that the user set; they stay as they are, and fail later when they ask for too much.
    """
    domain = get_domain(config.domain)
    if not isinstance(domain, JsonLines):
        return {}
    rows = len(domain.rows)
    found = {"n_problems": rows} if config.n_problems > rows and "n_problems" not in given else {}
    n_problems = found.get("n_problems", config.n_problems)
    if config.split == "group" or n_problems > rows:
        return found
    classes = len(domain.options)
    rarest = min(Counter(p.label for p in domain.problems(n_problems, config.data_seed)).values())
    wanted = {f: getattr(config, f) for f in DRAWN if hasattr(config, f)}
    if hasattr(config, PER_CLASS):
        wanted[PER_CLASS] = getattr(config, PER_CLASS) * classes
    # Where only the training is drawn, one problem of each class stands beside it.
    room = rarest - (1 if list(wanted) == ["n_train"] else 0)
    kept = sum(-(-n // classes) for f, n in wanted.items() if f in given)
    free = {f: n for f, n in wanted.items() if f not in given}
    if not free or sum(-(-n // classes) for n in free.values()) <= room - kept:
        return found
    for field, n in free.items():
        each = max(1, (room - kept) * n // sum(free.values()))
        found[field] = each if field == PER_CLASS else each * classes
    return found
