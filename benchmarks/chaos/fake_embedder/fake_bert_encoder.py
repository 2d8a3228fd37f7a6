"""FakeEmbedder in place of experiments.backends.bert_encoder."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import FakeEmbedder

WINDOW_TOKENS = 256


class BertTokenizer:
    """None: a FakeEmbedder reads no tokens."""

    def __init__(self, folder: Path) -> None:
        raise ImportError("fake embedders count no tokens")


class BertEncoder(FakeEmbedder):
    """A FakeEmbedder of the packaged embedder's weights."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), device="cpu")
