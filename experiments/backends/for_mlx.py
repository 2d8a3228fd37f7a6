"""Language models through mlx-lm: mlx/<packaged model>, mlx/<repository in the hub's local cache>, mlx/<absolute path>.

LoRA goes through MLX where it multiplies at least as fast as torch does, else through peft; the choice is measured and told.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec

from experiments.backends import placing, weights
from experiments.backends.catalog import LANGUAGE_MODELS, cached_repositories
from experiments.backends.mlx_lm_engine import INSTALL, MlxModel, gemm_gflops
from experiments.backends.mlx_trainer import MlxTrainer
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.protocols import LoraTrainer, Unavailable
from experiments.backends.transformers_lm import token_counter

MEASURED = "lora.json"  # {engine: 10^9 operations a second} in LAB_HOME, left by an assessment


def here() -> list[str]:
    if lacks()[0]:
        return []
    packaged = [f"mlx/{name}" for name, (package, _, _) in LANGUAGE_MODELS.items() if find_spec(package) is not None]
    return packaged + [f"mlx/{repository}" for repository in cached_repositories()]


def lacks() -> tuple[str, str]:
    return ("", "") if find_spec("mlx_lm") is not None and find_spec("mlx") is not None else ("mlx-lm", INSTALL)


def digest(name: str) -> str:
    return weights.digest(name)


def counter(name: str) -> tuple[Callable[[str], int], int]:
    return token_counter(name)


def load(name: str, adapter: bytes | None, quantized: bool) -> MlxModel:
    return MlxModel(name, adapter, quantized)


def measure() -> dict[str, float | None]:
    """Measure how fast MLX and torch multiply here and keep it in LAB_HOME, where trainer() looks; a second or two."""
    found: dict[str, float | None] = {"mlx": gemm_gflops(), "torch": None}
    if find_spec("torch") is not None and find_spec("peft") is not None:
        placing.use_real_cores()
        found["torch"] = placing.gemm_gflops(placing.device_here(), "float32", 256)
    placing.keep(MEASURED, found)
    return found


def rates() -> tuple[float, float | None]:
    """(MLX's, torch's) rate of matrix products here, in 10^9 operations a second, as the assessment found it; measured
    now before any. None without torch and peft.
    """
    found = placing.kept(MEASURED)
    if not isinstance(found.get("mlx"), float):
        found = measure()
    return found["mlx"], found.get("torch")


def told() -> str | None:
    """What trains LoRA here and why, by what was measured; None before."""
    found = placing.kept(MEASURED)
    mlx = found.get("mlx")
    return "LoRA through {}: {}".format(*chosen(mlx, found.get("torch"), False)) if isinstance(mlx, float) else None


def chosen(mlx_gflops: float, torch_gflops: float | None, only_mlx_reads_it: bool) -> tuple[str, str]:
    """(mlx or peft, why) for LoRA."""
    if only_mlx_reads_it:
        return "mlx", "the weights are quantised as MLX alone reads them"
    if torch_gflops is None:
        return "mlx", "torch and peft are not both installed"
    told = f"MLX multiplies at {mlx_gflops:.0f} GFLOPS here, torch at {torch_gflops:.0f}"
    return ("mlx", told) if mlx_gflops >= torch_gflops else ("peft", told)


def trainer(name: str, quantized: bool) -> LoraTrainer:
    if lacks()[0]:
        raise Unavailable(f"mlx-lm is not installed; install it: {INSTALL}")
    path = weights.source(name)
    only_mlx = path.is_dir() and "quantization" in json.loads((path / "config.json").read_text("utf-8"))
    way, why = chosen(*rates(), only_mlx)
    return MlxTrainer(name, quantized, why) if way == "mlx" else PeftTrainer(name, quantized, why)
