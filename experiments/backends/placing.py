"""Where a torch model stands on this machine and in which numbers: device, threads, dtype, full or quantised."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.environment import lab_home
from common.errors import LabError
from experiments.backends.protocols import Unavailable
from experiments.backends.sizing import GB, Held, Size, choose, needed_gb

DTYPES = ("float32", "bfloat16", "float16")
FASTER = 2.0  # another type is taken from here on; below it the exact one is worth more, and noise decides nothing
MEASURED = "dtype.json"  # {device: dtype} in LAB_HOME, left by an assessment
CGROUP = Path("/sys/fs/cgroup")
QUANTISER = "bitsandbytes"
INSTALL_QUANTISER = "pip install bitsandbytes"


@dataclass(frozen=True)
class Placement:
    """Where and how one model is held."""

    device: str  # cpu, cuda, mps
    dtype: str
    held: Held


def use_real_cores() -> int:
    """Let torch use this process's cores, hyperthreads not counted twice; how many that is."""
    import psutil
    import torch

    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(mine, psutil.cpu_count(logical=False) or mine))
    torch.set_num_threads(threads)
    return threads


def device_here() -> str:
    """cuda, mps or cpu, by what is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def gemm_gflops(device: str, dtype: str, n: int = 512, rounds: int = 5) -> float:
    """The best rate of a few square matrix products, in 10^9 operations a second; a warm-up is not counted."""
    import torch

    a = torch.ones((n, n), dtype=getattr(torch, dtype), device=device)
    best = 0.0
    for turn in range(rounds + 1):
        started = time.perf_counter()
        # Asking for one number waits until the device is done.
        (a @ a)[0, 0].item()
        best = max(best, 2 * n**3 / (time.perf_counter() - started) / 1e9) if turn else 0.0
    return best


def measure_dtype() -> dict[str, Any]:
    """Measure this machine's device in each type and keep the choice in LAB_HOME for all later loads.

    bfloat16 comes before float16, whose range is too small for some models; float32 unless another is FASTER times as fast.
    """
    device = device_here()
    use_real_cores()
    rates = {}
    for dtype in DTYPES:
        try:
            rates[dtype] = round(gemm_gflops(device, dtype), 1)
        except (RuntimeError, TypeError):
            continue  # the device has no such type
    fast = [d for d in DTYPES[1:] if rates.get(d, 0) >= FASTER * rates["float32"]]
    chosen = fast[0] if fast else "float32"
    keep(MEASURED, {device: chosen})
    return {"device": device, "dtype": chosen, "gflops": rates}


def keep(name: str, found: dict[str, Any]) -> None:
    """Leave what was measured in LAB_HOME, whole or not at all."""
    path = lab_home() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_suffix(f".{os.getpid()}")
    making.write_text(json.dumps(found))
    making.replace(path)


def kept(name: str) -> dict[str, Any]:
    """What was measured, {} before or when the file is damaged."""
    try:
        found = json.loads((lab_home() / name).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def dtype_here(device: str) -> str:
    """The type that an assessment chose for this device; float32 before any."""
    chosen = kept(MEASURED).get(device, "float32")
    return chosen if chosen in DTYPES else "float32"


def memory_gb(device: str) -> float:
    """Memory that a model may take on a device, GB."""
    import psutil

    if device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0]) / GB
    return min(float(psutil.virtual_memory().available), _limit_bytes()) / GB


def _limit_bytes() -> float:
    """What a container's limit leaves, bytes; infinite without one (cgroup v2)."""
    try:
        most, used = (
            float((CGROUP / f"memory.{part}").read_text().replace("max", "inf")) for part in ("max", "current")
        )
    except (OSError, ValueError):
        return float("inf")
    return most - used


_decided: dict[tuple[str, bool], Placement] = {}


def place(name: str, size: Size, quantized: bool) -> Placement:
    """How model `name` is held here. Decided once a process, so that a tuned model is held as its base is.

    Raises:
        LabError: too big for this machine.
        Unavailable: only a quantised one fits, and what quantises is missing.
    """
    if (name, quantized) not in _decided:
        device = device_here()
        dtype = dtype_here(device)
        free = memory_gb(device)
        held = choose(size, free, quantized=quantized, full_bytes=4 if dtype == "float32" else 2)
        if held == "too big":
            raise LabError(
                f"model {name!r} is too big for this machine: {needed_gb(size, '4-bit'):.1f} GB even in 4-bit, "
                f"{free:.1f} GB are available",
                "choose a smaller one: lab doctor names what is here",
            )
        _decided[name, quantized] = Placement(device, dtype, held)
    found = _decided[name, quantized]
    if found.held != "full" and find_spec(QUANTISER) is None:
        raise Unavailable(
            f"model {name!r} fits here only in {found.held}, which {QUANTISER} makes; {INSTALL_QUANTISER}"
        )
    return found


def how_to_quantise(placed: Placement) -> dict[str, Any]:
    """Arguments of transformers' from_pretrained that quantise each matrix as it is read; {} for a full model."""
    if placed.held == "full":
        return {}
    from transformers import BitsAndBytesConfig

    # It says for each matrix and call that it computes in float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if placed.held == "8-bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        # NF4 of QLoRA (Dettmers et al. 2023, arXiv:2305.14314).
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=placed.dtype)
    return {"quantization_config": config, "device_map": placed.device}


def version(package: str) -> str:
    """Version of an installed package."""
    return metadata.version(package)
