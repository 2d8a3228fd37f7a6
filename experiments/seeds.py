"""Randomness: every draw takes a generator derived from what it is for, never from where or when it runs."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(*key: str | int) -> int:
    """A 128-bit seed that is a pure function of `key`, the same on every host and in every process."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def generator(*key: str | int) -> np.random.Generator:
    """A generator for `key`; by protocol the key is (run seed, phase, problem id, condition) (docs/science.md, Seeds)."""
    return np.random.default_rng(seed_for(*key))
