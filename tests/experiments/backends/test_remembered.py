"""Answers that are kept: each question reaches a model once, and only a question that is the same in all that decides it."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engines import FakeLanguageModel

from experiments.backends import catalog
from experiments.backends.lora import LoraSettings, Training
from experiments.backends.model_cache import no_files
from experiments.backends.protocols import Scores
from experiments.backends.remembered import RememberingBackends
from experiments.contract import Trial
from experiments.precision import Precision

LORA = LoraSettings(rank=1, alpha=1, dropout=0, learning_rate=1e-4, epochs=1, batch_size=1)


class FakeBackend:
    """Loads a fake model a key, which counts what it is asked, and trains nothing."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, bytes | None, str], FakeLanguageModel] = {}
        self.trained = 0

    def load(self, name: str, adapter: bytes | None, precision: Precision) -> FakeLanguageModel:
        return self.models.setdefault((name, adapter, precision.value), FakeLanguageModel())

    def trainer(self, *_: object) -> FakeBackend:
        return self

    def train(self, *_: object) -> Training:
        self.trained += 1
        return Training(b"adapter", 1.0, 10)

    @property
    def asked(self) -> list[tuple[str, tuple[str, ...]]]:
        return [
            q for model in self.models.values() for q in model.asked if q[0] != "1 + 1 ="
        ]  # the first question of all


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    found = FakeBackend()
    monkeypatch.setattr(catalog, "backend", lambda name: found)
    return found


def test_the_same_question_reaches_the_model_once(fake: FakeBackend) -> None:
    """The answer is the first one's, and a tuned model, another precision or another question is asked itself."""
    backends = RememberingBackends(lambda sha256: sha256.encode())
    model = backends.language_model("m")
    assert model.score("a", [" x", " y"]) == backends.language_model("m").score("a", [" x", " y"])
    assert len(fake.asked) == 1
    model.score("a", [" y", " x"])
    backends.language_model("m", precision=Precision.BFLOAT16).score("a", [" x", " y"])
    tuned = backends.language_model("m", "one")
    tuned.score("a", [" x", " y"])
    assert len(fake.asked) == 4


def test_answers_outlive_a_tuned_model_that_made_room_for_another(fake: FakeBackend) -> None:
    """One tuned model is loaded at a time; asked again after the other, the first gives what it gave."""
    backends = RememberingBackends(lambda sha256: sha256.encode())
    how: dict[str, Any] = {"temperature": 0.5, "seeds": [7]}
    first = backends.language_model("m", "one").generate(["q"], 4, **how)
    backends.language_model("m", "two").generate(["q"], 4, **how)
    assert backends.language_model("m", "one").generate(["q"], 4, **how) == first
    assert len(fake.asked) == 2
    backends.language_model("m", "one").generate(["q"], 4, temperature=0.5, seeds=[8])
    assert len(fake.asked) == 3


def test_an_adapter_is_trained_once_on_the_same_examples(fake: FakeBackend) -> None:
    """Other examples, or another seed, are another training."""
    backends = RememberingBackends(no_files)
    for seed in (1, 1, 2):
        backends.train("m", [("a", "b")], [], LORA, seed)
    assert fake.trained == 2
    backends.train("m", [("a", "c")], [], LORA, 1)
    assert fake.trained == 3


def test_stored_trials_answer_instead_of_the_model(fake: FakeBackend) -> None:
    """What another machine computed for the same plan is not computed again; calibrated and failed trials say too little."""
    backends = RememberingBackends(no_files)
    known = {"prompt": "a", "logprobs": [-1.0, -2.0]}
    trials = [
        Trial("p", "none", tokens_in=3, tokens_out=2, latency_s=0.5, details=known),
        Trial("q", "none", details={**known, "prompt": "b", "calibrated": [0.0, 0.0]}),
        Trial("r", "none", error="too long"),
    ]
    assert backends.remember("m", Precision.FLOAT32, trials, [" x", " y"]) == 1
    model = backends.language_model("m")
    assert model.score("a", [" x", " y"]) == Scores((-1.0, -2.0), 3, 2, 0.5)
    assert fake.asked == []
    model.score("b", [" x", " y"])
    assert [prompt for prompt, _ in fake.asked] == ["b"]


def test_hidden_states_are_there_as_well(fake: FakeBackend) -> None:
    """An embedder of a layer asks the model for more than a language model has to give."""
    model: Any = RememberingBackends(no_files).language_model("m")
    assert model.says == "a loop"
    assert not hasattr(model, "states")
