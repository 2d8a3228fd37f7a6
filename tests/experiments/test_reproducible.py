"""A unit run again elsewhere gives what it gave: another process, one thread instead of all, another order, other batches.

Choices, attempts, retrieved memos and written queries are equal; numbers that float32 sums stand behind agree within
experiments.protocol.agreement.TOLERANCE, which is why no rule may hang on their last digits: retrieval rounds to nine
XX
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from driving import earlier

from experiments.backends.model_cache import Backends
from experiments.contract import Json, Result, Trial, Unit
from experiments.data import universe
from experiments.protocol.agreement import difference, plain
from experiments.registry import configure, get_phase
from experiments.solving.retrieval import RetrievalConfig

MINI = "all-MiniLM-L6-v2"
TINY: Json = {"n_problems": 36, "run_seeds": [100, 200]}
RETRIEVAL = RetrievalConfig().model_dump()
LORA: Json = {
    "rank": 2,
    "alpha": 4,
    "dropout": 0.05,
    "learning_rate": 1e-4,
    "epochs": 1,
    "batch_size": 2,
    "patience": 3,
}
pytestmark = pytest.mark.timeout(900)  # a busy machine converts and loads the weights in minutes
Done = list[tuple[Unit, list[Trial]]]


@pytest.fixture(scope="module")
def done(weights_home: Path, files: dict[str, bytes], _shared: Backends) -> Done:
    """Units with their trials: choices, a grid, two trainings, and queries that base and tuned model write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(weights_home))
        problems = universe(configure("e2", "smoke", {"n_problems": 36})).problems
        memos = [[p.problem_id, p.label, i, 1, True, [p.label]] for i, p in enumerate(problems[:4])]
        test = [p.problem_id for p in problems[6:8]]
        small = {**TINY, "n_test": 2, "k": 1, "per_unit": 1}
        work: list[tuple[str, Json, Json]] = [
            ("p2", {**small, "n_memory": 6}, {"embedder": MINI, "text_weight": 0.5}),
            ("e0", {**TINY, "n_memory": 12, "n_queries": 6, "embedders": [MINI]}, {}),
            (
                "e2",
                {**small, "n_train": 4, "n_crossed": 0, "query_tokens": 6, "lora": LORA},
                {"retrieval": RETRIEVAL, "memos": memos, "hypothesis": "weak_signal", "best": "semantic", "test": test},
            ),
        ]
        found: Done = []
        for name, given, findings in work:
            own: Done = []
            while planned := get_phase(name).units(configure(name, "smoke", given), earlier(findings), own):
                for unit in planned:
                    # The other conditions of E2 do nothing that these do not.
                    if unit.spec.get("condition") in (None, "base_query", "tuned_s"):
                        own.append(Result(unit, get_phase(name).run(unit, _shared)))
                        files.update({a.sha256: a.content for a in _shared.take_attachments()})
            found += own
        return found


@pytest.mark.slow
def test_another_process_with_one_thread_and_another_order(
    done: Done, weights_home: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    """A unit that a second host runs, alone or after others, counts as the same unit, so it must be the same."""
    order = np.random.default_rng(7).permutation(len(done))
    kept = {sha256: tmp_path / sha256 for sha256 in files}
    for sha256, path in kept.items():
        path.write_bytes(files[sha256])
    job = {"units": [done[i][0].to_json() for i in order], "files": {k: str(p) for k, p in kept.items()}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("rerun.py")), str(tmp_path / "job.json")],
        env={**os.environ, "LAB_HOME": str(weights_home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    again = {row["unit_id"]: row["trials"] for row in map(json.loads, ended.stdout.splitlines())}
    assert len(again) == len(done) == 9
    compared = 0
    for unit, trials in done:
        assert not difference(plain(trials), again[unit.unit_id]), f"{unit.phase} {unit.spec.get('condition')}"
        compared += sum("logprobs" in t.details for t in trials)
    assert compared == 16


@pytest.mark.slow
def test_other_batches(done: Done, engines: Backends) -> None:
    """How many problems share a unit is a matter of planning: queries are then written in other batches."""
    for name in ("p2", "e2"):
        own = [(unit, trials) for unit, trials in done if unit.phase == name and "problems" in unit.spec]
        kinds = {(u.spec.get("role"), u.spec.get("condition")) for u, _ in own}
        for kind in kinds:
            same = [(u, t) for u, t in own if (u.spec.get("role"), u.spec.get("condition")) == kind]
            first = same[0][0]
            joined = {**first.spec, "problems": [i for u, _ in same for i in u.spec["problems"]][::-1]}
            unit = Unit(**{**first.__dict__, "spec": joined})
            parts = plain(get_phase(name).run(unit, engines))
            before = plain([t for _, trials in same for t in trials])
            assert len(parts) == len(before) > 0

            def key(t: Json) -> tuple[str, str, int]:
                return t["problem_id"], t["condition"], t["seed"]

            assert not difference(sorted(parts, key=key), sorted(before, key=key)), f"{name} {kind}"
