"""A BERT sentence encoder through transformers alone: mean of the token vectors, length 1.

sentence-transformers gives the same bits for this kind of model; importing it takes 8.7 s of processor time, 2.8 s this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_TOKENS = 256  # max_seq_length of all-MiniLM-L6-v2's sentence_bert_config.json
SMALLEST_WEIGHT = 1e-9  # tokens; sentence-transformers' bound against division by zero


def tokenizer_of(folder: Path) -> Any:
    """Return the tokenizer of the model in a folder, without its weights."""
    from transformers import BertTokenizerFast
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns of each text that is longer than the window
    return BertTokenizerFast.from_pretrained(str(folder))


class BertEncoder:
    """The BERT model of a folder, with `encode`, `tokenizer` and `max_seq_length` of a SentenceTransformer."""

    def __init__(self, folder: Path) -> None:
        import torch  # noqa: F401 - before transformers, which goes on without it
        from transformers import BertModel

        self.tokenizer: Any = tokenizer_of(folder)
        self.max_seq_length = WINDOW_TOKENS
        self._model: Any = BertModel.from_pretrained(str(folder), add_pooling_layer=False).eval()

    def encode(self, texts: Sequence[str], **_: Any) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, width); keyword arguments of SentenceTransformer.encode change nothing."""
        import torch

        with torch.inference_mode():
            tokens = self.tokenizer(
                list(texts), padding=True, truncation=True, max_length=WINDOW_TOKENS, return_tensors="pt"
            )
            states = self._model(**tokens).last_hidden_state
            weights = tokens["attention_mask"].unsqueeze(-1).expand(states.size()).to(states.dtype)
            means = torch.sum(states * weights, 1) / torch.clamp(weights.sum(1), min=SMALLEST_WEIGHT)
            # Twice, as the model's own last module and normalize_embeddings do: the second changes last bits.
            unit = torch.nn.functional.normalize(torch.nn.functional.normalize(means, p=2, dim=1), p=2, dim=1)
        return np.asarray(unit.numpy())
