"""MLX for real on this machine's processor: a tiny Llama made here, and SmolLM2 against the transformers engine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_llama import make

from experiments.backends import mlx_backend, transformers_backend
from experiments.backends.lora import LoraSettings, Training
from experiments.backends.mlx_lm_engine import from_peft, load_base, rotation, to_peft
from experiments.backends.mlx_trainer import MlxTrainer
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import LanguageModel, Missing, Unavailable
from experiments.contract import Trainer
from experiments.precision import Precision

pytest.importorskip("mlx_lm", reason="mlx-lm is not installed: pip install 'mlx[cpu]' mlx-lm")

PROMPT = "Question : apple is a fruit or a tool ? Answer :"
OPTIONS = [" fruit", " tool", " a fruit", " a tool and a saw"]
EXAMPLES = [(f"Question : {w} is a fruit or a tool ? Answer :", " fruit") for w in ("apple", "pear", "plum")]
SETTINGS = LoraSettings(
    rank=4, alpha=8, dropout=0.1, learning_rate=1e-2, epochs=4, batch_size=2, accumulation=2, warmup=0.2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield make(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> LanguageModel:
    return Backends(no_files).language_model(f"mlx/{folder}")


@pytest.fixture(scope="module")
def same(folder: Path) -> LanguageModel:
    """The same weights through transformers."""
    return Backends(no_files).language_model(f"hf/{folder}")


@pytest.fixture(scope="module")
def training(folder: Path) -> Training:
    return MlxTrainer(f"mlx/{folder}").train(EXAMPLES, EXAMPLES, SETTINGS, 42)


def tuned(name: str, adapter: bytes) -> LanguageModel:
    return Backends(lambda sha256: adapter).language_model(name, hashlib.sha256(adapter).hexdigest())


def test_both_engines_give_the_same_numbers(tiny: LanguageModel, same: LanguageModel) -> None:
    """Scores, likelihood and greedy words of the same weights, to float32's rounding: a result must not name its engine."""
    one, other = tiny.score(PROMPT, OPTIONS), same.score(PROMPT, OPTIONS)
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert (one.tokens_in, one.tokens_out) == (other.tokens_in, other.tokens_out) and one.latency_s > 0
    (loss, n), (expected, m) = tiny.negative_log_likelihood(PROMPT), same.negative_log_likelihood(PROMPT)
    assert n == m == 11 and loss == pytest.approx(expected, abs=1e-3)
    assert [r.text for r in tiny.generate([PROMPT, "a tool"], 6)] == [
        r.text for r in same.generate([PROMPT, "a tool"], 6)
    ]
    assert tiny.generate(["pear"], 3, chat=True)[0].text == same.generate(["pear"], 3, chat=True)[0].text
    assert tiny.count_tokens(PROMPT) == same.count_tokens(PROMPT) == 12
    assert tiny.digest() == same.digest()


def test_sampling_is_the_seeds_alone(tiny: LanguageModel) -> None:
    """The same prompt and seed give the same text in any company; other seeds give others; a stop ends it."""
    alone = tiny.generate([PROMPT], 8, temperature=1.0, seeds=[2**90 + 1])[0].text
    among = [r.text for r in tiny.generate(["a tool", PROMPT], 8, temperature=1.0, seeds=[5, 2**90 + 1])]
    assert among[1] == alone
    assert len({r.text for r in tiny.generate([PROMPT] * 4, 8, temperature=1.0, seeds=[1, 2, 3, 4])}) > 1
    word = alone.split()[2]
    assert word not in tiny.generate([PROMPT], 8, stop=word, temperature=1.0, seeds=[2**90 + 1])[0].text
    with pytest.raises(ValueError, match="1 seeds for 2 prompts"):
        tiny.generate(["a", "b"], 1, temperature=1.0, seeds=[1])


def test_training_lowers_the_loss_and_the_adapter_changes_the_answers(
    training: Training, tiny: LanguageModel, folder: Path
) -> None:
    """A few steps through MLX: the loss falls, and the adapter that was saved gives that loss and other scores when loaded."""
    before, *after = training.validation_loss
    assert len(after) == SETTINGS.epochs and after[-1] < after[0] < before
    assert training.best_epoch == SETTINGS.epochs and training.tokens == SETTINGS.epochs * 3 * (12 + 2)
    loaded = tuned(f"mlx/{folder}", training.adapter)
    fruit, tool = loaded.score(PROMPT, OPTIONS[:2]).logprobs
    untuned = tiny.score(PROMPT, OPTIONS[:2]).logprobs
    assert fruit > untuned[0] + 0.5 and fruit - tool > untuned[0] - untuned[1]
    each = [-sum(loaded.score(p, [c]).logprobs) / 2 for p, c in EXAMPLES]
    # An answer also ends with its line; the loss knows the end of the turn alone.
    assert sum(each) / 3 == pytest.approx(after[-1], abs=0.05) and sum(each) / 3 < after[-1] < before - 0.2


