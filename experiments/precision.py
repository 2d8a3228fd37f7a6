"""The numbers that language models compute in. A plan chooses one; it is part of the identity of every unit."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """Numbers of a language model; scores of two of them differ by more than a tolerance allows."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"  # matrices in 8 bits, all else in float32
    FOUR_BIT = "4-bit"  # matrices in 4 bits, all else in float32
    STORED = "stored"  # as the weights are stored: Ollama's models, and those that MLX quantised


QUANTISED = (Precision.INT8, Precision.FOUR_BIT)
AUTO = "auto"  # of --set precision: bfloat16 where it is worth it, else float32; a plan stores which it was
