"""What an embedder reads of texts, as the details of their trials have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.backends.protocols import Embedder
from experiments.contract import Json


def readings_of(embedder: Embedder, texts: Sequence[str], vectors: NDArray[np.float64]) -> list[Json]:
    """Return for each text its tokens, those that are read, the unknown ones, and whether another text has its vector."""
    told = [r._asdict() for r in embedder.reads(texts)] or [{"tokens": None, "limit": None, "unknown": None}] * len(
        texts
    )
    _, of = np.unique(np.round(vectors, 9), axis=0, return_inverse=True)
    of = of.ravel()
    texts_of: dict[int, set[str]] = {}
    for group, text in zip(of, texts, strict=True):
        texts_of.setdefault(int(group), set()).add(text)
    return [{**one, "twin": len(texts_of[int(group)]) > 1} for one, group in zip(told, of, strict=True)]
