"""Text embeddings by a language model: the mean of the hidden states of one layer over the text's tokens.

The name of such an embedder is lm:<language model>@<layer>, as lm:smollm2-135m@20. Models of transformers have these states;
those of Ollama and MLX do not give them away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.backends.catalog import Layer
from experiments.backends.protocols import Embedded, Embeddings, Reading, Unavailable, embed_distinct
from experiments.backends.quiet import quiet
from experiments.backends.sentence_embedder import reading


class HiddenStates:
    """One layer of a loaded language model as a text embedder.

    Raises:
        Unavailable: the model's engine gives no hidden states, or the model has fewer layers.
    """

    def __init__(self, name: str, layer: Layer, model: Any) -> None:
        self.name = name
        if not hasattr(model, "states"):
            raise Unavailable(
                f"{name!r} is no embedder: {layer.model} gives no hidden states, a model of transformers does"
            )
        if layer.number > model.layers:
            raise Unavailable(f"{name!r} is no embedder: {layer.model} has {model.layers} layers")
        self._model, self._layer = model, layer.number
        self._known: dict[str, Embedded] = {}

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return embed_distinct(texts, self._known, self._embed)

    def _embed(self, text: str) -> NDArray[np.float64]:
        mean = self._model.states(text, self._layer).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        tokenizer = self._model.tokenizer
        with quiet():  # transformers warns of each text that is longer than the window
            return [reading(tokenizer(text).input_ids, self._model.window, tokenizer.unk_token_id) for text in texts]
