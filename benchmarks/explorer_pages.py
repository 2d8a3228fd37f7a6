"""How long does a page of the explorer take over ten million trials?

    python -m benchmarks.explorer_pages --trials 10000000 --runs 10

    {
      "benchmark": "explorer_pages",
      "ratio": 5.48,
      "needed": null,
      "seconds": {
        "generating": 64.272, "plain_counts": 0.067, "summary_counts": 0.012,
        "overview_first": 0.696, "p1_first": 0.64, "p2_first": 0.468, "p3_first": 0.43, "e0_first": 0.445,
        "e1_first": 0.593, "e2_first": 0.577, "hosts_first": 0.529, "trials_first": 0.46,
        "compare_first": 1.059, "provenance_first": 0.317, "monitor_first": 0.425,
        "overview_after_first": 0.463, "p1_after_first": 0.587, "p2_after_first": 0.509, "p3_after_first": 0.399, "e0_after_first": 0.404,
        "e1_after_first": 0.559, "e2_after_first": 0.547, "hosts_after_first": 0.537, "trials_after_first": 0.315,
        "compare_after_first": 0.935, "provenance_after_first": 0.304, "monitor_after_first": 0.307,
        "overview_kept": 0.318, "p1_kept": 0.485, "p2_kept": 0.379, "p3_kept": 0.368, "e0_kept": 0.466,
        "e1_kept": 0.464, "e2_kept": 0.466, "hosts_kept": 0.504, "trials_kept": 0.271,
        "compare_kept": 0.412, "provenance_kept": 0.319, "monitor_kept": 0.328},
      "counts": {"trials": 10002870, "runs": 10, "pages": 12, "snapshot_mb": 535},
      "compared": "counting E1's attempts of a run from trials, against from summaries; same counts",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 2.2, "torch": "2.13.0+cpu"},
      "slowest_after_first_s": 0.935,
      "needed_s": 1.0
    }

A snapshot is generated: runs of P1, P2, P3, E0, E1 and E2 on four hosts, whose trials, metrics and verdicts are drawn by a
hash, written through the real migrations and summaries. Each page's script is then run as Streamlit runs it, timed by the
clock: `first` with the imports of a fresh server, then for a run that was not asked for before (`after_first`: the server is
warm, no answer is kept), then again (`kept`). `monitor` asks no snapshot; no Prefect server is there, which it says.
- ratio: seconds to count E1's attempts of one run from its trials, over those from the summaries; same counts.
- slowest_after_first_s is what `needed_s` bounds: a second a page. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.common import show
from warehouse.database import summaries
from warehouse.database.connection import migrate
from warehouse.paths import Paths
from warehouse.queries import phases, snapshot

NAME = "explorer_pages"
NEEDED_S = 1.0
APP = Path(__file__).resolve().parent.parent / "app" / "views"
PAGES = ("overview", "p1", "p2", "p3", "e0", "e1", "e2", "hosts", "trials", "compare", "provenance", "monitor")
PER_UNIT = 100  # problems
SHARES = {
    "p2": (0.1, ("none", "random", "recent", "semantic")),
    "e1": (1.0, ("none", "temporal", "semantic")),
    "e2": (1.0, ("base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none")),
}
EMBEDDERS, MAPPED, DIMENSIONS = ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "hybrid"), 100, 384
UNITS = """
INSERT INTO units SELECT $run, md5($run || $phase || i), $phase, 1, i, '{}', '[]' FROM range($units) t(i)
"""
BUNDLES = """
INSERT INTO bundles
  (sha256, unit_id, host, attempt, replicate, received_at, size_bytes, schema_version, transport, manifest)
  SELECT sha256($run || $phase || i), md5($run || $phase || i), 'host-' || (i % 4), 1, 0,
  TIMESTAMPTZ '2026-11-01' + to_hours($number), 900, 1, 'directory', to_json({
    'started_at': strftime(TIMESTAMP '2026-11-01' + to_hours($number) + to_seconds(i), '%Y-%m-%dT%H:%M:%S+00:00'),
    'finished_at': strftime(TIMESTAMP '2026-11-01' + to_hours($number) + to_seconds(i + 4), '%Y-%m-%dT%H:%M:%S+00:00'),
    'provenance': repeat('x', 1200)}) FROM range($units) t(i)
