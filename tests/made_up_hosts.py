"""A snapshot of one run on several hosts, with made-up trials: split between them, or computed by each."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
from made_up_report import REPORT
from made_up_snapshot import MINILM, PHASE_TEXTS, START, VERDICTS

from experiments.contract import Unit
from experiments.statistics import bootstrap_mean
from warehouse.database import comparisons, summaries
from warehouse.database.connection import migrate
from workpools.report import CapabilityReport

RUN = "demo-3"
OPTIONS = ("O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)", "O(2^n)")
# Phase -> conditions, problems, seeds.
SHAPES: dict[str, tuple[tuple[str, ...], int, int]] = {
    "p1": ((MINILM,), 36, 1),
    "p2": (("none", "random", "recent", "semantic"), 12, 3),
    "p3": (("base", "tuned"), 20, 1),
    "e0": ((f"{MINILM} 0.7:0.3 k5 cosine", f"{MINILM} 1:0 k5 cosine"), 30, 1),
    "e1": (("none", "temporal", "semantic"), 14, 5),
    "e2": (("base_query", "tuned_s", "tuned_r"), 12, 3),
}
PAIRS = {"p2": ("semantic", "none"), "e1": ("semantic", "temporal"), "e2": ("tuned_s", "base_query")}
UNITS = 6  # of a phase
SPEED = (1.0, 0.36, 0.08)  # of the hosts, in turn
TIERS = ("strong", "medium", "weak")
NAMES = ("desktop", "laptop", "pi-4")
Mode = Literal["split", "replicate"]


def names_of(n: int) -> tuple[str, ...]:
    """Return `n` names of hosts; the third one deviates where trials are to deviate."""
    return (*NAMES, *(f"bench-{i:02}" for i in range(4, n + 1)))[:n]


def publish(
    home: Path, hosts: tuple[str, ...], mode: Mode, deviating: str | None = None, decided: str = "p1 p2 p3 e0 e1 e2"
) -> Path:
    """Write the snapshot of a run.

    Args:
        mode: split gives each unit to one host in turn; replicate gives all to each, but P3 and E2 not to weak ones.
        deviating: the host that guesses otherwise in a quarter of the trials of P2 and E1.
        decided: phases with a verdict; the next one is running, its last units have no result.
    """
    home.mkdir(parents=True, exist_ok=True)
    new = home / "new.duckdb"
    with duckdb.connect(str(new)) as con:
        con.execute("SET TimeZone = 'UTC'")
        migrate(con)
        con.begin()
        _run(con, hosts)
        at, trials = START + timedelta(minutes=1), []
        for phase in SHAPES:
            running = phase not in decided.split()
            rows, at = _phase(con, phase, hosts, mode, deviating, at, running)
            trials += rows
            if running:
                break
            _decide(con, phase, rows, hosts)
        con.from_arrow(pa.Table.from_pylist(trials)).insert_into("trials")
        con.commit()
        summaries.refresh(con)
        comparisons.refresh(con)
        con.execute("CHECKPOINT")
    return new.rename(home / "snapshot.duckdb")


def _run(con: duckdb.DuckDBPyConnection, hosts: tuple[str, ...]) -> None:
    content = {"scale": "demo", "phases": PHASE_TEXTS | {p: t | {"answers": OPTIONS} for p, t in PHASE_TEXTS.items()}}
    con.execute("INSERT INTO plans VALUES ('plan-3', ?, ?, ?, 0)", [START, json.dumps(content), "ab12" * 16])
    con.execute(
        "INSERT INTO runs VALUES (?, 'plan-3', 'demo', 'big_o', 'smollm2-135m', ?, NULL, ?, ?, false, '{}', ?, ?)",
        [RUN, START, hosts[0], "34c42bd" * 5, '{"scale":"demo"}', '{"p1": {"knn_threshold": 0.7}}'],
    )
    for i, host in enumerate(hosts):
        speed = SPEED[i % 3]
        measured = {
            "matrix_gflops": 320 * speed,
            "prefill_tokens_per_s": 980 * speed,
            "embedding_texts_per_s": 43 * speed,
        }
        report = CapabilityReport.model_validate(
            REPORT
            | {"host": host, "tier": TIERS[i % 3], "created_at": START, "disk_write_mb_s": 800 * speed, **measured}
        )
        seen = START + timedelta(seconds=i)
        values = [host, TIERS[i % 3], seen, seen, report.model_dump_json()]
        con.execute("INSERT INTO hosts VALUES (?, ?, ?, ?, ?, '3.11.9', '{}')", values)


def _phase(
    con: duckdb.DuckDBPyConnection,
    phase: str,
    hosts: tuple[str, ...],
    mode: Mode,
    deviating: str | None,
    at: Any,
    running: bool,
) -> tuple[list[dict[str, Any]], Any]:
    """Write units and bundles of a phase; return its trials and the time at which it ended."""
    conditions, problems, seeds = SHAPES[phase]
    free = dict.fromkeys(hosts, at)
    found = []
    for unit_number in range(UNITS):
        own = range(unit_number, problems, UNITS)
        unit_id = f"{phase}-{unit_number}"
        n = len(own) * len(conditions) * seeds
        config = {"domain": "big_o", "temperature": 1.0, "precision": "float32"}
        unit = Unit(unit_id, phase, 1, config, {}, {"models": {}}, n_trials=n, cost=0.4 * n)
        con.execute(
            "INSERT INTO units VALUES (?, ?, ?, 1, ?, ?, '[]')",
            [RUN, unit_id, phase, unit_number, json.dumps(asdict(unit))],
        )
        able = [h for i, h in enumerate(hosts) if phase not in ("p3", "e2") or TIERS[i % 3] != "weak"]
        doing = [able[unit_number % len(able)]] if mode == "split" else able
        sent = [[RUN, unit_id, phase, TIERS[hosts.index(h) % 3], h, at] for h in doing]
        con.executemany("INSERT INTO assignments VALUES (?, ?, ?, ?, ?, 1, ?, 0)", sent)
        if running and unit_number >= UNITS // 2:
            continue
        for replicate, host in enumerate(doing):
            took = timedelta(seconds=n * 0.4 / SPEED[hosts.index(host) % 3])
            start, free[host] = free[host], free[host] + took
            manifest = {"phase": phase, "started_at": start.isoformat(), "finished_at": free[host].isoformat()}
            sha = f"{unit_id}-{host}".ljust(16, "0")
            arrival = 1 + unit_number * len(hosts) + replicate
            con.execute(
                "INSERT INTO bundles VALUES (?, ?, ?, 1, ?, ?, 900, 1, 'directory', ?, ?)",
                [sha, unit_id, host, replicate, free[host], json.dumps(manifest), arrival],
            )
            found += _trials(phase, unit_id, sha, host, [f"big_o-{phase}-{p:03}" for p in own], host == deviating)
    return found, max(free.values())


def _trials(phase: str, unit_id: str, sha: str, host: str, problems: list[str], deviates: bool) -> list[dict[str, Any]]:
    """Return the trials of a bundle; of a host that deviates, about a quarter of those of P2 and E1 are others."""
    conditions, _, seeds = SHAPES[phase]
    rows: list[dict[str, Any]] = []
    for c, condition in enumerate(conditions):
        for problem in problems:
            for seed in range(seeds):
                rng = np.random.default_rng([c, seed, *problem.encode()])
                other = rng.random() < 0.25 and deviates and phase in ("p2", "e1")
                lift = {"semantic": 1.6, "tuned_s": 1.8, "base_query": 1.6, "recent": 0.6, "temporal": 0.5}.get(
                    condition, 0
                )
                truth = OPTIONS[int(problem[-3:]) % 6]
                scores = rng.normal(size=6) + lift * (np.array(OPTIONS) == truth)
                if other:
                    scores = np.roll(scores, 2)
                logprobs = scores - np.log(np.exp(scores).sum()) + (1e-6 if host != "desktop" else 0)
                order = [OPTIONS[i] for i in np.argsort(-scores)]
                attempts = order.index(truth) + 1
                row = {
                    "bundle_sha256": sha, "unit_id": unit_id, "host": host, "ordinal": len(rows), "problem_id": problem,
                    "condition": condition, "seed": 100 + seed, "attempts": attempts, "solved": attempts <= 3,
                    "answer": order[0], "truth": truth, "tokens_in": 412, "tokens_out": 6, "latency_s": 0.4, "error": None,
                    "details": json.dumps(
                        {"logprobs": logprobs.tolist(), "guesses": order, "relevance": float(rng.random() / 2 + 0.3),
                         "device": "cpu", **({"prompt": f"What is the running time of this function?\n\n{CODE}"} if not seed else {})}
                    ),
                }  # fmt: skip
                if phase in ("p1", "e0"):
                    row |= {"attempts": None, "solved": None, "answer": None}
                if phase == "e0":
                    row["attempts"] = 1
                row["first_right"] = None if row["attempts"] is None else float(row["attempts"] == 1)
                rows.append(row)
    return rows


CODE = "def total(rows):\n    found = 0\n    for row in rows:\n        for value in row:\n            found += value\n    return found"


def _decide(con: duckdb.DuckDBPyConnection, phase: str, trials: list[dict[str, Any]], hosts: tuple[str, ...]) -> None:
    """Write verdict, prediction and metrics of a phase; the main metric of P2, E1 and E2 is that of the trials."""
    row = list(VERDICTS[phase])
    if phase == "p1":
        row[1:3] = ["FAIL", f"{MINILM}: ratio 1.342 (needs > 1.2), kNN 0.50 (needs > 0.7)."]
        row[13:15] = ["desktop", "the demo shows every phase, whatever its gates say"]
        knn = [RUN, MINILM]
        con.execute(
            "INSERT INTO metrics VALUES (?, 'p1', 'all', 1, 'knn_accuracy', ?, 0.5, 0.4, 0.6, 36, 0, 'Wilson', false)",
            knn,
        )
    if phase == "e1":
        row[3] = '{"hypothesis": "amplification"}'
    if phase == "p2":
        row[1:4] = [
            "PASS",
            "semantic - none: adjusted p 0.0012 (needs < 0.05), n 12.",
            '{"retrieval_helps": "semantic"}',
        ]
        row[5:13] = ["mean_difference", "semantic - none", None, None, None, 12, None, row[12]]
        row[4], row[13:15] = "[]", [None, None]
        row[12] = START
    con.execute("INSERT INTO predictions VALUES (?, ?, 180, 200)", [RUN, phase])
    done = {t["host"] for t in trials}
    for host in ("all", *(h for h in hosts if h in done)):
        value, low, high = row[7], row[8], row[9]
        if phase in PAIRS:
            value, low, high = _difference(trials, host, *PAIRS[phase])
        if host == "all":
            row[7:10] = [value, low, high]
        con.execute(
            "INSERT INTO metrics VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, 0, 'bootstrap by problem, 1000 resamples, 95%', false)",
            [RUN, phase, host, row[5], row[6], value, low, high, row[10]],
        )
    con.execute(f"INSERT INTO verdicts VALUES ({', '.join('?' * 16)}, 1)", [RUN, *row])


def _difference(trials: list[dict[str, Any]], host: str, first: str, second: str) -> tuple[Any, Any, Any]:
    """Return the mean difference of attempts by problem, of a host or of each unit's first result."""
    seen: dict[tuple[str, str], list[int]] = {}
    counted: set[tuple[str, str, int]] = set()
    for t in trials:
        key = (t["condition"], t["problem_id"], t["seed"])
        if host in ("all", t["host"]) and key not in counted:
            counted.add(key)
            seen.setdefault(key[:2], []).append(t["attempts"])
    each = [np.mean(v) - np.mean(seen[second, p]) for (c, p), v in seen.items() if c == first and (second, p) in seen]
    found = bootstrap_mean(each, 1)
    return found.value, found.low, found.high
