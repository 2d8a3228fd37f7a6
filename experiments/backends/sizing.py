"""The memory that a model needs in each precision, before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from experiments.precision import Precision

GB = 1e9
# Bytes a parameter of the matrices, and of all others: quantised ones with their scales, while embeddings and norms stay
# float32 (bitsandbytes, LLM.int8 and NF4).
BYTES = {
    Precision.FLOAT32: (4.0, 4),
    Precision.BFLOAT16: (2.0, 2),
    Precision.INT8: (1.1, 4),
    Precision.FOUR_BIT: (0.6, 4),
}
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

    def gb(self, matrix_bytes: float, other_bytes: int) -> float:
        """Return the weights in GB (10^9 bytes), with this many bytes a parameter."""
        return (self.matrices * matrix_bytes + self.others * other_bytes) / GB


def needed_gb(size: Size, precision: Precision) -> float:
    """Return the available memory that a model needs, GB."""
    each, others = BYTES[precision]
    return BESIDE_GB + MARGIN * size.gb(each, others)


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
