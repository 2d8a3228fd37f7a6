"""The memory that a model needs in each precision, and the refusal before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from common import resources
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


def test_a_model_is_loaded_only_where_the_memory_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of containers, of version 1 and nested ones too, are those of the assessment: a model beyond one would be killed.
    A card that does not say what is free gets no model, and the phase goes to a bigger machine."""
    monkeypatch.setattr(resources, "memory", lambda: resources.Memory(16, 2.5, 3, "a container's limit"))
    assert placement.memory_gb("cpu") == 2.5
    monkeypatch.setattr(resources, "memory", lambda: resources.Memory(None, None, None, resources.UNKNOWN))
    assert placement.memory_gb("cpu") is None

    def lost() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    assert placement.memory_gb("cuda") is None
    refused = placement.refusal("hf/x", SMOLLM2_135M, Precision.FLOAT32, None)
    assert placement.TOO_BIG in refused and refused.endswith("GB are needed, an unknown amount available")


@pytest.mark.parametrize(
    ("own", "threads"), [((4, 8, 8, None), 4), ((4, 8, 1.5, 1.5), 1), ((None, 4, 3, None), 3), ((8, 16, 0.25, 0.25), 1)]
)
def test_torch_uses_the_cores_that_a_quota_leaves(
    monkeypatch: pytest.MonkeyPatch, own: tuple[int | None, int, float, float | None], threads: int
) -> None:
    """Sixteen threads under a quota of two cores wait for each other most of the time."""
    before = torch.get_num_threads()
    monkeypatch.setattr(resources, "cores", lambda: resources.Cores(*own))
    try:
        assert placement.use_real_cores() == threads == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def test_rates_are_measured_and_positive() -> None:
    """The real measurement on this machine: some operations were done and timed."""
    assert placement.use_real_cores() >= 1
    assert placement.gemm_gflops("cpu", "float32", n=64, rounds=2) > 0.01
