"""Text embeddings, each distinct text once: all-MiniLM-L6-v2 by numpy, all others through sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import LabError
from experiments.backends.bert_encoder import WINDOW_TOKENS, BertEncoder, BertTokenizer
from experiments.backends.catalog import EMBEDDERS, embedder_folder, hub_name
from experiments.backends.placement import exact_float32
from experiments.backends.protocols import Embedded, Embeddings, Reading, Unavailable, embed_distinct
from experiments.backends.quiet import quiet


def _encoder(name: str) -> Any:
    folder = embedder_folder(name)
    if name in EMBEDDERS and folder:
        return BertEncoder(folder)
    exact_float32()
    from sentence_transformers import SentenceTransformer

    with quiet():
        return SentenceTransformer(str(folder) if folder else hub_name(name), device="cpu")


class SentenceEmbedder:
    """One embedding model on this host.

    Raises:
        Unavailable: its library is missing, or the model does not load on this host.
        LabError: the name is no model name, or its package has no weights.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self.model: Any = _encoder(name)
        except LabError:
            raise
        except ImportError as error:
            raise Unavailable(f"{error}; install it: pip install '.[weak]'") from error
        except Exception as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
            install = f"; install it: {EMBEDDERS[name].install}" if name in EMBEDDERS else ""
            raise Unavailable(f"embedder {name!r} cannot be loaded on this host: {why}{install}") from error
        self.model.encode(["warm up"], show_progress_bar=False)
        self._known: dict[str, Embedded] = {}

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return embed_distinct(texts, self._known, self._embed)

    def _embed(self, text: str) -> NDArray[np.float64]:
        vector = self.model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0]
        return np.asarray(vector, dtype=np.float64)

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        tokenizer = self.model.tokenizer
        if isinstance(tokenizer, BertTokenizer):
            known = map(tokenizer.tokens, texts)
            return [Reading(len(ids), WINDOW_TOKENS, unknown) for ids, unknown in known]
        limit = self.model.max_seq_length
        if limit is None or not hasattr(tokenizer, "unk_token_id"):
            return []  # a model without a transformer, which has no window
        with quiet():  # transformers warns of each text that is longer than the window
            return [reading(tokenizer(text).input_ids, int(limit), tokenizer.unk_token_id) for text in texts]


def reading(tokens: Sequence[int], limit: int, unknown: int | None) -> Reading:
    """Return what is read of a text with these tokens, of which `unknown` is the one for all unknown words."""
    return Reading(len(tokens), limit, sum(token == unknown for token in tokens))
