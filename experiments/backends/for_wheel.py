"""Language models that come inside a Python package: names without a prefix, such as smollm2-135m."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from experiments.backends import weights
from experiments.backends.catalog import LANGUAGE_MODELS
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.transformers_lm import TransformersModel, token_counter

ENGINE = ("torch", "transformers", "gguf")


def here() -> list[str]:
    return [name for name, (package, _, _) in LANGUAGE_MODELS.items() if find_spec(package) is not None]


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