def test_an_adapter_is_one_file_for_both_engines(training: Training, folder: Path) -> None:
    """Trained on the Mac and run on a card, or the other way: the same scores from the same bytes."""
    by_mlx = tuned(f"mlx/{folder}", training.adapter).score(PROMPT, OPTIONS).logprobs
    assert tuned(f"hf/{folder}", training.adapter).score(PROMPT, OPTIONS).logprobs == pytest.approx(by_mlx, abs=1e-3)
    pefts = (
        transformers_backend.trainer(f"hf/{folder}", Precision.FLOAT32, "peft")
        .train(EXAMPLES, [], SETTINGS, 42)
        .adapter
    )
    by_peft = tuned(f"hf/{folder}", pefts).score(PROMPT, OPTIONS).logprobs
    assert tuned(f"mlx/{folder}", pefts).score(PROMPT, OPTIONS).logprobs == pytest.approx(by_peft, abs=1e-3)
    assert from_peft(to_peft("model.layers.0.self_attn.q_proj.lora_a")) == "model.layers.0.self_attn.q_proj.lora_a"


def test_the_same_seed_gives_the_same_adapter(training: Training, folder: Path) -> None:
    """A unit is its hash: run again it must give these bytes; dropout is on."""
    again = MlxTrainer(f"mlx/{folder}").train(EXAMPLES, EXAMPLES, SETTINGS, 42)
    assert again.adapter == training.adapter and again.train_loss == training.train_loss
    assert MlxTrainer(f"mlx/{folder}").train(EXAMPLES, [], SETTINGS, 43).adapter != training.adapter


def test_quantised_by_mlx(tiny: LanguageModel, folder: Path) -> None:
    """As planned, each said in the trial, nearer to the full scores the more bits."""
    full, distance = tiny.score(PROMPT, OPTIONS).logprobs, []
    for precision, bits in ((Precision.INT8, 8), (Precision.FOUR_BIT, 4)):
        model = Backends(no_files).language_model(f"mlx/{folder}", precision=precision)
        assert model.describe()["numbers"] == f"{precision}, float32"
        assert {m.bits for _, m in model.model.named_modules() if hasattr(m, "bits")} == {bits}  # type: ignore[attr-defined]
        found = model.score(PROMPT, OPTIONS).logprobs
        distance.append(max(abs(a - b) for a, b in zip(full, found, strict=True)))
    assert 0 < distance[0] < distance[1]


def test_results_name_the_engine(tiny: LanguageModel, same: LanguageModel, training: Training) -> None:
    """Which engine, version, device and numbers: without them nobody could tell why two hosts differ."""
    assert tiny.describe()["engine"] == "mlx-lm" and tiny.describe()["numbers"] == "float32"
    assert same.describe()["engine"] == "transformers" and same.describe()["numbers"] == "float32"
    assert training.engine["engine"] == "mlx-lm" and training.engine["numbers"] == "float32"
    half = Backends(no_files).language_model(tiny.name, precision=Precision.BFLOAT16)
    assert half.describe()["numbers"] == "bfloat16"


@pytest.mark.parametrize(("trainer", "engine"), [("mlx", "mlx-lm"), ("peft", "peft")])
def test_the_plan_says_what_trains(folder: Path, trainer: Trainer, engine: str) -> None:
    """Chosen by what a host measured, one unit would have two results."""
    settings = SETTINGS.model_copy(update={"epochs": 1})
    found = Backends(no_files).train(f"mlx/{folder}", EXAMPLES, [], settings, 42, trainer=trainer)
    assert found.engine["engine"] == engine


def test_without_mlx_the_command_that_installs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named on a machine that has none, the model fails with the way out and not with an import."""
    import sys

    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    monkeypatch.setitem(sys.modules, "mlx_lm.utils", None)
    with pytest.raises(Unavailable, match=r"pip install .*mlx"):
        load_base(f"mlx/{folder}")
    monkeypatch.setattr(mlx_backend, "missing", lambda prefix: Missing("mlx-lm", "pip install mlx-lm"))
    assert mlx_backend.local_models() == []
    with pytest.raises(Unavailable, match="mlx-lm is not installed"):
        mlx_backend.trainer(f"mlx/{folder}", Precision.FLOAT32, "mlx")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}}, {"rope_theta": 1e5}),
        ({"rope_theta": 5e4, "rope_parameters": {"rope_theta": 1e5}}, {}),
        (
            {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}},
            {"rope_theta": 5e5, "rope_scaling": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}},
        ),
        ({"hidden_size": 8}, {}),
    ],
)
def test_mlx_gets_the_rotary_base(config: dict[str, Any], expected: dict[str, Any]) -> None:
    """Left to its default, every position would be turned by other angles, and answers would be worse without a warning."""
    assert rotation(config) == expected


@pytest.mark.slow
def test_smollm2_scores_as_through_transformers(engines: Backends, lm: Any) -> None:
    """The same choices on a handful of problems: log-probabilities to 0.01 nats, float32 in both, and the same ranks."""
    options = [" O(1)", " O(n)", " O(n^2)"]
    through_mlx = engines.language_model("mlx/smollm2-135m")
    for code in ("return xs[0]", "for x in xs: print(x)", "sum(xs) ** 2"):
        prompt = f"Code:\n{code}\nTime complexity:"
        one, other = through_mlx.score(prompt, options).logprobs, lm.score(prompt, options).logprobs
        assert one == pytest.approx(other, abs=0.01)
        assert sorted(range(3), key=lambda i: one[i]) == sorted(range(3), key=lambda i: other[i])
    assert math.isfinite(through_mlx.negative_log_likelihood("Rain falls.")[0])
