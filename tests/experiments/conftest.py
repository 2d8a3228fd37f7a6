"""The real engines once for the session: SmolLM2 is converted once, in a LAB_HOME of the session's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Embedder, LanguageModel

# A model that is not here must be found missing at once, not after the hub's time-outs; set before its library loads.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


# In a process of its own, where no library has printed its warnings or switched off its bars before.
FIRST_LOAD = """
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.lora import LoraSettings
backends = Backends(no_files)
backends.embedder("all-MiniLM-L6-v2")
lora = LoraSettings(rank=1, alpha=1, dropout=0, learning_rate=1e-4, epochs=1, batch_size=1)
content = backends.train("smollm2-135m", [("1 + 1 =", " 2")], [], lora, 42).adapter
Backends(lambda sha256: content).language_model("smollm2-135m", "any").generate(["One", "One two"], 2, stop="x")
"""


@pytest.fixture(scope="session")
def first_load(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(LAB_HOME of the session, with the weights converted; all that converting and loading them printed)."""
    home = tmp_path_factory.mktemp("lab-home")
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LOAD],
        env={**os.environ, "LAB_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home, done.stdout + done.stderr


@pytest.fixture(scope="session")
def weights_home(first_load: tuple[Path, str]) -> Path:
    """The session's LAB_HOME; it holds the converted weights and nothing else."""
    return first_load[0]


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
