"""Language models through mlx-lm: mlx/<packaged model>, mlx/<repository in the hub's local cache>, mlx/<absolute path>.

LoRA goes through MLX where it multiplies at least as fast as torch, else through peft. The choice is measured, and each
training records it.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import NamedTuple

from experiments.backends import placement, weights
from experiments.backends.catalog import LANGUAGE_MODELS, cached_repositories
from experiments.backends.mlx_lm_engine import INSTALL, MlxModel, gemm_gflops
from experiments.backends.mlx_trainer import MlxTrainer
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.protocols import LoraTrainer, Missing, Unavailable
from experiments.backends.transformers_lm import token_counter

MEASURED = "lora.json"  # {engine: 10^9 operations a second} in LAB_HOME, written by an assessment


class Rates(NamedTuple):
    """Matrix products of this machine's engines, 10^9 operations a second."""

    mlx: float
    torch: float | None  # None without torch and peft


class Choice(NamedTuple):
    """The engine that trains LoRA."""

    engine: str  # mlx or peft
    why: str


digest = weights.digest
counter = token_counter
load = MlxModel


def missing(prefix: str) -> Missing | None:
    return None if find_spec("mlx_lm") and find_spec("mlx") else Missing("mlx-lm", INSTALL)


def local_models() -> list[str]:
    if missing("mlx"):
        return []
    packaged = [name for name, package in LANGUAGE_MODELS.items() if find_spec(package.module) is not None]
    return [f"mlx/{name}" for name in (*packaged, *cached_repositories())]


def measure() -> Rates:
    """Measure how fast MLX and torch multiply on this machine, and save it in LAB_HOME; takes a second or two."""
    torch = None
    if find_spec("torch") is not None and find_spec("peft") is not None:
        placement.use_real_cores()
        torch = placement.gemm_gflops(placement.local_device(), "float32", 256)
    rates = Rates(gemm_gflops(), torch)
    placement.save_measurement(MEASURED, rates._asdict())
    return rates


def saved_rates() -> Rates | None:
    """Return the rates that an assessment measured, None before any."""
    found = placement.saved_measurement(MEASURED)
    return Rates(found["mlx"], found.get("torch")) if isinstance(found.get("mlx"), float) else None


def rates() -> Rates:
    """Return the rates that an assessment measured; measure them now if there was none."""
    return saved_rates() or measure()


def lora_engine() -> str | None:
    """Return what trains LoRA on this machine and why, as a sentence; None before it was measured."""
    found = saved_rates()
    return "LoRA through {}: {}".format(*choose(found, False)) if found else None


def choose(measured: Rates, only_mlx_reads_it: bool) -> Choice:
    """Choose the engine that trains LoRA.

    Args:
        only_mlx_reads_it: the weights are quantised in MLX's own format.
    """
    if only_mlx_reads_it:
        return Choice("mlx", "the weights are quantised as MLX alone reads them")
    if measured.torch is None:
        return Choice("mlx", "torch and peft are not both installed")
    why = f"MLX multiplies at {measured.mlx:.0f} GFLOPS here, torch at {measured.torch:.0f}"
    return Choice("mlx" if measured.mlx >= measured.torch else "peft", why)


def trainer(name: str, quantized: bool) -> LoraTrainer:
    if missing("mlx"):
        raise Unavailable(f"mlx-lm is not installed; install it: {INSTALL}")
    path = weights.source(name)
    only_mlx = path.is_dir() and "quantization" in json.loads((path / "config.json").read_text("utf-8"))
    engine, why = choose(rates(), only_mlx)
    return MlxTrainer(name, quantized, why) if engine == "mlx" else PeftTrainer(name, quantized, why)
