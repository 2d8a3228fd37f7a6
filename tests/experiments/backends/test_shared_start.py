"""LoRA reads what a batch's rows begin with once: the same loss and the same gradients as reading every row whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_llama import make

from experiments.backends.lora import Row, encode, shared_start
from experiments.backends.peft_trainer import summed_loss
from experiments.backends.transformers_lm import load_base

TASK = "Question : is a fruit or a tool ? "
PAIRS = [
    (f"{TASK}{words} Answer :", end)
    for words, end in (("apple", " fruit"), ("saw and a file", " a tool"), ("w1 w2 .", " w3"))
]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """(a tiny Llama with an adapter whose B is not zero, so that A has gradients too; its tokenizer)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("home")))
        base, tokenizer = load_base(f"hf/{make(tmp_path_factory.mktemp('tiny') / 'llama')}")
    torch.manual_seed(3)
    settings = LoraConfig(
        r=2, lora_alpha=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, settings).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model, tokenizer


def whole(model: Any, rows: list[Row]) -> Any:
    """The loss by one full forward pass a row, nothing shared and nothing padded."""
    total = 0.0
    for ids, labels in rows:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels[1:]), ignore_index=-100, reduction="sum"
        )
    return total


def gradients(model: Any, loss: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "pairs", [PAIRS, PAIRS[:1], [*PAIRS, ("pear :", " fruit")]], ids=["shared", "alone", "nothing shared"]
)
def test_loss_and_gradients_are_those_of_whole_rows(tuned: tuple[Any, Any], pairs: list[tuple[str, str]]) -> None:
    """Keys and values read once carry the gradient of every row; without them a third of the learning would be lost."""
    model, tokenizer = tuned
    rows = [encode(tokenizer, pair, 64) for pair in pairs]
    assert (shared_start(rows) > 0) == (len(pairs) < 4)
    shared, plain = summed_loss(model, rows, 0), whole(model, rows)
    assert shared.item() == pytest.approx(plain.item(), abs=1e-4)
    found, expected = gradients(model, shared), gradients(model, plain)
    assert found.keys() == expected.keys() and len(found) == 8
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert torch.allclose(found[name], gradient, atol=1e-4, rtol=1e-3), name


def test_the_token_before_the_first_learned_one_is_each_rows_own() -> None:
    """Its logits are needed; rows that are equal up to their completion share all but it."""
    labels = [-100, -100, -100, 7, 8]
    assert shared_start([Row([1, 2, 3, 7, 8], labels), Row([1, 2, 3, 9, 8], labels)]) == 2
    assert shared_start([Row([1, 2, 3, 7, 8], labels), Row([1, 5, 3, 7, 8], labels)]) == 1
    assert shared_start([Row([7, 8], [7, 8])]) == 0
    assert shared_start([Row([1, 7], [-100, 7])]) == 0
