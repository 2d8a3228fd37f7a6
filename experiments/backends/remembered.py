"""Language models that answer a question once: asked again, they give what they gave, at no cost.

Specifications of one study (experiments.protocol.specifications) ask mostly the same: another calibration, or another order
of the memory, sends prompts that were sent before. An answer depends on the model, the adapter, the precision and the
question alone, so none is changed by being kept; times and tokens are those of the first asking.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.backends.embedding_cache import CachedBackends
from experiments.backends.protocols import LanguageModel, Reply, Scores, TextLoss
from experiments.contract import Trial
from experiments.precision import Precision

if TYPE_CHECKING:
    from experiments.backends.lora import Training


@dataclass
class Answers:
    """The answers of a model so far."""

    scores: dict[tuple[str, tuple[str, ...]], Scores] = field(default_factory=dict)  # by prompt and options
    replies: dict[str, list[Reply]] = field(default_factory=dict)  # by the hash of all arguments


class RememberedModel:
    """A language model with its answers so far."""

    def __init__(self, model: LanguageModel, known: Answers) -> None:
        self.model, self.known = model, known
        self.name, self.window, self.scores = model.name, model.window, model.scores

    def __getattr__(self, name: str) -> Any:
        """Return what the model has beyond LanguageModel: hidden states, which are not kept."""
        return getattr(self.model, name)

    def describe(self) -> dict[str, str]:
        return self.model.describe()

    def digest(self) -> str:
        return self.model.digest()

    def count_tokens(self, text: str) -> int:
        return self.model.count_tokens(text)

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        """Return the log-probabilities of the options, from the first time that they were asked for."""
        key = (prompt, tuple(options))
        if key not in self.known.scores:
            self.known.scores[key] = self.model.score(prompt, options)
        return self.known.scores[key]

    def generate(self, prompts: Sequence[str], max_new_tokens: int, **how: Any) -> list[Reply]:
        """Return the replies to these prompts together; LanguageModel.generate has the arguments."""
        key = _key([prompts, max_new_tokens, how])
        if key not in self.known.replies:
            self.known.replies[key] = self.model.generate(prompts, max_new_tokens, **how)
        return self.known.replies[key]

    def negative_log_likelihood(self, text: str) -> TextLoss:
        return self.model.negative_log_likelihood(text)


class RememberingBackends(CachedBackends):
    """Backends whose language models answer a question once, and which train an adapter once on the same examples."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        super().__init__(fetch)
        self._answers: dict[tuple[str, str, str], Answers] = {}  # by name, adapter and precision
        self._tuned: dict[str, Training] = {}

    def language_model(self, name: str, adapter: str = "", precision: Precision = Precision.FLOAT32) -> LanguageModel:
        key = (name, adapter, precision.value)
        known = self.models.get(key)
        if isinstance(known, RememberedModel):
            return known
        model = super().language_model(name, adapter, precision)
        self.models[key] = RememberedModel(model, self._answers.setdefault(key, Answers()))
        return self.models[key]

    def train(self, *asked: Any, **how: Any) -> Training:
        """Train a LoRA adapter, once on the same examples; Backends.train has the arguments."""
        key = _key([asked, how])
        if key not in self._tuned:
            self._tuned[key] = super().train(*asked, **how)
        return self._tuned[key]

    def remember(self, name: str, precision: Precision, trials: Iterable[Trial], options: Sequence[str]) -> int:
        """Keep the log-probabilities of stored trials as answers of a model without an adapter; return how many.

        Args:
            trials: of units computed in this precision with this model; those without a prompt, or of several prompts, are
                left out.
            options: as they were scored, in that order.
        """
        known = self._answers.setdefault((name, "", precision.value), Answers()).scores
        before = len(known)
        for t in trials:
            if "calibrated" in t.details or not {"prompt", "logprobs"} <= t.details.keys():
                continue
            scores = Scores(tuple(t.details["logprobs"]), t.tokens_in or 0, t.tokens_out or 0, t.latency_s or 0.0)
            known.setdefault((t.details["prompt"], tuple(options)), scores)
        return len(known) - before


def _key(asked: Any) -> str:
    # Settings of a training are a pydantic model.
    text = json.dumps(asked, sort_keys=True, default=lambda settings: settings.model_dump())
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
