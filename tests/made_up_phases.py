"""Metrics and trials such as the six phases leave, made up, for a run that made_up_snapshot has written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import duckdb
from made_up_snapshot import HOSTILE, MINILM

Number = float | None
CLASSES = ("O(1)", "O(n)", HOSTILE)
RTL = "\u202eקוד \u0645\u0631\u062d\u0628\u0627 " + "x" * 300  # right to left, and very long
PAIRS = ("semantic - temporal", "semantic - none", "temporal - none")


def phase_metrics() -> list[tuple[str, str, str, Number, Number, Number]]:
    """(phase, metric, condition, value, low, high)."""
    rows: list[tuple[str, str, str, Number, Number, Number]] = []
    rows.append(("p1", "chance_accuracy", "", 1 / 3, None, None))
    for embedder, ratio in ((MINILM, 1.342), (RTL, None)):
        rows += [
            ("p1", "similarity_ratio", embedder, ratio, 1.28, 1.41),
            ("p1", "knn_accuracy", embedder, 0.8, 0.7, 0.9),
            ("p1", "knn_accuracy_other_families", embedder, 0.6, 0.4, 0.8),
            *(
                ("p1", "knn_accuracy_by_memory", f"{embedder} | {m} memos", m / 60, m / 80, m / 50)
                for m in (6, 12, 24, 48)
            ),
            ("p1", "auc", embedder, 0.7, 0.6, 0.8),
            ("p1", "probe_accuracy", embedder, ratio and 0.9, 0.8, 0.95),
            ("p1", "silhouette", embedder, 0.31, None, None),
            ("p1", "within_similarity", embedder, 0.5, None, None),
            ("p1", "between_similarity", embedder, 0.4, None, None),
        ]
    for phase, conditions in (
        ("p2", ("none", "random", "recent", "semantic")),
        ("e1", ("none", "temporal", "semantic")),
        ("e2", ("base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none")),
    ):
        for i, c in enumerate(conditions):
            rows += [
                (phase, "attempts_mean", c, 3.0 - i / 3, 2.0, 4.0),
                (phase, "tokens_mean", c, 100.0 + i, None, None),
            ]
        rows.append((phase, "smallest_effect", "", 0.53, None, None))
    pairs = {
        "p2": ("random - none", "semantic - none"),
        "e1": PAIRS,
        "e2": ("tuned_s - base_query", "tuned_r - base_query"),
    }
    for phase, names in pairs.items():
        for name in names:
            rows += [
                (phase, "mean_difference", name, -0.43, -0.61, -0.25),
                (phase, "adjusted_p", name, 0.004, None, None),
                (phase, "cliffs_delta", name, -0.4, None, None),
                (phase, "rank_biserial", name, -0.6, None, None),
                (phase, "improvement_percent", name, 14.0, 8.0, 20.0),
            ]
    for c in ("instruction", "arithmetic", "overall"):
        rows += [("p3", "retention", c, 0.9, 0.8, 1.1), ("p3", "score", f"{c} base", 0.5, 0.3, 0.7)]
        rows.append(("p3", "score", f"{c} tuned", 0.45, 0.3, 0.7))
    rows += [("p3", "perplexity", "base", 20.0, None, None), ("p3", "perplexity", "tuned", 21.0, None, None)]
    rows.append(("p3", "perplexity_ratio", "tuned / base", 1.05, None, None))
    for weight in (1, 0.7, 0):
        for k in (5, 7):
            cell = f"{MINILM} | text {weight:g} | k {k} | cosine"
            rows += [
                ("e0", "relevance", cell, 0.6 + weight / 4, 0.5, 0.9),
                ("e0", "relevance_choosing", cell, 0.62 + weight / 4, None, None),
                ("e0", "retrieval_time_s", cell, 0.01 + weight / 20, None, None),
            ]
    rows += [("e0", "variance_share", f, 0.2, None, None) for f in ("embedder", "text_weight", "k", "distance")]
    rows += [("e1", "class_accuracy", f"{label} {c}", 0.5, 0.3, 0.7) for label in CLASSES for c in ("none", "semantic")]
    rows += [
        ("e1", "relevance_attempts_correlation", "semantic", -0.5, -0.7, -0.2),
        ("e1", "equivalence_p", PAIRS[0], 0.9, None, None),
        ("e1", "equivalence_margin", "", 0.25, None, None),
        ("e1", "type_match", "temporal", 0.25, 0.2, 0.3),
        ("e1", "type_match", "semantic", 0.6, 0.5, 0.7),
        ("e1", "precision_difference", PAIRS[0], 0.35, 0.3, 0.4),
        ("e1", "precision_adjusted_p", PAIRS[0], 0.001, None, None),
        ("e1", "precision_rank_biserial", PAIRS[0], 0.8, None, None),
        ("e1", "attempts_mean", "label_only", 2.4, 2.0, 2.8),
        ("e1", "attempts_mean", "vote", 2.1, 1.8, 2.4),
        ("e1", "gain_share", "label_only", 0.93, 0.8, 1.1),
    ]
    rows += [("e2", "query_quality", c, 0.3, 0.2, 0.4) for c in ("base_query", "tuned_s")]
    rows += [("e2", "retrieval_precision", c, 0.4, 0.3, 0.5) for c in ("base_query", "tuned_s", "tuned_r", "analysis")]
    rows += [
        ("e2", "precision_difference", "tuned_s - base_query", 0.1, 0.02, 0.18),
        ("e2", "precision_adjusted_p", "tuned_s - base_query", 0.03, None, None),
        ("e2", "empty_query_share", "tuned_r", 0.25, 0.1, 0.4),
    ]
    rows += [
        ("e2", "criterion", "efficiency_moderate", 1.0, None, None),
        ("e2", "criterion", "token_efficiency", 0.0, None, None),
    ]
    rows.append(("e2", "break_even_problems", "tuned_s", 420.0, None, None))
    return rows


def details_of(phase: str, condition: str, i: int) -> dict[str, Any]:
    """What a trial's details hold that pages read."""
    if phase == "p1":
        # Bins of a width of 0.5: two memos of the class at 0.75, three others at 0.25 and -0.75.
        counts = {"within": [0, 0, 0, 2], "between": [1, 0, 2, 0]}
        return {"histogram": counts, "map": [i % 5, i // 5], "group": HOSTILE}
    if condition.startswith("train"):
        validation = [1.3, 1.2, 1.1] if phase == "e2" else None
        return {
            "examples": 16,
            "held": 4,
            "train_loss": [1.2, 0.9],
            "validation_loss": validation,
            "adapter_bytes": 1_858_872,
        }
    return {"relevance": (i % 10) / 10}


def _insert(
    con: duckdb.DuckDBPyConnection, table: str, one: str, rows: Sequence[Sequence[object]], last: str = ""
) -> None:
    """Insert rows in one statement, which is much faster than executemany."""
    if rows:
        values = [value for row in rows for value in row]
        con.execute(f"INSERT INTO {table} VALUES {', '.join([one] * len(rows))} {last}", values)


def enrich(con: duckdb.DuckDBPyConnection, run_id: str, phases: Sequence[str]) -> None:
    """Add metrics of all hosts, and trials to the first bundle of each phase."""
    rows = [[run_id, phase, 100 + at, *row] for at, (phase, *row) in enumerate(phase_metrics()) if phase in phases]
    _insert(con, "metrics", "(?, ?, 'all', ?, ?, ?, ?, ?, ?, 30, 0, 'made up', false)", rows, "ON CONFLICT DO NOTHING")
    conditions = {
        "p1": (MINILM, RTL),
        "p2": ("none", "random", "recent", "semantic"),
        "p3": ("train",),
        "e1": ("none", "temporal", "semantic"),
        "e2": ("base_query", "tuned_s", "tuned_r", "train_s", "train_r"),
    }
    trials = [
        [
            f"{run_id}-{phase}-0-0",
            f"{run_id}-{phase}-0",
            100 + 24 * c + i,
            f"problem-{i}",
            condition,
            None if phase == "p1" or condition.startswith("train") else 1 + (i + c) % 4,
            CLASSES[i % 3],
            json.dumps(details_of(phase, condition, i)),
            None if phase == "p1" or condition.startswith("train") else float((i + c) % 4 == 0),
        ]
        for phase in phases
        for c, condition in enumerate(conditions.get(phase, ()))
        for i in range(1 if condition.startswith("train") else 24)
    ]
    _insert(con, "trials", "(?, ?, 'laptop', ?, ?, ?, 100, ?, true, 'a', ?, 90, 9, 1.5, NULL, ?, ?)", trials)
