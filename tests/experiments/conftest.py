"""The real engines once for the session: SmolLM2 is converted once, in a LAB_HOME of the session's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.backends.base import Backends, Embedder, LanguageModel

# A model that is not here must be found missing at once, not after the hub's time-outs; set before its library loads.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def weights_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's LAB_HOME; it holds the converted weights and nothing else."""
    return tmp_path_factory.mktemp("lab-home")


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    """Content by SHA-256: stands for the store through which adapters travel."""
    return {}


@pytest.fixture(scope="session")
def _shared(files: dict[str, bytes]) -> Backends:
    return Backends(files.__getitem__)


@pytest.fixture
def engines(weights_home: Path, _shared: Backends, monkeypatch: pytest.MonkeyPatch) -> Backends:
    """The real backends; a model that one test has loaded is there for the next."""
    monkeypatch.setenv("LAB_HOME", str(weights_home))
    return _shared


@pytest.fixture
def lm(engines: Backends) -> LanguageModel:
    """SmolLM2, untuned."""
    return engines.language_model("smollm2-135m")


@pytest.fixture
def embedder(engines: Backends) -> Embedder:
    """all-MiniLM-L6-v2."""
    return engines.embedder("all-MiniLM-L6-v2")
