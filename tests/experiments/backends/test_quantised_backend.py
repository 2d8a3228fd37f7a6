"""8 and 4 bits through bitsandbytes on this machine's processor: it loads, scores, trains and says what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_llama import make

from experiments.backends import placement
from experiments.backends.lora import LoraSettings
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import LanguageModel
from experiments.backends.sizing import Precision

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


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Forget the placements that other tests decided."""
    monkeypatch.setattr(placement, "placements", {})
    return monkeypatch


def scored(model: LanguageModel) -> tuple[float, ...]:
    return model.score(PROMPT, OPTIONS).logprobs


def loaded_as(
    folder: Path, precision: Precision, decided: pytest.MonkeyPatch, adapter: bytes | None = None
) -> LanguageModel:
    decided.setattr(placement, "choose", lambda *args, **kwargs: precision)
    decided.setattr(placement, "placements", {})
    backends = Backends(no_files if adapter is None else lambda sha256: adapter)
    return backends.language_model(f"hf/{folder}", "" if adapter is None else hashlib.sha256(adapter).hexdigest())


def test_a_medium_hosts_backends_hold_8_bits(folder: Path, decided: pytest.MonkeyPatch) -> None:
    """The flag of the shard reaches the model: planned as quantised, it is quantised, and the trial can say so."""
    model = Backends(no_files, quantized=True).language_model(f"hf/{folder}")
    assert model.describe()["numbers"] == "8-bit bitsandbytes, float32"
    kinds = {type(m).__name__ for m in model.model.modules()}  # type: ignore[attr-defined]
    assert "Linear8bitLt" in kinds
    assert Backends(no_files).language_model(f"hf/{folder}").describe()["numbers"] == "float32"


def test_fewer_bits_are_further_from_the_full_scores(folder: Path, decided: pytest.MonkeyPatch) -> None:
    """The weights are really quantised, and it is still the same model."""
    full = scored(loaded_as(folder, "full", decided))
    distance = [
        max(abs(a - b) for a, b in zip(full, scored(loaded_as(folder, precision, decided)), strict=True))
        for precision in ("8-bit", "4-bit")
    ]
    assert 0 < distance[0] < 0.3 and distance[0] < distance[1] < 3


@pytest.mark.parametrize("precision", ["8-bit", "4-bit"])
def test_lora_on_a_quantised_base(folder: Path, precision: Precision, decided: pytest.MonkeyPatch) -> None:
    """QLoRA, E2 on a medium host: the loss falls, and the adapter beside the quantised weights changes the scores."""
    base = scored(loaded_as(folder, precision, decided))
    training = Backends(no_files).train(f"hf/{folder}", EXAMPLES, EXAMPLES, SETTINGS, 42)
    assert training.validation_loss[-1] < training.validation_loss[0] - 0.1
    assert training.engine["numbers"].startswith(precision)
    tuned = scored(loaded_as(folder, precision, decided, training.adapter))
    assert tuned[0] > base[0] + 0.1
