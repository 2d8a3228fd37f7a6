"""A BERT sentence encoder in numpy: the mean of the last layer's token vectors, of length 1.

Devlin et al. 2019 (arXiv:1810.04805), sections 3 and A.2, for one text at a time; the mean as in Reimers and Gurevych 2019
(arXiv:1908.10084), section 3. torch and transformers give the same vectors (to 1e-6), and take 4.3 s of processor time and
430 MB of memory to be imported and loaded; here that is 0.3 s and 110 MB, so that a weak machine does P1 without them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WINDOW_TOKENS = 256  # max_seq_length of all-MiniLM-L6-v2's sentence_bert_config.json
EMBEDDED = ("word", "position", "token_type")  # what the vector of a token is the sum of
UNKNOWN = "[UNK]"  # the token of BERT's vocabularies that stands for any unknown word

Array = NDArray[np.float32]


class Tokens(NamedTuple):
    """The tokens of a text, marks of its beginning and end among them."""

    ids: list[int]  # of the whole text, however long
    unknown: int  # how many of them stand for an unknown word


class BertTokenizer:
    """The tokenizer of a model's folder, without its weights."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._whole: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._whole.no_padding()
        self._whole.no_truncation()
        self._read: Tokenizer = Tokenizer.from_str(self._whole.to_str())
        self._read.enable_truncation(WINDOW_TOKENS)
        self._unknown: int = self._whole.get_vocab()[UNKNOWN]

    def tokens(self, text: str) -> Tokens:
        """Return the tokens of a text, which may hold half a surrogate pair."""
        ids = self._whole.encode(_well_formed(text)).ids
        return Tokens(ids, ids.count(self._unknown))

    def read(self, text: str) -> list[int]:
        """Return the tokens that a model reads: at most WINDOW_TOKENS, the mark of the end always among them."""
        return list(self._read.encode(_well_formed(text)).ids)


def _well_formed(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class BertEncoder:
    """The BERT model of a folder, with `encode` of a SentenceTransformer.

    Raises:
        ImportError: tokenizers or safetensors is missing.
        ValueError: the model has another activation than GELU.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open
        from threadpoolctl import ThreadpoolController

        self.tokenizer = BertTokenizer(folder)
        config = json.loads((folder / "config.json").read_bytes())
        if config["hidden_act"] != "gelu":
            raise ValueError(f"activation {config['hidden_act']!r} is not gelu")
        self._heads, self._epsilon = int(config["num_attention_heads"]), np.float32(config["layer_norm_eps"])
        file = folder / "model.safetensors"
        with safe_open(
            file, "np"
        ) as stored:  # it maps the file: what was read of it stays in memory until it is closed
            names = [n for n in stored.keys() if "LayerNorm" in n or n.startswith("encoder.")]  # noqa: SIM118 - no mapping
            self._weights: dict[str, Array] = {name: stored.get_tensor(name) for name in names}
        # Half of the weights are the vectors of 30,522 words; those of a text are read from the file.
        rows: Any = safe_open(file, "np")
        self._words, self._places, self._types = (rows.get_slice(f"embeddings.{n}_embeddings.weight") for n in EMBEDDED)
        self._layers = [f"encoder.layer.{i}." for i in range(int(config["num_hidden_layers"]))]
        self._threads = ThreadpoolController()

    def encode(self, texts: Sequence[str], **_: Any) -> Array:
        """Return unit vectors, shape (texts, width); keyword arguments of SentenceTransformer.encode change nothing."""
        # One thread: products this small gain little from more, and OpenBLAS's threads wait for each other by spinning, which
        # takes ten times the processor time where other programs run (0.05 to 0.5 s a text on two cores).
        with self._threads.limit(limits=1, user_api="blas"):
            return np.stack([self._encode(text) for text in texts])

    def _encode(self, text: str) -> Array:
        ids = self.tokenizer.read(text)
        words = np.concatenate([self._words[i : i + 1] for i in ids])
        x = self._normalised(words + self._types[:1] + self._places[: len(ids)], "embeddings.LayerNorm")
        for layer in self._layers:
            x = self._normalised(x + self._attended(x, layer), f"{layer}attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{layer}intermediate.dense"))
            x = self._normalised(x + self._linear(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm")
        mean = x.mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)

    def _attended(self, x: Array, layer: str) -> Array:
        """Return the output of a layer's heads; Vaswani et al. 2017 (arXiv:1706.03762), equation 1."""
        query, key, value = (
            self._linear(x, f"{layer}attention.self.{n}").reshape(len(x), self._heads, -1).transpose(1, 0, 2)
            for n in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(query.shape[-1]))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return self._linear((scores @ value).transpose(1, 0, 2).reshape(len(x), -1), f"{layer}attention.output.dense")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normalised(self, x: Array, name: str) -> Array:
        """Layer normalisation; Ba et al. 2016 (arXiv:1607.06450), equation 3."""
        x = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self._epsilon)
        return x / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(x: Array) -> Array:
    """x times the normal distribution function of x; Hendrycks and Gimpel 2016 (arXiv:1606.08415), equation 1."""
    from scipy.special import erf

    half: Array = x * np.float32(0.5)
    half *= erf(x * np.float32(np.sqrt(0.5))) + np.float32(1.0)
    return half
