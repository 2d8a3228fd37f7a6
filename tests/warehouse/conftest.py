"""An empty home, the store of a small plan, and a run of P1, made once a session, to copy for whoever damages it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_up_bundles import plan
from numpy.typing import NDArray

from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Reading
from flows.chain import advance, conclude, open_run
from flows.plan import plan as plan_run
from flows.unit_run import run_unit
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths

EMBEDDER = "all-MiniLM-L6-v2"
GIVEN = {"p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": [EMBEDDER]}}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A home with nothing in it, whose results store is its own folder."""
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)
    return Paths(tmp_path / "home")


@pytest.fixture
def store(paths: Paths) -> Store:
    """The store of a warehouse whose plan asks for the units a and b."""
    plan(paths, "a", "b")
    return Store.configured(paths)


class FakeEmbedder:
    """Vectors drawn from a text's hash: what they say does not matter here, only that they are stored."""

    name = EMBEDDER

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        return []

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        seeds = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "big") for t in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True), [0.001] * len(texts)


def clean_environment(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [v for v in os.environ if v.startswith("LAB_")]:
        patch.delenv(name)
    patch.setenv("LAB_HOME", str(home))
    patch.setenv("LAB_HOST", "pi-4")


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LAB_HOME of a run whose P1 is decided; nobody changes it."""
    paths = Paths(tmp_path_factory.mktemp("computed") / "home")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch, paths.home)
        store = Store.configured(paths)
        backends = Backends(store.get_file, {EMBEDDER: FakeEmbedder()})
        with writing(paths) as con:
            run = open_run(con, plan_run("smoke", GIVEN))
            while pending := advance(con, run, "p1").pending:
                for unit in pending:
                    run_unit(unit, backends, paths, store, attempt=1)
                collect(paths, store, con)
        with writing(paths, publish=True) as con:
            conclude(con, run, "p1")
    return paths.home


@pytest.fixture
def run_home(computed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A copy of the run's home, which is LAB_HOME."""
    home = tmp_path / "home"
    shutil.copytree(computed, home)
    clean_environment(monkeypatch, home)
    return Paths(home)
