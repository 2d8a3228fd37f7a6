"""What the benchmarks share: a clock for each side, an embedder that keeps nothing, and the JSON that they print."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from common.environment import package_versions
from experiments.backends.protocols import Embeddings
from experiments.backends.sentence_embedder import SentenceEmbedder

KEYS = ("benchmark", "ratio", "needed", "seconds", "counts", "compared", "host")


class Clock:
    """Seconds of each side. Sides take turns, so that other work on the machine slows both alike."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.best: dict[str, float] = {}  # a side's shortest turn: what other work disturbed least

    @contextmanager
    def side(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.seconds[name] += took
        self.best[name] = min(took, self.best.get(name, took))


class ForgetfulEmbedder(SentenceEmbedder):
    """The same model, caching no vector from one call to the next."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self._known.clear()
        return super().embed(texts)


def host() -> dict[str, Any]:
    """Facts about the machine that a reader needs to judge the seconds."""
    import torch

    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_1_min": round(os.getloadavg()[0], 1),  # above 1 a core: other work slowed both sides
        "torch": package_versions()["torch"],
    }


def show(
    benchmark: str,
    ratio: float,
    needed: float | None,
    seconds: Mapping[str, float],
    counts: Mapping[str, Any],
    compared: str,
    **more: Any,
) -> None:
    """Print one measurement as JSON, a line a key.

    Args:
        ratio: seconds of the plain way over seconds of ours, for the same results.
        needed: what the ratio must reach; None where no bound is set.
        more: further numbers of this benchmark, put at the end.
    """
    values = (
        benchmark,
        round(ratio, 2),
        needed,
        {k: round(v, 3) for k, v in seconds.items()},
        counts,
        compared,
        host(),
    )
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in {**dict(zip(KEYS, values, strict=True)), **more}.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
