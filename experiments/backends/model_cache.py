"""Hand out models to phases, and reuse them between the units of one process."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

from common.errors import LabError
from common.system_errors import of_machine
from experiments.backends.protocols import Embedder, LanguageModel, Unavailable
from experiments.contract import Attachment, Trainer
from experiments.precision import Precision

if TYPE_CHECKING:
    from experiments.backends.lora import LoraSettings, Training


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Raise Unavailable, in one line, for whatever a library raises where a model cannot be loaded, used or trained.

    What the machine lacks stays what it is, so that another machine is asked.
    """
    try:
        yield
    except (Unavailable, LabError):
        raise
    except Exception as error:
        if of_machine(error):
            raise
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "") or "no reason given"
        raise Unavailable(f"model {name!r} cannot be used: {type(error).__name__}: {why[:200]}") from error


def _tried(model: LanguageModel) -> LanguageModel:
    """Return the model after one small question: some architectures load, and fail where their cache is shared."""
    if model.scores and not all(map(math.isfinite, model.score("1 + 1 =", [" 2", " 3"]).logprobs)):
        raise ValueError("it gives answers no probability: its weights or its tokenizer are damaged")
    return model


@dataclass
class Backends:
    """Hands out models to a phase's run() and reuses them between units of one process.

    Args:
        fetch: returns the content of a file by its SHA-256 (an adapter that an earlier unit left).
    """

    fetch: Callable[[str], bytes]
    embedders: dict[str, Embedder] = field(default_factory=dict)  # by name
    models: dict[tuple[str, str, str], LanguageModel] = field(default_factory=dict)  # by (name, adapter, precision)
    _attachments: list[Attachment] = field(default_factory=list)

    def embedder(self, name: str) -> Embedder:
        """Return the text embedder called `name`. Raises Unavailable."""
        if name not in self.embedders:
            self.embedders[name] = self._embedder(name)
        return self.embedders[name]

    def _embedder(self, name: str) -> Embedder:
        from experiments.backends.catalog import STATES, is_language_model, layer_of
        from experiments.backends.hidden_states import HiddenStates
        from experiments.backends.sentence_embedder import SentenceEmbedder

        if layer := layer_of(name):
            try:
                model = self.language_model(layer.model, precision=STATES)
            except LabError as error:
                raise Unavailable(f"embedder {name!r} cannot be loaded on this host: {error}") from error
            return HiddenStates(name, layer, model)
        if not is_language_model(name):
            return SentenceEmbedder(name)
        # Ollama embeds with the model that it is asked for; models of the other engines embed by a layer (layer_of).
        found: Any = self.language_model(name, precision=Precision.STORED)
        if not hasattr(found, "embed"):
            raise Unavailable(f"{name!r} is no embedder")
        return cast("Embedder", found)

    def language_model(self, name: str, adapter: str = "", precision: Precision = Precision.FLOAT32) -> LanguageModel:
        """Return the model called `name`, tuned by the adapter with SHA-256 `adapter` if given. Raises Unavailable."""
        key = (name, adapter, precision.value)
        if key not in self.models:
            from experiments.backends.catalog import backend

            # At most one tuned model at a time stands beside the base: 0.5 GB each at 135M parameters in float32.
            for other in [k for k in self.models if k[1]]:
                del self.models[other]
            content = self.fetch(adapter) if adapter else None
            with loading(name):
                self.models[key] = _tried(backend(name).load(name, content, precision))
        return self.models[key]

    def train(
        self,
        name: str,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
        precision: Precision = Precision.FLOAT32,
        trainer: Trainer = "peft",
    ) -> Training:
        """Train a LoRA adapter for model `name`; arguments as of LoraTrainer.train. Raises Unavailable."""
        from experiments.backends.catalog import backend

        with loading(name):
            return backend(name).trainer(name, precision, trainer).train(examples, validation, settings, seed)

    def attach(self, name: str, content: bytes) -> str:
        """Leave a file beside the unit's trials and return its SHA-256, by which later units fetch it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._attachments.append(Attachment(name, sha256, content))
        return sha256

    def take_attachments(self) -> list[Attachment]:
        """Return the files that the unit left, once."""
        taken, self._attachments = self._attachments, []
        return taken


def no_files(sha256: str) -> NoReturn:
    """Raise Unavailable: the `fetch` of work that needs no earlier files."""
    raise Unavailable(f"no file store to fetch {sha256} from")
