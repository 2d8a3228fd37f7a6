"""FakeEmbedder in place of sentence-transformers, for processes that have this folder on their PYTHONPATH.

It loads no engine and pauses at each text, so that machines start at once and can be killed in the middle of a unit.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 8  # numbers in a vector
PAUSE_S = float(os.environ["FAKE_EMBEDDER_PAUSE_S"])  # a text


class FakeEmbedder:
    """Vectors of length 1 drawn from the hash of the first bytes of the weights and the text; like real ones, all alike a bit."""

    tokenizer = max_seq_length = None  # it reads texts of any length

    def __init__(self, folder: str, device: str) -> None:
        with (Path(folder) / "model.safetensors").open("rb") as weights:
            self._weights = weights.read(64)

    def encode(self, texts: Sequence[str], **_: Any) -> NDArray[np.float64]:
        time.sleep(PAUSE_S * len(texts))
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float64]:
        seed = hashlib.sha256(self._weights + text.encode()).digest()
        drawn = np.random.default_rng(list(seed)).normal(1.0, size=WIDTH)
        return np.asarray(drawn / np.linalg.norm(drawn), dtype=np.float64)


SentenceTransformer = FakeEmbedder  # the name that the project asks for
