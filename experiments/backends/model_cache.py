"""The small protocols that phases call models through, and the object that hands them out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.backends.protocols import Embedder, LanguageModel, Unavailable
from experiments.contract import Attachment

if TYPE_CHECKING:
    from experiments.backends.lora import LoraSettings, Training


@dataclass
class Backends:
    """Hands models to a phase's run() and keeps them between units of one process."""

    fetch: Callable[[str], bytes]  # content of a file by its SHA-256 (an adapter left by an earlier unit)
    _embedders: dict[str, Embedder] = field(default_factory=dict)
    _models: dict[tuple[str, str], LanguageModel] = field(default_factory=dict)
    _attachments: list[Attachment] = field(default_factory=list)
    quantized: bool = False  # on a host for quantised models: 8-bit or 4-bit where the engine can

    def embedder(self, name: str) -> Embedder:
        """The text embedder called `name`. Raises Unavailable."""
        if name not in self._embedders:
            from experiments.backends.catalog import is_language_model
            from experiments.backends.sentence_embedder import SentenceEmbedder

            # A service embeds with the model that it is asked for; models of our own engines do not embed.
            found: Any = self.language_model(name) if is_language_model(name) else SentenceEmbedder(name)
            if not hasattr(found, "embed"):
                raise Unavailable(f"{name!r} is no embedder")
            self._embedders[name] = found
        return self._embedders[name]

    def language_model(self, name: str, adapter: str = "") -> LanguageModel:
        """The model called `name`, tuned by the adapter with SHA-256 `adapter` if given. Raises Unavailable."""
        key = (name, adapter)
        if key not in self._models:
            from experiments.backends.catalog import backend

            # At most one tuned model at a time stands beside the base: 0.5 GB each at 135M parameters in float32.
            for other in [k for k in self._models if k[1]]:
                del self._models[other]
            self._models[key] = backend(name).load(name, self.fetch(adapter) if adapter else None, self.quantized)
        return self._models[key]

    def train(
        self,
        name: str,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
    ) -> Training:
        """A LoRA adapter for model `name` from (prompt, completion) pairs; it is attached to the unit."""
        from experiments.backends.catalog import backend

        return backend(name).trainer(name, self.quantized).train(examples, validation, settings, seed)

    def attach(self, name: str, content: bytes) -> str:
        """Leave a file beside the unit's trials; its SHA-256 is what later units ask for."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._attachments.append(Attachment(name, sha256, content))
        return sha256

    def take_attachments(self) -> list[Attachment]:
        """What the unit left, once."""
        taken, self._attachments = self._attachments, []
        return taken


def no_files(sha256: str) -> Any:
    """A `fetch` for work that needs no earlier files."""
    raise Unavailable(f"no file store here to take {sha256} from")
