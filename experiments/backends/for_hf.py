"""Language models as folders of safetensors: hf/<repository in the hub's local cache>, or hf/<absolute path>."""

from __future__ import annotations

from collections.abc import Callable

from experiments.backends import weights
from experiments.backends.catalog import cached_repositories
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.transformers_lm import TransformersModel, token_counter

ENGINE = ("torch", "transformers")


def here() -> list[str]:
    return [f"hf/{repository}" for repository in cached_repositories()]


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
