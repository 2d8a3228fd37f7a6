"""Choose the device and threads of a model on this machine, and check that it can compute in the planned precision."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from common import resources
from common.errors import LabError
from experiments.backends.sizing import GB, Size, needed_gb
from experiments.precision import QUANTISED, Precision

QUANTISER = "bitsandbytes"
INSTALL_QUANTISER = "pip install bitsandbytes"
TOO_BIG = "too big for this machine"
# Settings by which oneDNN and cuBLAS multiply float32 in bfloat16 or TF32, without a word in the results.
FEWER_BITS = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


@dataclass(frozen=True)
class Placement:
    """Device and numbers of one model."""

    device: str  # cpu, cuda, mps
    precision: Precision

    @property
    def dtype(self) -> str:
        """Torch's name for the type of what is not quantised."""
        return "bfloat16" if self.precision is Precision.BFLOAT16 else "float32"


def exact_float32() -> None:
    """Let float32 be multiplied as float32, whatever the environment of this host says; call it before a model loads."""
    for name in FEWER_BITS:
        os.environ.pop(name, None)
    os.environ["MLX_ENABLE_TF32"] = "0"
    if find_spec("torch") is not None:
        import torch

        torch.set_float32_matmul_precision("highest")


def use_real_cores() -> int:
    """Let torch use this process's cores, hyperthreads and what a quota stops not counted, and return how many."""
    import torch

    threads = resources.cores().threads
    torch.set_num_threads(threads)
    return threads


def local_device() -> str:
    """Return this machine's best device: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def gemm_gflops(device: str, dtype: str, n: int = 512, rounds: int = 5) -> float:
    """Return torch's best rate of products of n x n matrices on a device, in 10^9 operations a second."""
    import torch

    a = torch.ones((n, n), dtype=getattr(torch, dtype), device=device)
    best = 0.0
    for _ in range(rounds + 1):
        started = time.perf_counter()
        # Reading one number waits until the device is done.
        (a @ a)[0, 0].item()
        best = max(best, 2 * n**3 / (time.perf_counter() - started) / 1e9)
    return best


def memory_gb(device: str) -> float | None:
    """Return the memory that a model may take on a device, GB; None where it is not known."""
    if device == "cuda":
        import torch

        try:
            return float(torch.cuda.mem_get_info()[0]) / GB
        except RuntimeError:  # the driver's, as for a card that was lost
            return None
    return resources.memory().available_gb


placements: dict[tuple[str, Precision], Placement] = {}  # by (name, precision), of this process


def place(name: str, size: Size, precision: Precision) -> Placement:
    """Return the placement of model `name`. Its memory is checked once a process: a tuned model stands beside its base.

    Raises:
        LabError: this machine cannot compute in this precision.
    """
    if (name, precision) not in placements:
        device = local_device()
        check(refusal(name, size, precision, memory_gb(device)))
        placements[name, precision] = Placement(device, precision)
    return placements[name, precision]


def refusal(name: str, size: Size, precision: Precision, available_gb: float | None) -> str:
    """Return why this machine cannot compute model `name` in `precision`, "" if it can."""
    if precision in QUANTISED and find_spec(QUANTISER) is None:
        return f"{precision} needs {QUANTISER}, which is not installed: {INSTALL_QUANTISER}"
    needed = needed_gb(size, precision)
    if available_gb is not None and needed <= available_gb:
        return ""
    available = "an unknown amount" if available_gb is None else f"{available_gb:.1f} GB"
    return f"model {name!r} is {TOO_BIG} in {precision}: {needed:.1f} GB are needed, {available} available"


def check(refused: str) -> None:
    """Raise LabError if a model is refused. It is never loaded in another precision instead."""
    if refused:
        raise LabError(refused, "use another machine, or plan another precision: --set precision=int8")


def quantisation(placed: Placement) -> dict[str, Any]:
    """Return arguments of transformers' from_pretrained that quantise each matrix as it is read; {} for others."""
    if placed.precision not in QUANTISED:
        return {}
    from transformers import BitsAndBytesConfig

    # It logs for each matrix and call that it computes in float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if placed.precision is Precision.INT8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        # NF4 of QLoRA (Dettmers et al. 2023, arXiv:2305.14314).
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=placed.dtype)
    return {"quantization_config": config, "device_map": placed.device}


def same_on_all_processors(model: Any) -> None:
    """Let 4-bit matrices multiply in float32: on processors with AVX512-BF16, bitsandbytes would take bfloat16 for it."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
