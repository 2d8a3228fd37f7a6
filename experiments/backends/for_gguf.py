"""Language models as GGUF files: gguf/<file in LAB_HOME/models>, or gguf/<absolute path>; converted to plain numbers once."""

from __future__ import annotations

from collections.abc import Callable

from experiments.backends import weights
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.transformers_lm import TransformersModel, token_counter

ENGINE = ("torch", "transformers", "gguf")


def here() -> list[str]:
    return sorted(f"gguf/{path.name}" for path in weights.gguf_folder().glob("*.gguf"))


def lacks() -> tuple[str, str]:
    return weights.lacks(ENGINE)


def digest(name: str) -> str:
    return weights.digest(name)


def counter(name: str) -> tuple[Callable[[str], int], int]:
    return token_counter(name)


def load(name: str, adapter: bytes | None, quantized: bool) -> TransformersModel:
    return TransformersModel(name, adapter, quantized)


def trainer(name: str, quantized: bool) -> PeftTrainer:
    return PeftTrainer(name, quantized)
