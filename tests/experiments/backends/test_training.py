"""LoRA training of SmolLM2 on a few short examples: it learns, repeats to the byte, keeps the best epoch."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.backends.lora import LoraSettings, Training, encode
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.protocols import LanguageModel, Unavailable
from experiments.backends.transformers_lm import WINDOW_TOKENS, with_adapter

MODEL = "smollm2-135m"
ASK = "Fruit or tool? {}. Answer:"
EXAMPLES = [(ASK.format(name), " fruit") for name in ("apple", "pear", "blackcurrant jam")]
HELD = [(ASK.format("plum"), " tool")]
GENTLE = LoraSettings(
    rank=2, alpha=4, dropout=0.1, learning_rate=1e-3, epochs=2, batch_size=2, accumulation=2, warmup=0.5
)
# So steep that the second epoch has learned "fruit" too well for the held-out "tool".
STEEP = LoraSettings(rank=2, alpha=4, dropout=0.0, learning_rate=2e-2, epochs=6, batch_size=2, patience=1)


@pytest.fixture(scope="module")
def at_home(weights_home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(weights_home))
        yield


@pytest.fixture(scope="module")
def gentle(at_home: None) -> Training:
    return PeftTrainer(MODEL).train(EXAMPLES, EXAMPLES, GENTLE, 42)


@pytest.fixture(scope="module")
def steep(at_home: None) -> Training:
    return PeftTrainer(MODEL).train(EXAMPLES[:2], HELD, STEEP, 42)


def keep(files: dict[str, bytes], content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    files[sha256] = content
    return sha256


def test_a_tokenizer_without_an_end_has_examples_without_one() -> None:
    """Its end was None among the tokens, and a traceback in the middle of a training."""

    class FakeTokenizer:
        eos_token_id = None

        def __call__(self, text: str, **_: object) -> Any:
            return SimpleNamespace(input_ids=[ord(c) for c in text])

    assert encode(FakeTokenizer(), ("ab", "c"), 8).ids == [97, 98, 99]


def plain_loss(lm: Any, pair: tuple[str, str]) -> float:
    """Mean negative log-likelihood of the completion and the end mark, by one full forward pass."""
    first = lm.tokenizer(pair[0]).input_ids
    last = [*lm.tokenizer(pair[1], add_special_tokens=False).input_ids, lm.tokenizer.eos_token_id]
    with torch.inference_mode():
        logprobs = torch.log_softmax(lm.model(input_ids=torch.tensor([first + last])).logits[0].double(), dim=-1)
    return -sum(logprobs[len(first) + j - 1, token].item() for j, token in enumerate(last)) / len(last)


def test_training_lowers_the_loss_on_its_examples(gentle: Training) -> None:
    """The plainest proof that something is learned: before, after the first and after the second epoch."""
    before, *after = gentle.validation_loss
    assert len(after) == len(gentle.train_loss) == 2
    assert before > after[0] > after[1]
    assert gentle.best_epoch == 2
    assert gentle.seconds > 0


def test_the_loss_before_training_is_the_base_models(gentle: Training, lm: LanguageModel) -> None:
    """An untrained adapter changes nothing, and the loss counts the completion and the end mark alone."""
    assert gentle.validation_loss[0] == pytest.approx(sum(plain_loss(lm, e) for e in EXAMPLES) / 3, abs=1e-3)


def test_tokens_seen_are_counted_without_padding(gentle: Training, lm: LanguageModel) -> None:
    """The token criterion of E2 compares these numbers; padding would favour the data set of equal lengths."""
    each = [lm.count_tokens(p) + lm.count_tokens(c) + 1 for p, c in EXAMPLES]
    assert len(set(each)) > 1
    assert gentle.tokens == 2 * sum(each)


def test_the_same_seed_gives_the_same_adapter(gentle: Training) -> None:
    """A unit is its hash: run again elsewhere it must give these bytes, whatever was drawn in between; dropout is on."""
    torch.rand(3)
    state = torch.random.get_rng_state()
    again = PeftTrainer(MODEL).train(EXAMPLES, EXAMPLES, GENTLE, 42)
    assert again.adapter == gentle.adapter
    assert (again.train_loss, again.validation_loss) == (gentle.train_loss, gentle.validation_loss)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (
        PeftTrainer(MODEL).train(EXAMPLES[:1], [], GENTLE.model_copy(update={"epochs": 1}), 43).adapter
        != gentle.adapter
    )


def test_early_stopping_keeps_the_best_epoch(
    steep: Training, engines: Backends, files: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """It stops one epoch after the best, and the adapter it gives is the best epoch's: reloaded, it has that loss."""
    assert len(steep.validation_loss) - 1 < STEEP.epochs
    best = min(range(len(steep.validation_loss)), key=lambda i: steep.validation_loss[i])
    assert steep.best_epoch == best == len(steep.validation_loss) - 2 > 0
    tuned = engines.language_model(MODEL, keep(files, steep.adapter))
    assert plain_loss(tuned, HELD[0]) == pytest.approx(steep.validation_loss[best], abs=1e-3)
    assert capfd.readouterr() == ("", "")


