"""Language models through transformers and peft: packaged ones, hf/<repository or path>, gguf/<file or path>.

A name without a prefix is a model that comes inside a Python package, such as smollm2-135m. hf/ takes a repository in the
hub's local cache or an absolute path; gguf/ takes a file in LAB_HOME/models or an absolute path.
"""

from __future__ import annotations

from importlib.util import find_spec

from common.environment import releases_of
from common.errors import LabError
from experiments.backends import placement, weights
from experiments.backends.catalog import LANGUAGE_MODELS, cached_repositories
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.protocols import Missing
from experiments.backends.transformers_lm import TransformersModel, token_counter
from experiments.contract import Trainer
from experiments.precision import QUANTISED, Precision

ENGINE = "transformers"

digest = weights.digest
check_chat = weights.check_chat
counter = token_counter
load = TransformersModel


def missing(prefix: str) -> Missing | None:
    return weights.missing_packages(("torch", "transformers") if prefix == "hf" else ("torch", "transformers", "gguf"))


def local_models() -> list[str]:
    packaged = [name for name, package in LANGUAGE_MODELS.items() if find_spec(package.module) is not None]
    files = sorted(f"gguf/{path.name}" for path in weights.gguf_folder().glob("*.gguf"))
    folders = [f"hf/{repository}" for repository in cached_repositories()]
    return [*([] if missing("gguf") else [*packaged, *files]), *([] if missing("hf") else folders)]


def versions(precision: Precision) -> dict[str, str]:
    return releases_of(("torch", "transformers", *([placement.QUANTISER] if precision in QUANTISED else [])))


def precisions(name: str) -> tuple[Precision, ...]:
    return Precision.FLOAT32, Precision.BFLOAT16, *QUANTISED


def refusal(name: str, precision: Precision) -> str:
    if missing(name.partition("/")[0]):
        return ""  # loading says so
    device = placement.local_device()
    return placement.refusal(name, weights.size(name), precision, placement.memory_gb(device))


def trainer(name: str, precision: Precision, trainer: Trainer) -> PeftTrainer:
    if trainer != "peft":
        raise LabError(f"{trainer} cannot train {name!r}", "--set trainer=peft, or name the model mlx/...")
    return PeftTrainer(name, precision)
