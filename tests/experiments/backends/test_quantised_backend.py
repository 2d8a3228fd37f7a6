"""8 and 4 bits through bitsandbytes on this machine's processor: it loads, scores, trains and says what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_llama import make

from experiments.backends.lora import LoraSettings
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import LanguageModel
from experiments.precision import Precision

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install '.[medium]'")

PROMPT = "Question : apple is a fruit or a tool ? Answer :"
OPTIONS = [" fruit", " tool", " a fruit", " a tool"]
EXAMPLES = [(f"Question : {w} is a fruit or a tool ? Answer :", " fruit") for w in ("apple", "pear", "plum")]
SETTINGS = LoraSettings(rank=4, alpha=8, dropout=0.0, learning_rate=1e-2, epochs=4, batch_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield make(tmp_path_factory.mktemp("tiny") / "llama")


def scored(model: LanguageModel) -> tuple[float, ...]:
    return model.score(PROMPT, OPTIONS).logprobs


def loaded_as(folder: Path, precision: Precision, adapter: bytes | None = None) -> LanguageModel:
    backends = Backends(no_files if adapter is None else lambda sha256: adapter)
    sha256 = "" if adapter is None else hashlib.sha256(adapter).hexdigest()
    return backends.language_model(f"hf/{folder}", sha256, precision)


def test_a_model_is_loaded_in_the_precision_that_is_asked(folder: Path) -> None:
    """Planned in 8 bits, it is in 8 bits, and the trial says so."""
    model = loaded_as(folder, Precision.INT8)
    assert model.describe()["numbers"] == "int8 bitsandbytes, float32"
    kinds = {type(m).__name__ for m in model.model.modules()}  # type: ignore[attr-defined]
    assert "Linear8bitLt" in kinds
    assert loaded_as(folder, Precision.FLOAT32).describe()["numbers"] == "float32"
    assert loaded_as(folder, Precision.BFLOAT16).describe()["numbers"] == "bfloat16"


def test_fewer_bits_are_further_from_the_full_scores(folder: Path) -> None:
    """The weights are really quantised, and it is still the same model."""
    full = scored(loaded_as(folder, Precision.FLOAT32))
    distance = [
        max(abs(a - b) for a, b in zip(full, scored(loaded_as(folder, precision)), strict=True))
        for precision in (Precision.INT8, Precision.FOUR_BIT)
    ]
    assert 0 < distance[0] < 0.3 and distance[0] < distance[1] < 3


def test_4_bits_are_the_same_numbers_on_every_processor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On processors with AVX512-BF16 bitsandbytes multiplies 4-bit matrices in bfloat16, unless it is kept from it."""
    here = scored(loaded_as(folder, Precision.FOUR_BIT))
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    assert scored(loaded_as(folder, Precision.FOUR_BIT)) == here


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8, Precision.FOUR_BIT])
def test_lora_on_a_base_of_fewer_bits(folder: Path, precision: Precision) -> None:
    """The loss falls, and the adapter beside the weights changes the scores."""
    base = scored(loaded_as(folder, precision))
    training = Backends(no_files).train(f"hf/{folder}", EXAMPLES, EXAMPLES, SETTINGS, 42, precision)
    assert training.validation_loss[-1] < training.validation_loss[0] - 0.1
    assert training.engine["numbers"].startswith(precision.value)
    tuned = scored(loaded_as(folder, precision, training.adapter))
    assert tuned[0] > base[0] + 0.1
