"""Full, 8-bit, 4-bit or too big: how a model is held in the memory that a machine has, decided before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GB = 1e9
Held = Literal["full", "8-bit", "4-bit", "too big"]
# Bytes a parameter; quantised, each carries its scales, and embeddings and norms stay as they are (bitsandbytes, LLM.int8 and NF4).
BYTES_8_BIT = 1.1
BYTES_4_BIT = 0.6
# Beside the weights, GB: Python with torch and transformers 0.6, logits and caches of a full window 0.4 (measured, SmolLM2-135M).
BESIDE_GB = 1.0
# Of the weights, for activations, adapters and what a library copies while it loads.
MARGIN = 1.2


@dataclass(frozen=True)
class Size:
    """What a model is made of: parameters in matrices, which can be quantised, and all others (embeddings, norms)."""

    matrices: int
    others: int

    def gb(self, bytes_a_parameter: float, full_bytes: int) -> float:
        """Weights in GB (10^9 bytes), the matrices at so many bytes a parameter."""
        return (self.matrices * bytes_a_parameter + self.others * full_bytes) / GB


def needed_gb(size: Size, held: Held, full_bytes: int = 4) -> float:
    """Available RAM that a model asks for, GB."""
    each = {"full": float(full_bytes), "8-bit": BYTES_8_BIT, "4-bit": BYTES_4_BIT}[held]
    return BESIDE_GB + MARGIN * size.gb(each, full_bytes)


def choose(size: Size, ram_available_gb: float, *, quantized: bool = False, full_bytes: int = 4) -> Held:
    """The most exact way in which the model fits.

    Args:
        quantized: the host is one for quantised models, so never full.
        full_bytes: of a number when not quantised: 4 for float32, 2 for bfloat16.
    """
    ways: tuple[Held, ...] = ("8-bit", "4-bit") if quantized else ("full", "8-bit", "4-bit")
    return next((way for way in ways if needed_gb(size, way, full_bytes) <= ram_available_gb), "too big")


def _of_shapes(shapes: Mapping[str, list[int]]) -> Size:
    matrices = others = 0
    for name, shape in shapes.items():
        count = 1
        for n in shape:
            count *= n
        # What gives and takes tokens is not quantised: embed_tokens and lm_head, in a GGUF file token_embd and output.
        kept = name == "output.weight" or any(part in name for part in ("embd", "embed", "lm_head"))
        if len(shape) == 2 and not kept:
            matrices += count
        else:
            others += count
    return Size(matrices, others)


def folder_size(folder: Path) -> Size:
    """Parameters in a folder of safetensors, from the files' headers alone."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {name: row["shape"] for name, row in head.items() if name != "__metadata__"}
    return _of_shapes(shapes)


def gguf_size(path: Path) -> Size:
    """Parameters in a GGUF file, from its header; reading it dequantises nothing. Raises ImportError without gguf."""
    from gguf import GGUFReader

    return _of_shapes({t.name: [int(n) for n in t.shape] for t in GGUFReader(str(path)).tensors})
