"""The memory that a model needs in each precision, and the refusal before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import LabError
from experiments.backends import placement
from experiments.backends.sizing import BYTES, Size, needed_gb
from experiments.precision import Precision

# Parameters in matrices and in the rest (embeddings, norms), from the models' published shapes.
SMOLLM2_135M = Size(106_168_320, 28_346_688)
PHI_3_MINI = Size(3_623_878_656, 197_200_896)  # 3.8 thousand million
LLAMA_3_8B = Size(6_979_321_856, 1_050_939_392)
LLAMA_3_70B = Size(68_451_041_280, 2_102_665_216)
COMPUTED = tuple(BYTES)
RAM_GB = (3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@pytest.mark.parametrize("size", [SMOLLM2_135M, PHI_3_MINI, LLAMA_3_8B, LLAMA_3_70B])
def test_fewer_bits_need_less_memory(size: Size) -> None:
    """Why there are quantised plans at all; and what a host refuses with 24 GB it refuses with 6 as well."""
    needed = [needed_gb(size, p) for p in COMPUTED]
    assert needed == sorted(needed, reverse=True)
    for precision in COMPUTED:
        refused = [bool(placement.refusal("hf/x", size, precision, ram)) for ram in RAM_GB]
        assert refused == sorted(refused, reverse=True)
        assert refused == [needed_gb(size, precision) > ram for ram in RAM_GB]


def test_by_hand() -> None:
    """1 GB beside, a fifth more than the weights: 10^9 matrices of 4, 1.1 and 0.6 bytes and 10^8 others of 4."""
    size = Size(10**9, 10**8)
    assert needed_gb(size, Precision.FLOAT32) == pytest.approx(1 + 1.2 * 4.4)
    assert needed_gb(size, Precision.BFLOAT16) == pytest.approx(1 + 1.2 * 2.2)
    assert needed_gb(size, Precision.INT8) == pytest.approx(1 + 1.2 * 1.5)
    assert needed_gb(size, Precision.FOUR_BIT) == pytest.approx(1 + 1.2 * 1.0)


def test_too_big_is_said_before_loading_and_nothing_else_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading would end in the kernel's hands; in 8 bits instead it would be another result under the same id."""
    monkeypatch.setattr(placement, "placements", {})
    monkeypatch.setattr(placement, "memory_gb", lambda device: 6.0)
    needed = r"too big for this machine in float32: 19\.3 GB are needed, 6\.0 GB available\. .*--set precision=int8"
    with pytest.raises(LabError, match=needed):
        placement.place("hf/middle", PHI_3_MINI, Precision.FLOAT32)
    assert placement.place("hf/middle", PHI_3_MINI, Precision.FOUR_BIT).precision is Precision.FOUR_BIT


def test_a_missing_quantiser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing quantises, the package that would is the answer."""
    monkeypatch.setattr(placement, "placements", {})
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    with pytest.raises(LabError, match=r"4-bit needs bitsandbytes.*pip install bitsandbytes"):
        placement.place("hf/middle", PHI_3_MINI, Precision.FOUR_BIT)


def test_a_tuned_model_is_loaded_beside_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is shorter once the base is loaded; the second refused would be E2 without tuned models."""
    monkeypatch.setattr(placement, "placements", {})
    monkeypatch.setattr(placement, "memory_gb", lambda device: 20.0)
    first = placement.place("hf/one", PHI_3_MINI, Precision.FLOAT32)
    monkeypatch.setattr(placement, "memory_gb", lambda device: 3.0)
    assert placement.place("hf/one", PHI_3_MINI, Precision.FLOAT32) == first


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a container the machine's free memory is not ours."""
    monkeypatch.setattr(placement, "CGROUP", tmp_path)
    without = placement.memory_gb("cpu")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    assert placement.memory_gb("cpu") == pytest.approx(without, rel=0.5)
    (tmp_path / "memory.max").write_text("700000000\n")
    assert placement.memory_gb("cpu") == pytest.approx(0.2)


def test_rates_are_measured_and_positive() -> None:
    """The real measurement on this machine: some operations were done and timed."""
    assert placement.use_real_cores() >= 1
    assert placement.gemm_gflops("cpu", "float32", n=64, rounds=2) > 0.01
