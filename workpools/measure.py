"""Measure the speeds of this host within one budget of time; what does not fit is left out, with the reason.

`python -m workpools.measure embedder language_model` measures engines and prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.environment import lab_home, python
from common.resources import cores
from experiments.backends import conversions
from experiments.precision import Precision

BUDGET_S = 50.0  # of the minute that lab assess may take; the rest is for starting and for what cannot be interrupted
MATRIX_S = 5.0
QUOTA_S = 0.5  # five periods of a quota, 0.1 s each by default
DISK_S = 8.0
ENGINES_S = 5.0  # less is not worth loading an engine for: torch alone takes 3 to 10 s to import (measured)
WRITE_BYTES = 64 * 2**20  # enough to leave a disk's own cache behind on small machines
CHUNK_BYTES = 8 * 2**20
PROMPT_REPEATS = 20  # about 300 tokens, a phase's usual prompt
# What is measured, for messages; the model once in each precision that a plan may choose for its speed.
SPEEDS = {"embedder": "embedding speed", "language_model": "model speed", "bfloat16": "model speed in bfloat16"}


PRECISIONS = {"language_model": Precision.FLOAT32, "bfloat16": Precision.BFLOAT16}


class Budget:
    """Seconds left until the deadline."""

    def __init__(self, seconds: float = BUDGET_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = clock() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._deadline - self._clock())


@dataclass(frozen=True)
class Speeds:
    """Measured speeds in the units of the report, and the reasons why others are None."""

    matrix_gflops: float | None = None
    embedding_texts_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    prefill_bfloat16_tokens_per_s: float | None = None
    disk_write_mb_s: float | None = None
    reasons: tuple[str, ...] = ()


class EngineSpeed(NamedTuple):
    """Speed of an engine in the unit of the report; None with the reason."""

    engine: str
    speed: float | None
    reason: str


class EngineSpeeds(NamedTuple):
    """Speeds by engine, and a line for each engine without one."""

    speeds: dict[str, float]
    reasons: list[str]


def speeds(home: Path, engines: Sequence[str], budget: Budget) -> Speeds:
    """Measure the processor and the disk with the folder `home`, then the engines in the rest of the budget."""
    reasons = []
    least_s = QUOTA_S if cores().quota else 0.0
    gflops = matrix_gflops(min(MATRIX_S, budget.left), least_s)
    disk = disk_write_mb_s(home, min(DISK_S, budget.left))
    if disk is None:
        reasons.append(f"disk speed not measured: no 8 MB could be written to {home}")
    measured = engine_speeds(engines, budget.left)
    embedding, prefill, bfloat16 = (measured.speeds.get(name) for name in SPEEDS)
    return Speeds(gflops, embedding, prefill, bfloat16, disk, (*reasons, *measured.reasons))


def matrix_gflops(seconds: float, least_s: float = 0.0) -> float:
    """Return the best speed of a float32 product of two n x n matrices, 2 n^3 operations, n up to 1024 as time allows.

    Args:
        seconds: to spend.
        least_s: products are repeated for at least so long for one sample. A quota of the processor lets a short one run at
            full speed and stops the process afterwards.
    """
    import numpy as np

    deadline = time.monotonic() + seconds
    best = 0.0
    for n in (128, 256, 512, 1024):
        a = np.random.default_rng(42).random((n, n), dtype=np.float32)
        for _ in range(5):
            started, products, took = time.perf_counter(), 0, 0.0
            while not products or took < least_s:
                a @ a
                products += 1
                took = max(time.perf_counter() - started, 1e-9)
            best = max(best, products * 2 * n**3 / took / 1e9)
            # The next one may be of twice the size, with eight times the work.
            if time.monotonic() + max(least_s, 8 * took / products) > deadline:
                return round(best, 1)
    return round(best, 1)


def disk_write_mb_s(folder: Path, seconds: float) -> float | None:
    """Return MB/s of writing and fsyncing 64 MB, or less as time allows; None if not even 8 MB can be written."""
    path = folder / f".write-test-{os.getpid()}"
    block = os.urandom(CHUNK_BYTES)
    started = time.perf_counter()
    written = 0
    try:
        with path.open("wb") as file:
            # A sync each chunk, since one for all could take minutes on a memory card and cannot be interrupted.
            while written < WRITE_BYTES and (not written or time.perf_counter() - started < seconds):
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
                written += len(block)
            return round(written / 1e6 / (time.perf_counter() - started), 1)
    except OSError:
        return None
    finally:
        path.unlink(missing_ok=True)


def engine_speeds(engines: Sequence[str], seconds: float) -> EngineSpeeds:
    """Measure engines in a process of its own, which is ended after `seconds`.

    Neither the import of an engine nor a conversion of weights can be interrupted, and both take memory.
    """
    asked = [e for e in SPEEDS if ("language_model" if e == "bfloat16" else e) in engines]
    if not asked or seconds < ENGINES_S:
        spent = f"{BUDGET_S:.0f} s for measuring were spent before"
        return EngineSpeeds({}, [f"{SPEEDS[e]} not measured: {spent}" for e in asked if e in engines])
    command = [*python(), "workpools.measure", *asked]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # noqa: S603
    ended = "the process that measures ended without a result"
    try:
        printed, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        printed, _ = child.communicate()
        ended = f"not done within the {seconds:.0f} s that were left for it"
    finally:
        if child.poll() is None:  # interrupted by the user
            child.kill()
            child.wait()
        conversions.remove_of(child.pid)
    found = parse_output(printed.decode(errors="replace").splitlines())
    unknown = {e: EngineSpeed(e, None, ended) for e in asked}
    if not converted():
        why = f"{ended}; its weights are not converted yet, which the first run of a phase does"
        unknown |= {e: EngineSpeed(e, None, why) for e in ("language_model", "bfloat16")}
    all_ = [found.get(e, unknown[e]) for e in asked]
    # Why a model was not measured at all is told once.
    loads = any(one.engine == "language_model" and one.speed is not None for one in all_)
    told = [e for e in asked if e != "bfloat16" or loads]
    reasons = [
        f"{SPEEDS[one.engine]} not measured: {one.reason}" for one in all_ if one.speed is None and one.engine in told
    ]
    return EngineSpeeds({one.engine: one.speed for one in all_ if one.speed is not None}, reasons)


def parse_output(lines: Sequence[str]) -> dict[str, EngineSpeed]:
    """Parse the output of the process that measures, by engine; its last line may be cut."""
    found = {}
    for line in lines:
        with suppress(ValueError):
            engine, speed, reason = json.loads(line)
            found[engine] = EngineSpeed(engine, speed if speed is None else float(speed), str(reason))
    return found


def converted() -> bool:
    """Return True if a language model's weights are converted on this host, which takes 21 s (measured)."""
    return any(not conversions.MAKING.fullmatch(p.name) for p in (lab_home() / "models").glob("*"))


