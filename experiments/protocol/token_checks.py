"""Count the tokens of texts before a run: those that the language model and the embedder will read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from common.errors import LabError
from experiments.backends.bert_encoder import WINDOW_TOKENS, BertTokenizer
from experiments.backends.catalog import backend, embedder_folder
from experiments.backends.protocols import Unavailable
from experiments.protocol.defects import DEFECTS

PROMPT_TOKENS = 256  # of the context window for instruction, labels and answer
MEMO_TOKENS = 24  # of a memo beside its text: noun, lead and answer
SHORT = 200  # characters of a plain text that need not be counted: no token is shorter than one
SHOWN = 5  # memos of P2, E1 and E2 unless told otherwise


@dataclass
class Counted:
    """What was counted of the texts of a file. Tokenizers are loaded for the first text that must be counted."""

    model: str
    embedder: str
    count: Callable[[str], int] | None = None  # tokens of the model
    window: int = 0
    tokenizer: Any = None  # of the embedder
    loaded: bool = False
    missing: list[str] = field(default_factory=list)  # what cannot be counted here, and why
    sizes: list[int] = field(default_factory=list)  # tokens of each text
    cut: int = 0
    read: int = 0
    tokens: int = 0
    unknown: int = 0
    heads: dict[bytes, int] = field(default_factory=dict)  # of what the embedder reads: how many texts have it

    def too_long(self, text: str) -> str:
        """Count one text; return why it is too long for the model, "" if it fits."""
        if text.isascii() and len(text) <= SHORT:
            self.read += 1
            self.tokens += len(text) // 3
            self.sizes.append(len(text) // 3)
            return ""
        if not self.loaded:
            self.load(required=False)
        self._embedded(text)
        if self.count is None:
            return ""
        most, tokens = self.window - PROMPT_TOKENS, self.count(text)
        if tokens > most:
            return f"{tokens:,} tokens, more than the {most:,} that fit in a prompt of {self.model}"
        self.sizes.append(tokens)
        return ""

    def load(self, required: bool) -> None:
        """Load the tokenizers.

        Args:
            required: raise where the model is not here, instead of a note.

        Raises:
            LabError: the model is unknown, not on this machine or its library is missing.
        """
        self.loaded = True
        try:
            self.count, self.window = backend(self.model).counter(self.model)
        except (LabError, Unavailable) as error:
            if required and isinstance(error, LabError):
                raise
            if required:
                raise LabError(f"model {self.model!r} cannot be loaded: {error}", "lab doctor") from None
            self.missing.append(f"tokens of {self.model} are not counted: {str(error).splitlines()[0]}")
        try:
            folder = embedder_folder(self.embedder)
            if folder is None:
                raise Unavailable(f"{self.embedder} is not on this machine")
            self.tokenizer = BertTokenizer(folder)
        except (ImportError, Unavailable, LabError) as error:
            self.missing.append(f"tokens of {self.embedder} are not counted: {str(error).splitlines()[0]}")

    def _embedded(self, text: str) -> None:
        if self.tokenizer is None:
            return
        ids, unknown = self.tokenizer.tokens(text)
        self.read += 1
        self.tokens += len(ids)
        self.cut += len(ids) > WINDOW_TOKENS
        self.unknown += unknown
        # The last one of what is read is the end mark.
        head = hashlib.blake2b(repr(ids[: WINDOW_TOKENS - 1]).encode(), digest_size=8).digest()
        self.heads[head] = self.heads.get(head, 0) + 1

    def notes(self) -> list[str]:
        """Return what a verdict on these texts will name."""
        found = list(self.missing)
        equal = sum(n for n in self.heads.values() if n > 1)
        longer = f"texts are longer than the {WINDOW_TOKENS} tokens that {self.embedder} reads"
        same = f"texts are the same to {self.embedder}, so that their vectors will be equal"
        for metric, n, of, what in (
            ("cut_share", self.cut, self.read, longer),
            ("unknown_share", self.unknown, self.tokens, f"tokens are unknown to {self.embedder}"),
            ("equal_vectors_share", equal, self.read, same),
        ):
            if n:
                found.append(f"{n:,} of {of:,} {what}{_undecided(n / of, metric)}")
        mean = sum(self.sizes) / len(self.sizes) if self.sizes else 0.0
        room = (self.window or math.inf) - PROMPT_TOKENS - (SHOWN + 1) * mean - SHOWN * MEMO_TOKENS
        if self.sizes and room < 0:
            fit = max(0, int((self.window - PROMPT_TOKENS - mean) // (mean + MEMO_TOKENS)))
            fewer = f"--set k={fit}" if fit else "shorter texts, or another --set model"
            found.append(
                f"a text has {mean:,.0f} tokens on average, so {fit} of {SHOWN} memos fit beside a problem in a prompt of "
                f"{self.model}: P2, E1 and E2 will lose memos and decide nothing; {fewer}"
            )
        return found


def _undecided(share: float, metric: str) -> str:
    most = DEFECTS[metric].most
    return f": P1 will not take this embedder, and E0 will decide nothing, beyond {most:.0%}" if share > most else ""
