"""Language models through mlx-lm: mlx/<packaged model>, mlx/<repository in the hub's local cache>, mlx/<absolute path>.

LoRA goes through MLX unless the plan says peft, which is faster where MLX's own matrix products are slow: its wheel for Linux.
"""

from __future__ import annotations

from importlib.util import find_spec

from common.environment import releases_of
from common.errors import LabError
from experiments.backends import placement, weights
from experiments.backends.catalog import LANGUAGE_MODELS, cached_repositories
from experiments.backends.mlx_lm_engine import INSTALL, MlxModel, is_quantised
from experiments.backends.mlx_trainer import MlxTrainer
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.protocols import LoraTrainer, Missing, Unavailable
from experiments.backends.transformers_lm import token_counter
from experiments.contract import Trainer
from experiments.precision import QUANTISED, Precision

ENGINE = "mlx"
digest = weights.digest
check_chat = weights.check_chat
counter = token_counter
load = MlxModel


def missing(prefix: str) -> Missing | None:
    return None if find_spec("mlx_lm") and find_spec("mlx") else Missing("mlx-lm", INSTALL)


def local_models() -> list[str]:
    if missing("mlx"):
        return []
    packaged = [name for name, package in LANGUAGE_MODELS.items() if find_spec(package.module) is not None]
    return [f"mlx/{name}" for name in (*packaged, *cached_repositories())]


def versions(precision: Precision) -> dict[str, str]:
    return releases_of(("mlx", "mlx-lm"))


def precisions(name: str) -> tuple[Precision, ...]:
    if is_quantised(name):
        return (Precision.STORED,)
    return Precision.FLOAT32, Precision.BFLOAT16, *QUANTISED


def refusal(name: str, precision: Precision) -> str:
    if precision is Precision.STORED or missing("mlx"):
        return ""  # loading says what is missing
    return placement.refusal(name, weights.size(name), precision, placement.memory_gb("cpu"))


def trainer(name: str, precision: Precision, trainer: Trainer) -> LoraTrainer:
    if trainer == "peft":
        if precision is Precision.STORED:
            raise LabError(f"peft cannot train {name!r}, whose weights MLX quantised", "--set trainer=mlx")
        return PeftTrainer(name, precision)
    if missing("mlx"):
        raise Unavailable(f"mlx-lm is not installed; install it: {INSTALL}")
    return MlxTrainer(name, precision)
