"""Choose the device, threads and numbers of a torch model on this machine: dtype, full or quantised."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from common.environment import lab_home
from common.errors import LabError
from common.files import write_whole
from experiments.backends.protocols import Unavailable
from experiments.backends.sizing import GB, Precision, Size, choose, needed_gb

DTYPES = ("float32", "bfloat16", "float16")
FASTER = 2.0  # times float32's speed from which another type is taken: below it exactness is worth more
MEASURED = "dtype.json"  # {device: dtype} in LAB_HOME, written by an assessment
CGROUP = Path("/sys/fs/cgroup")
QUANTISER = "bitsandbytes"
INSTALL_QUANTISER = "pip install bitsandbytes"


@dataclass(frozen=True)
class Placement:
    """Device and numbers of one model."""

    device: str  # cpu, cuda, mps
    dtype: str
    precision: Precision


def use_real_cores() -> int:
    """Let torch use this process's cores, hyperthreads not counted twice, and return how many."""
    import psutil
    import torch

    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(mine, psutil.cpu_count(logical=False) or mine))
    torch.set_num_threads(threads)
    return threads


def local_device() -> str:
    """Return this machine's best device: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_gflops(multiply: Callable[[], object], n: int, rounds: int) -> float:
    """Return the best rate of `rounds` products of n x n matrices after a warm-up, in 10^9 operations a second."""
    multiply()
    best = 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        multiply()
        best = max(best, 2 * n**3 / (time.perf_counter() - started) / 1e9)
    return best


def gemm_gflops(device: str, dtype: str, n: int = 512, rounds: int = 5) -> float:
    """Return torch's rate of matrix products on a device, in 10^9 operations a second."""
    import torch

    a = torch.ones((n, n), dtype=getattr(torch, dtype), device=device)
    # Reading one number waits until the device is done.
    return best_gflops(lambda: (a @ a)[0, 0].item(), n, rounds)


class MeasuredDtype(NamedTuple):
    """The type that an assessment chose, and why."""

    device: str
    dtype: str
    gflops: dict[str, float]  # by type


def measure_dtype() -> MeasuredDtype:
    """Measure this machine's device in each type and save the choice in LAB_HOME for all later loads.

    bfloat16 comes before float16, whose range is too small for some models; float32 unless another is FASTER times as fast.
    """
    device = local_device()
    use_real_cores()
    rates = {}
    for dtype in DTYPES:
        try:
            rates[dtype] = round(gemm_gflops(device, dtype), 1)
        except (RuntimeError, TypeError):
            continue  # the device has no such type
    chosen = next((d for d in DTYPES[1:] if rates.get(d, 0) >= FASTER * rates["float32"]), "float32")
    save_measurement(MEASURED, {device: chosen})
    return MeasuredDtype(device, chosen, rates)


def save_measurement(name: str, found: dict[str, Any]) -> None:
    """Write what was measured to a file in LAB_HOME."""
    write_whole(lab_home() / name, json.dumps(found).encode())


def saved_measurement(name: str) -> dict[str, Any]:
    """Return what was measured, {} before or when the file is damaged."""
    try:
        found = json.loads((lab_home() / name).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def chosen_dtype(device: str) -> str:
    """Return the type that an assessment chose for this device; float32 before any."""
    chosen = saved_measurement(MEASURED).get(device, "float32")
    return chosen if chosen in DTYPES else "float32"


def memory_gb(device: str) -> float:
    """Return the memory that a model may take on a device, GB."""
    import psutil

    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0]) / GB
    return min(float(psutil.virtual_memory().available), _limit_bytes()) / GB


def _limit_bytes() -> float:
    """Return what a container's limit leaves, bytes; infinite without one (cgroup v2)."""
    try:
        most, used = (
            float((CGROUP / f"memory.{part}").read_text().replace("max", "inf")) for part in ("max", "current")
        )
    except (OSError, ValueError):
        return float("inf")
    return most - used


placements: dict[tuple[str, bool], Placement] = {}  # by (name, quantized), of this process


def place(name: str, size: Size, quantized: bool) -> Placement:
    """Return the placement of model `name`, decided once a process, so that a tuned model has that of its base.

    Raises:
        LabError: too big for this machine.
        Unavailable: only a quantised one fits, and the package that quantises is missing.
    """
    if (name, quantized) not in placements:
        device = local_device()
        dtype = chosen_dtype(device)
        free = memory_gb(device)
        precision = choose(size, free, quantized=quantized, full_bytes=4 if dtype == "float32" else 2)
        if precision == "too big":
            raise LabError(
                f"model {name!r} is too big for this machine: {needed_gb(size, '4-bit'):.1f} GB even in 4-bit, "
                f"{free:.1f} GB are available",
                "choose a smaller one; lab doctor lists the models of this machine",
            )
        placements[name, quantized] = Placement(device, dtype, precision)
    found = placements[name, quantized]
    if found.precision != "full" and find_spec(QUANTISER) is None:
        raise Unavailable(
            f"model {name!r} fits on this machine only in {found.precision}, which needs {QUANTISER}: {INSTALL_QUANTISER}"
        )
    return found


def quantisation(placed: Placement) -> dict[str, Any]:
    """Return arguments of transformers' from_pretrained that quantise each matrix as it is read; {} for a full model."""
    if placed.precision == "full":
        return {}
    from transformers import BitsAndBytesConfig

    # It logs for each matrix and call that it computes in float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if placed.precision == "8-bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        # NF4 of QLoRA (Dettmers et al. 2023, arXiv:2305.14314).
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=placed.dtype)
    return {"quantization_config": config, "device_map": placed.device}
