"""Full, 8-bit, 4-bit or too big: decided from parameters and memory, before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import LabError
from experiments.backends import placement
from experiments.backends.protocols import Unavailable
from experiments.backends.sizing import Size, choose, needed_gb

# Parameters in matrices and in the rest (embeddings, norms), from the models' published shapes.
SMOLLM2_135M = Size(106_168_320, 28_346_688)
PHI_3_MINI = Size(3_623_878_656, 197_200_896)  # 3.8 thousand million
LLAMA_3_8B = Size(6_979_321_856, 1_050_939_392)
LLAMA_3_70B = Size(68_451_041_280, 2_102_665_216)
RAM_GB = (3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SMOLLM2_135M, ["full"] * 10),
        (PHI_3_MINI, ["too big"] * 2 + ["4-bit"] + ["8-bit"] * 3 + ["full"] * 4),
        (LLAMA_3_8B, ["too big"] * 4 + ["4-bit"] * 1 + ["8-bit"] * 3 + ["full"] * 2),
        (LLAMA_3_70B, ["too big"] * 9 + ["4-bit"]),
    ],
)
def test_from_3_to_64_gb(size: Size, expected: list[str]) -> None:
    """A Pi, a laptop and a desktop each hold the most exact form that fits; more memory is never a worse form."""
    assert [choose(size, ram) for ram in RAM_GB] == expected
    order = ["too big", "4-bit", "8-bit", "full"]
    paths = [order.index(choose(size, ram)) for ram in RAM_GB]
    assert paths == sorted(paths)


def test_by_hand() -> None:
    """1 GB beside, a fifth more than the weights: 10^9 matrices of 4, 1.1 and 0.6 bytes and 10^8 others of 4."""
    size = Size(10**9, 10**8)
    assert needed_gb(size, "full") == pytest.approx(1 + 1.2 * 4.4)
    assert needed_gb(size, "8-bit") == pytest.approx(1 + 1.2 * 1.5)
    assert needed_gb(size, "4-bit") == pytest.approx(1 + 1.2 * 1.0)
    assert needed_gb(size, "full", full_bytes=2) == pytest.approx(1 + 1.2 * 2.2)


def test_a_host_for_quantised_models_never_holds_a_full_one() -> None:
    """E2 on a medium host is planned as quantised; full there would be another experiment under the same name."""
    assert [choose(SMOLLM2_135M, ram, quantized=True) for ram in (3, 64)] == ["8-bit", "8-bit"]


def test_too_big_is_said_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading would end in the kernel's hands, with everything else on the machine."""
    monkeypatch.setattr(placement, "placements", {})
    monkeypatch.setattr(placement, "memory_gb", lambda device: 6.0)
    with pytest.raises(LabError, match=r"too big for this machine: .* GB even in 4-bit, 6\.0 GB are available"):
        placement.place("hf/big", LLAMA_3_70B, False)


def test_a_missing_quantiser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a quantised model fits and nothing quantises, the package that would is the answer."""
    monkeypatch.setattr(placement, "placements", {})
    monkeypatch.setattr(placement, "memory_gb", lambda device: 6.0)
    monkeypatch.setattr(placement, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"fits on this machine only in 4-bit.*pip install bitsandbytes"):
        placement.place("hf/middle", PHI_3_MINI, False)


def test_a_tuned_model_is_held_as_its_base_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is shorter once the base is loaded; 8 bits against full would measure the bits, not the tuning."""
    monkeypatch.setattr(placement, "placements", {})
    monkeypatch.setattr(placement, "memory_gb", lambda device: 20.0)
    first = placement.place("hf/one", PHI_3_MINI, False)
    monkeypatch.setattr(placement, "memory_gb", lambda device: 3.0)
    assert placement.place("hf/one", PHI_3_MINI, False) == first and first.precision == "full"


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a container the machine's free memory is not ours."""
    monkeypatch.setattr(placement, "CGROUP", tmp_path)
    without = placement.memory_gb("cpu")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    assert placement.memory_gb("cpu") == pytest.approx(without, rel=0.5)
    (tmp_path / "memory.max").write_text("700000000\n")
    assert placement.memory_gb("cpu") == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"float32": 200.0, "bfloat16": 210.0, "float16": 5.0}, "float32"),
        ({"float32": 200.0, "bfloat16": 900.0, "float16": 950.0}, "bfloat16"),
        ({"float32": 200.0, "float16": 900.0}, "float16"),
        ({"float32": 200.0, "bfloat16": 399.0}, "float32"),
    ],
)
def test_the_type_is_chosen_by_what_was_measured(
    rates: dict[str, float], chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its rate on this device and not by its name; what an assessment chose is what models are loaded in."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))

    def rate(device: str, dtype: str) -> float:
        if dtype not in rates:
            raise RuntimeError("no such type here")
        return rates[dtype]

    monkeypatch.setattr(placement, "gemm_gflops", rate)
    assert placement.chosen_dtype("cpu") == "float32"
    found = placement.measure_dtype()
    assert (found.dtype, found.gflops) == (chosen, rates)
    assert placement.chosen_dtype(found.device) == chosen
    assert placement.chosen_dtype("another") == "float32"


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"cpu": "float8"}), json.dumps({"cpu": 3})])
def test_a_damaged_measurement_is_none(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cut by a full disk must not stop every model from loading."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    (tmp_path / placement.MEASURED).write_text(content)
    assert placement.chosen_dtype("cpu") == "float32"


def test_rates_are_measured_and_positive() -> None:
    """The real measurement on this machine: some operations were done and timed."""
    assert placement.use_real_cores() >= 1
    assert placement.gemm_gflops("cpu", "float32", n=64, rounds=2) > 0.01
