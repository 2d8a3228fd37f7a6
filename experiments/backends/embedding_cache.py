"""Cache text embeddings in LAB_HOME by the digests of embedder and text, for later processes of this host.

Without it each shard of E1 and E2 embeds the whole memory again: 1,500 texts, a minute. A cached vector is bit for bit what
this host computed with the same weights, packages and code, so no result depends on the cache. Times do, so phases that
measure how long embedding takes do without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.environment import lab_home, package_versions
from common.files import file_sha256
from experiments.backends.catalog import (
    UNAVAILABLE,
    digest_of,
    embedder_folder,
    folder_digest,
    is_language_model,
    layer_of,
)
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Embedded, Embedder, Embeddings, Reading, stacked

log = logging.getLogger(__name__)

FILE = "embeddings.sqlite"
TIMED = ("p1", "e0")  # phases whose trials hold embedding times: a time of another day must not decide
WAIT_S = 30.0  # for another process that writes; a write takes milliseconds
DECIDING = ("*.safetensors", "**/*.json", "**/*.txt")  # of an embedder's folder: weights, tokenizer, pooling
PACKAGES = (
    "numpy",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)  # other versions may round otherwise
UNIT_LENGTH = 1e-3  # a vector whose length is further from 1 was damaged on the disk

TABLE = """CREATE TABLE IF NOT EXISTS embeddings (
    embedder TEXT, text TEXT, vector BLOB, latency_s REAL, PRIMARY KEY (embedder, text)) WITHOUT ROWID"""


def backends_for(phase: str, backends: Backends) -> Backends:
    """Return `backends` with cached embeddings, unless the phase measures their time."""
    if phase in TIMED:
        return backends
    return CachedBackends(backends.fetch)


class CachedBackends(Backends):
    """Backends whose text embedders read the cache first."""

    def embedder(self, name: str) -> Embedder:
        if name not in self.embedders and not is_language_model(name) and (key := key_of(name)):
            self.embedders[name] = CachedEmbedder(name, key, partial(self._embedder, name))
        return super().embedder(name)


class CachedEmbedder:
    """A text embedder that computes only what is not in this host's cache."""

    def __init__(self, name: str, key: str, load: Callable[[], Embedder]) -> None:
        self.name = name
        self.loaded: Embedder | None = None  # the model, once a text was new
        self._key, self._load = key, load
        self._known: dict[str, Embedded] = {}

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of `texts`. Raises Unavailable when a text is new and the model does not load."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= load(self._key, new)
            if left := [text for text in new if text not in self._known]:
                self.loaded = self.loaded or self._load()
                found = dict(zip(left, map(Embedded, *self.loaded.embed(left)), strict=True))
                self._known |= found
                save(self._key, found)
        return stacked([self._known[text] for text in texts])

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        """Return what is read of each text. Raises Unavailable when the model does not load."""
        self.loaded = self.loaded or self._load()
        return self.loaded.reads(texts)


def key_of(name: str) -> str:
    """Return the SHA-256 of all that decides an embedder's vectors on this host, "" if it is not here: loading says why."""
    versions = {name: version for name, version in package_versions().items() if name in PACKAGES}
    if layer := layer_of(name):
        weights, modules = digest_of(name), ("hidden_states", "transformers_lm")
        deciding = [] if weights == UNAVAILABLE else [weights, layer.number]
    else:
        folder, modules = embedder_folder(name), ("sentence_embedder", "bert_encoder")
        deciding = [folder_digest(folder, DECIDING)] if folder else []
    code = [file_sha256(Path(__file__).with_name(f"{module}.py")) for module in modules]
    return text_sha256(json.dumps([*deciding, versions, code], sort_keys=True)) if deciding else ""


def text_sha256(text: str) -> str:
    """Return the hex SHA-256 of a text, which may hold half a surrogate pair."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _open() -> sqlite3.Connection:
    lab_home().mkdir(parents=True, exist_ok=True)
    con = sqlite3.connect(lab_home() / FILE, timeout=WAIT_S)
    con.execute(TABLE)
    return con


def load(key: str, texts: Iterable[str]) -> dict[str, Embedded]:
    """Return the cached vectors of `texts`, {} when the file cannot be read: that costs time and nothing else.

    Args:
        key: of the embedder (key_of).
    """
    found = {}
    try:
        with closing(_open()) as con:
            for text in texts:
                row = con.execute(
                    "SELECT vector, latency_s FROM embeddings WHERE embedder = ? AND text = ?", (key, text_sha256(text))
                ).fetchone()
                if row is not None and (vector := _vector(row[0])) is not None:
                    found[text] = Embedded(vector, float(row[1]))
    except (sqlite3.Error, OSError) as error:
        log.warning("cannot read %s, so embeddings are computed again: %s", lab_home() / FILE, error)
    return found


def _vector(blob: bytes) -> NDArray[np.float64] | None:
    vector = np.frombuffer(blob, dtype="<f8") if len(blob) % 8 == 0 else np.zeros(0)
    return vector.astype(np.float64) if abs(float(np.linalg.norm(vector)) - 1) <= UNIT_LENGTH else None


def save(key: str, found: dict[str, Embedded]) -> None:
    """Add vectors to the cache in one transaction; log a warning when that fails."""
    rows = [(key, text_sha256(t), e.vector.astype("<f8").tobytes(), e.seconds) for t, e in found.items()]
    try:
        with closing(_open()) as con, con:
            con.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)
    except (sqlite3.Error, OSError) as error:
        log.warning("cannot write embeddings to %s: %s", lab_home() / FILE, error)
