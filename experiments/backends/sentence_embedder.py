"""Text embeddings through sentence-transformers, each distinct text once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.backends.catalog import EMBEDDERS, embedder_folder, hub_name
from experiments.backends.protocols import Unavailable
from experiments.backends.quiet import quiet


class SentenceEmbedder:
    """One sentence-transformers model on this host.

    Raises:
        Unavailable: sentence-transformers is missing, or the model does not load here.
        LabError: the name is no model name, or its package has no weights.
    """

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise Unavailable(f"{error}; install it: pip install '.[weak]'") from error
        self.name = name
        folder = embedder_folder(name)
        try:
            with quiet():
                self._model: Any = SentenceTransformer(str(folder) if folder else hub_name(name), device="cpu")
        except Exception as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
            install = f"; install it: {EMBEDDERS[name][2]}" if name in EMBEDDERS else ""
            raise Unavailable(f"embedder {name!r} cannot be loaded here: {why}{install}") from error
        self._model.encode(["warm up"], show_progress_bar=False)
        self._known: dict[str, tuple[NDArray[np.float64], float]] = {}

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        for text in texts:
            if text not in self._known:
                started = time.perf_counter()
                # One text at a time: no gain from batching on two cores (measured), and no result depends on its neighbours.
                vector = self._model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0]
                self._known[text] = (np.asarray(vector, dtype=np.float64), time.perf_counter() - started)
        return np.stack([self._known[t][0] for t in texts]), [self._known[t][1] for t in texts]
