"""Text embeddings kept in LAB_HOME by the digests of embedder and text, so that a process begins with what others computed.

Before, each shard of E1 and E2 embedded the whole memory again: 1,500 texts, a minute. What comes back is bit for bit what
this host computed with the same weights, packages and code, so no result depends on it; only a clock does, so phases that
measure how long embedding takes do without. A text that is new is computed as ever; its model is loaded for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.environment import lab_home, package_versions
from experiments.backends import sentence_embedder
from experiments.backends.catalog import embedder_folder, file_digest, folder_digest, is_language_model
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Embedder

log = logging.getLogger(__name__)

FILE = "embeddings.sqlite"
TIMED = ("p1", "e0")  # phases whose trials hold embedding times: a time of another day must not decide
WAIT_S = 30.0  # for another process that writes; a write takes milliseconds
DECIDING = ("*.safetensors", "**/*.json", "**/*.txt")  # of an embedder's folder: weights, tokenizer, pooling
PACKAGES = ("numpy", "sentence-transformers", "torch", "transformers")  # of which another version may round otherwise
UNIT_LENGTH = 1e-3  # a vector whose length is further from 1 was damaged on the disk
Known = dict[str, tuple[NDArray[np.float64], float]]  # by text: vector, seconds that it took

TABLE = """CREATE TABLE IF NOT EXISTS embeddings (
    embedder TEXT, text TEXT, vector BLOB, latency_s REAL, PRIMARY KEY (embedder, text)) WITHOUT ROWID"""


def backends_for(phase: str, backends: Backends) -> Backends:
    """`backends` of a phase with embeddings that outlive the process, unless it measures their time."""
    if phase in TIMED:
        return backends
    return RememberingBackends(backends.fetch, quantized=backends.quantized)


class RememberingBackends(Backends):
    """Backends whose text embedders look into LAB_HOME first."""

    def embedder(self, name: str) -> Embedder:
        """As of Backends."""
        if name not in self._embedders and not is_language_model(name):
            folder = embedder_folder(name)
            if folder is not None:  # else it is loaded, and says why it is not here
                self._embedders[name] = RememberingEmbedder(name, folder)
        return super().embedder(name)


class RememberingEmbedder:
    """A text embedder that computes what this host has not computed before."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._key = key_of(folder)
        self._loaded: Embedder | None = None
        self._known: Known = {}

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        """As of Embedder. Raises Unavailable when a text is new and the model does not load here."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= stored(self._key, new)
            if left := [text for text in new if text not in self._known]:
                self._loaded = self._loaded or sentence_embedder.SentenceEmbedder(self.name)
                vectors, seconds = self._loaded.embed(left)
                found = dict(zip(left, zip(vectors, seconds, strict=True), strict=True))
                self._known |= found
                store(self._key, found)
        return np.stack([self._known[t][0] for t in texts]), [self._known[t][1] for t in texts]


def key_of(folder: Path) -> str:
    """SHA-256 of all that decides an embedder's vectors on this host."""
    versions = {name: version for name, version in package_versions().items() if name in PACKAGES}
    code = file_digest(Path(sentence_embedder.__file__))
    return digest_of_text(json.dumps([folder_digest(folder, DECIDING), versions, code], sort_keys=True))


def digest_of_text(text: str) -> str:
    """SHA-256 of a text; half a surrogate pair is a text like another."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _open() -> sqlite3.Connection:
    lab_home().mkdir(parents=True, exist_ok=True)
    con = sqlite3.connect(lab_home() / FILE, timeout=WAIT_S)
    con.execute(TABLE)
    return con


def stored(key: str, texts: Iterable[str]) -> Known:
    """Those of `texts` that were kept; {} when the file cannot be read, which costs time and nothing else."""
    found: Known = {}
    try:
        with closing(_open()) as con:
            for text in texts:
                row = con.execute(
                    "SELECT vector, latency_s FROM embeddings WHERE embedder = ? AND text = ?",
                    (key, digest_of_text(text)),
                ).fetchone()
                if row is not None and (vector := _vector(row[0])) is not None:
                    found[text] = vector, float(row[1])
    except (sqlite3.Error, OSError) as error:
        log.warning("embeddings are computed anew, %s cannot be read: %s", lab_home() / FILE, error)
    return found


def _vector(blob: bytes) -> NDArray[np.float64] | None:
    vector = np.frombuffer(blob, dtype="<f8") if len(blob) % 8 == 0 else np.zeros(0)
    return vector.astype(np.float64) if abs(float(np.linalg.norm(vector)) - 1) <= UNIT_LENGTH else None


def store(key: str, found: Known) -> None:
    """Keep vectors; one transaction, so that another process sees all or none. What cannot be kept is told and left."""
    rows = [(key, digest_of_text(t), vector.astype("<f8").tobytes(), s) for t, (vector, s) in found.items()]
    try:
        with closing(_open()) as con, con:
            con.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)
    except (sqlite3.Error, OSError) as error:
        log.warning("embeddings are not kept in %s: %s", lab_home() / FILE, error)