"""
HOSTS = ("host-0", "host-1", "host-2", "host-3")
REPORT = (
    '{"host":"%s","created_at":"2026-01-01T00:00:00Z","os":"Linux","architecture":"x86_64","python":"3.11","versions":{},'
    '"cores_physical":2,"cores_logical":2,"ram_total_gb":24.0,"ram_available_gb":20.0,"disk_free_gb":99.0,"gpus":[],'
    '"engines":["embedder"],"tier":"strong","profiles":{},"reasons":[],"matrix_gflops":240.0,"embedding_texts_per_s":43.0,'
    '"prefill_tokens_per_s":450.0}'
)
TRIALS = """
INSERT INTO trials SELECT sha256($run || $phase || (p // $per_unit)), md5($run || $phase || (p // $per_unit)),
  'host-' || ((p // $per_unit) % 4), (p % $per_unit) * 99 + c * 9 + s, 'problem-' || p, $conditions[c + 1], 100 * (s + 1),
  1 + (hash(p, c, s) % (6 - c % 3))::INTEGER, true, 'O(n)', 'class-' || (p % 6), 500 + p % 200, 31, 1.5, NULL,
  '{"solved_by":"log-probabilities","retrieved":["problem-' || (p + 1) || '","problem-' || (p + 9) || '"],"logprobs":[-3.31,'
    || '-2.12,-1.68,-1.21,-3.23,-4.' || s || '],"group":"g' || (p % 60) || '","relevance":' || (hash(p, c) % 1000) / 1000.0 || '}',
  (hash(p, c, s) % 2)::DOUBLE
FROM range($problems) a(p), range(len($conditions)) b(c), range(3) d(s)
"""
VECTORS = """
INSERT INTO trials SELECT sha256($run || 'p1' || e), md5($run || 'p1' || e), 'host-0', p, 'problem-' || p, $embedders[e + 1], NULL,
  NULL, NULL, NULL, 'class-' || (p % 6), NULL, NULL, 0.03, NULL, to_json({
    'vector': list_transform(range($dimensions), i -> (hash(p, e, i) % 1000) / 1000.0), 'map': [p % 13, p // 13], 'group': 'g'}), NULL
FROM range($mapped) a(p), range(len($embedders)) b(e)
"""
TRAINING = """
INSERT INTO trials SELECT sha256($run || $phase || '0'), md5($run || $phase || '0'), 'host-0', 100000 + i, 'training', $names[i + 1],
  42, NULL, NULL, NULL, NULL, 36370, NULL, 237.0, NULL,
  '{"examples":50,"held":4,"train_loss":[1.0,0.5,0.3],"validation_loss":[1.1,0.9,0.8],"adapter_bytes":1858872}', NULL
FROM range(len($names)) t(i)
"""


def metric_rows() -> list[tuple[str, str, str]]:
    """(phase, metric, condition) of what the pages draw."""
    rows = [
        ("p1", m, e)
        for m in ("similarity_ratio", "knn_accuracy", "knn_accuracy_other_families", "silhouette")
        for e in EMBEDDERS
    ]
    rows += [("p3", "retention", c) for c in ("instruction", "arithmetic", "format", "knowledge", "overall")]
    for phase, (_, conditions) in SHARES.items():
        rows += [(phase, m, c) for m in ("attempts_mean", "accuracy", "tokens_mean") for c in conditions]
        pairs = [f"{c} - {conditions[0]}" for c in conditions[1:]]
        rows += [
            (phase, m, p)
            for m in ("mean_difference", "adjusted_p", "cliffs_delta", "improvement_percent")
            for p in pairs
        ]
    rows += [("e1", "class_accuracy", f"class-{i} {c}") for i in range(6) for c in SHARES["e1"][1]]
    cells = [
        f"{e} | text {w:g} | k {k} | {d}"
        for e in EMBEDDERS
        for w in (1, 0.7, 0.5, 0.3, 0)
        for k in (3, 5, 7, 10)
        for d in ("cosine", "euclidean")
    ]
    return rows + [("e0", m, c) for m in ("relevance", "retrieval_time_s", "efficiency") for c in cells]


def generate(path: Path, trials: int, runs: int) -> int:
    """Write the snapshot; returns how many trials it holds."""
    problems = max(PER_UNIT, int(trials / runs / sum(3 * share * len(c) for share, c in SHARES.values())))
    with duckdb.connect(str(path)) as con:
        con.execute("SET TimeZone = 'UTC'")
        migrate(con)
        for host in HOSTS:
            con.execute("INSERT INTO hosts VALUES (?, 'strong', now(), now(), ?, '3.11', '{}')", [host, REPORT % host])
        for number in range(runs):
            con.begin()  # one transaction: a commit a row would cost minutes
            generate_run(con, number, problems)
            con.commit()
        summaries.refresh(con)
        con.execute("CHECKPOINT")
        (count,) = con.execute("SELECT count(*) FROM trials").fetchone() or (0,)
    return int(count)


def generate_run(con: duckdb.DuckDBPyConnection, number: int, problems: int) -> None:
    """One run: what every phase leaves."""
    run = f"run-{number}"
    started = "TIMESTAMPTZ '2026-11-01' + to_hours(?)"
    sql = f"INSERT INTO runs SELECT ?, 'plan', 'full', 'big_o', 'generated', {started}, NULL, 'host-0', 'none', false, '{{}}', '{{}}', '{{}}'"  # noqa: E501
    con.execute(sql, [run, number])
    counts = {phase: int(problems * share) for phase, (share, _) in SHARES.items()}
    units = {"p1": len(EMBEDDERS), "p3": 1, "e0": 1} | {phase: -(-n // PER_UNIT) for phase, n in counts.items()}
    for phase, n in units.items():
        con.execute(UNITS, {"run": run, "phase": phase, "units": n})
        con.execute(BUNDLES, {"run": run, "phase": phase, "units": n, "number": number})
        con.execute(
            "INSERT INTO verdicts VALUES "
            "(?, ?, 'PASS', 'generated', '{}', '[]', 'none', '', 0.5, 0.4, 0.6, 30, NULL, now(), NULL, NULL, NULL)",
            [run, phase],
        )
        con.execute("INSERT INTO predictions VALUES (?, ?, 60.0, 75.0)", [run, phase])
    for phase, n in counts.items():
        asked = {"run": run, "phase": phase, "per_unit": PER_UNIT, "problems": n, "conditions": list(SHARES[phase][1])}
        con.execute(TRIALS, asked)
    con.execute(VECTORS, {"run": run, "embedders": list(EMBEDDERS), "mapped": MAPPED, "dimensions": DIMENSIONS})
    for phase, names in (("p3", ["train"]), ("e2", ["train_s", "train_r"])):
        con.execute(TRAINING, {"run": run, "phase": phase, "names": names})
    con.executemany(
        "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, 0.5, 0.4, 0.6, 150, 0, 'generated', false)",
        [
            [run, phase, host, i, metric, condition]
            for host in ("all", *HOSTS)
            for i, (phase, metric, condition) in enumerate(metric_rows())
        ],
    )


def page_seconds(page: str, run: str) -> float:
    """Seconds that the page's script takes; a page that failed is no measurement."""
    from streamlit.testing.v1 import AppTest

    shown = AppTest.from_file(str(APP / f"{page}.py"), default_timeout=120)
    shown.query_params["run"] = run
    started = time.perf_counter()
    shown.run()
    seconds = time.perf_counter() - started
    assert not shown.exception, f"{page}: {[e.message for e in shown.exception]}"  # noqa: S101
    return seconds


def from_trials(run: str) -> list[snapshot.Row]:
    """E1's attempts as they were counted without summaries."""
    return snapshot.query(
        "SELECT t.condition, t.attempts, count(*) AS trials FROM units u JOIN bundles b USING (unit_id) "
        "JOIN trials t ON t.bundle_sha256 = b.sha256 WHERE u.run_id = ? AND u.phase = 'e1' AND b.replicate = 0 "
        "GROUP BY ALL ORDER BY condition, attempts",
        [run],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate, open every page, print."""
    parser = argparse.ArgumentParser(description="Time the explorer's pages over a generated snapshot.")
    parser.add_argument("--trials", type=int, default=10_000_000, help="in all (default ten million)")
    parser.add_argument("--runs", type=int, default=10, help="that they belong to (default 10)")
    parser.add_argument("--home", type=Path, help="keep the snapshot there and use it again (default: a temporary one)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        home = (given.home or Path(temporary)).resolve()
        os.environ["LAB_HOME"] = str(home)
        os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # nobody answers
        home.mkdir(parents=True, exist_ok=True)
        path = home / "snapshot.duckdb"
        started = time.perf_counter()
        if not path.exists():
            generate(path, given.trials, given.runs)
        generated_s = time.perf_counter() - started
        last = f"run-{given.runs - 1}"
        first = {page: page_seconds(page, last) for page in PAGES}
        after = {page: page_seconds(page, "run-0") for page in PAGES}
        kept = {page: page_seconds(page, "run-0") for page in PAGES}
        measure_counts(generated_s, {"first": first, "after_first": after, "kept": kept}, last, given.runs)


def measure_counts(generated_s: float, pages: dict[str, dict[str, float]], run: str, runs: int) -> None:
    """The same counts in both ways, and everything printed."""
    started = time.perf_counter()
    plain = from_trials(run)
    plain_s = time.perf_counter() - started
    started = time.perf_counter()
    ours = phases.attempt_counts(run, "e1")
    ours_s = time.perf_counter() - started
    assert plain == ours, "the summaries count something else than the trials"  # noqa: S101
    total = snapshot.query("SELECT count(*) AS n FROM trials")[0]["n"]
    seconds = {"generating": generated_s, "plain_counts": plain_s, "summary_counts": ours_s}
    seconds |= {f"{page.removeprefix('page_')}_{when}": s for when, found in pages.items() for page, s in found.items()}
    size = Paths.local().snapshot.stat().st_size
    show(
        NAME,
        plain_s / ours_s,
        None,
        {k: max(s, 0.001) for k, s in seconds.items()},
        {"trials": total, "runs": runs, "pages": len(PAGES), "snapshot_mb": size // 10**6},
        "counting E1's attempts of a run from trials, against from summaries; same counts",
        slowest_after_first_s=round(max(pages["after_first"].values()), 3),
        needed_s=NEEDED_S,
    )


if __name__ == "__main__":
    main()
