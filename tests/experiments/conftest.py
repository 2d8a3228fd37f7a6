"""The real engines once for the session, in a LAB_HOME of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_llama import make_for_any_text

from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Embedder, LanguageModel


@pytest.fixture(scope="session")
def weights_home(first_load: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the session's LAB_HOME; it holds the converted weights and nothing else."""
    home = tmp_path_factory.mktemp("lab-home")
    (home / "models").symlink_to(first_load.models)
    return home


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a Llama of random weights that reads any text, for what does not depend on the model."""
    return f"hf/{make_for_any_text(tmp_path_factory.mktemp('llama'))}"


@pytest.fixture
def embedder(engines: Backends) -> Embedder:
    """all-MiniLM-L6-v2."""
    return engines.embedder("all-MiniLM-L6-v2")