def convert(seconds: float) -> None:
    """Convert the default language model's weights, if none are: within the budget of an assessment there may be no time for it."""
    if not converted():
        engine_speeds(("language_model",), seconds)


def _measured(engine: str) -> EngineSpeed:
    from common.errors import LabError
    from common.urls import without_secrets
    from experiments.backends.protocols import Unavailable

    try:
        speed = _texts_per_s() if engine == "embedder" else _tokens_per_s(PRECISIONS[engine])
        return EngineSpeed(engine, round(speed, 1), "")
    except (Unavailable, LabError, ImportError, OSError, RuntimeError) as error:
        return EngineSpeed(engine, None, " ".join(without_secrets(str(error)).split())[:200])


def _texts_per_s() -> float:
    """Return short texts a second through the default embedder."""
    from experiments.backends.catalog import EMBEDDERS
    from experiments.backends.sentence_embedder import SentenceEmbedder

    embedder = SentenceEmbedder(next(iter(EMBEDDERS)))
    texts = [f"for i in range({n}):\n    total += i * {n}" for n in range(8)]
    _, seconds = embedder.embed(texts)
    return len(texts) / sum(seconds)


def _tokens_per_s(precision: Precision) -> float:
    """Return tokens of a prompt a second through the default language model, the better of two after a warm-up."""
    from experiments.backends.model_cache import Backends, no_files
    from experiments.contract import PhaseConfig

    model = Backends(no_files).language_model(PhaseConfig().model, precision=precision)
    model.score("warm up", (" up",))
    best = 0.0
    for n in range(2):
        prompt = "".join(f"for i in range({i}):\n    total += i * {n}\n" for i in range(PROMPT_REPEATS))
        scores = model.score(prompt, (" O(n)",))
        best = max(best, (scores.tokens_in + scores.tokens_out) / scores.latency_s)
    return best


def main(engines: Sequence[str]) -> None:
    """Print an EngineSpeed a line as JSON; output of libraries goes to stderr."""
    results = sys.stdout
    with redirect_stdout(sys.stderr):
        for engine in engines:
            print(json.dumps(_measured(engine)), file=results, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