def test_an_adapter_changes_the_tuned_model_and_not_the_base(
    gentle: Training, steep: Training, engines: Backends, files: dict[str, bytes]
) -> None:
    """The round trip through bytes: other scores with each adapter, the base's own bits before and after."""
    options = [" fruit", " tool"]
    base = engines.language_model(MODEL).score(EXAMPLES[0][0], options).logprobs
    scores = [base]
    for training in (gentle, steep):
        sha256 = keep(files, training.adapter)
        scores.append(engines.language_model(MODEL, sha256).score(EXAMPLES[0][0], options).logprobs)
        # One tuned model at a time: each holds half a gigabyte.
        assert [k for k in engines.models if k[1]] == [(MODEL, sha256, "float32")]
    assert len(set(scores)) == 3
    assert all(tuned[0] > base[0] for tuned in scores[1:])
    assert engines.language_model(MODEL).score(EXAMPLES[0][0], options).logprobs == base


def test_the_adapters_header_says_how_to_load_it(gentle: Training) -> None:
    """The file travels alone to another host: rank, alpha and targets must be inside, and no pickle."""
    length = int.from_bytes(gentle.adapter[:8], "little")
    header = json.loads(gentle.adapter[8 : 8 + length])
    lora = json.loads(header.pop("__metadata__")["lora"])
    assert lora == {"r": 2, "lora_alpha": 4, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
    assert header and all("lora_" in name and row["dtype"] == "F32" for name, row in header.items())


def test_only_the_completion_is_learned(lm: Any) -> None:
    """Labels of the prompt are masked; with a prompt too long, its beginning is cut and the completion stays whole."""
    ids, labels = encode(lm.tokenizer, EXAMPLES[0], WINDOW_TOKENS)
    learned = [i for i, label in zip(ids, labels, strict=True) if label != -100]
    assert lm.tokenizer.decode(learned) == f" fruit{lm.tokenizer.eos_token}"
    assert lm.tokenizer.decode(ids[: -len(learned)]) == EXAMPLES[0][0]
    ids, labels = encode(lm.tokenizer, ("word " * WINDOW_TOKENS, " fruit"), WINDOW_TOKENS)
    assert len(ids) == len(labels) == WINDOW_TOKENS
    assert [label for label in labels if label != -100] == learned


@pytest.mark.parametrize("missing", ["torch", "peft", "safetensors.torch"])
def test_a_missing_library_is_unavailable(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3 and E2 turn this into a failed training with its reason; anything else would crash the shard."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Unavailable, match="pip install"):
        PeftTrainer(MODEL).train(EXAMPLES, [], GENTLE, 42)
    if missing != "torch":
        with pytest.raises(Unavailable, match="pip install"):
            with_adapter(None, b"")


def test_a_host_without_a_file_store_cannot_fetch_an_adapter() -> None:
    """The error must say which file was wanted."""
    with pytest.raises(Unavailable, match="abc123"):
        no_files("abc123")
