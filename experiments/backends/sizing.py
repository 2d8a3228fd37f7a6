"""Choose full, 8-bit or 4-bit numbers for a model by the memory that the machine has, before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

GB = 1e9
Precision = Literal["full", "8-bit", "4-bit", "too big"]
# Bytes a parameter; quantised ones with their scales, while embeddings and norms stay full (bitsandbytes, LLM.int8 and NF4).
BYTES_8_BIT = 1.1
BYTES_4_BIT = 0.6
# Beside the weights, GB: Python with torch and transformers 0.6, logits and caches of a full window 0.4 (measured, SmolLM2-135M).
BESIDE_GB = 1.0
# Times the weights, for activations, adapters and what a library copies while it loads.
MARGIN = 1.2
# Parts of the names of matrices that are not quantised: those that read and write tokens, in safetensors and GGUF files.
TOKEN_MATRICES = ("embd", "embed", "lm_head")


@dataclass(frozen=True)
class Size:
    """Parameters of a model: in matrices, which can be quantised, and all others (embeddings, norms)."""

    matrices: int
    others: int

    def gb(self, bytes_a_parameter: float, full_bytes: int) -> float:
        """Return the weights in GB (10^9 bytes), with this many bytes a parameter of the matrices."""
        return (self.matrices * bytes_a_parameter + self.others * full_bytes) / GB


def needed_gb(size: Size, precision: Precision, full_bytes: int = 4) -> float:
    """Return the available memory that a model needs, GB."""
    each = {"full": float(full_bytes), "8-bit": BYTES_8_BIT, "4-bit": BYTES_4_BIT}[precision]
    return BESIDE_GB + MARGIN * size.gb(each, full_bytes)


def choose(size: Size, available_gb: float, *, quantized: bool = False, full_bytes: int = 4) -> Precision:
    """Return the most exact precision in which the model fits.

    Args:
        quantized: the host is one for quantised models, so never full.
        full_bytes: of a number when not quantised: 4 for float32, 2 for bfloat16.
    """
    order: tuple[Precision, ...] = ("8-bit", "4-bit") if quantized else ("full", "8-bit", "4-bit")
    return next((p for p in order if needed_gb(size, p, full_bytes) <= available_gb), "too big")


def _of_shapes(shapes: Mapping[str, Iterable[int]]) -> Size:
    matrices = others = 0
    for name, shape in shapes.items():
        sides = [int(n) for n in shape]
        stays = name == "output.weight" or any(part in name for part in TOKEN_MATRICES)
        if len(sides) == 2 and not stays:
            matrices += prod(sides)
        else:
            others += prod(sides)
    return Size(matrices, others)


def folder_size(folder: Path) -> Size:
    """Return the parameters in a folder of safetensors, read from the files' headers."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {name: row["shape"] for name, row in head.items() if name != "__metadata__"}
    return _of_shapes(shapes)


def gguf_size(path: Path) -> Size:
    """Return the parameters in a GGUF file, read from its header. Raises ImportError without the package gguf."""
    from gguf import GGUFReader

    return _of_shapes({t.name: t.shape for t in GGUFReader(str(path)).tensors})
