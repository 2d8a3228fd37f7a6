"""Train one of E2's adapters on its dataset, as a trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.backends.lora import LoraSettings
from experiments.backends.model_cache import Backends
from experiments.contract import Json, PhaseConfig, Trial
from experiments.solving.distillation import Dataset, cut_to_tokens, dataset
from experiments.solving.memory_bank import Bank, MemoRecord


class Recipe(NamedTuple):
    """How an adapter is trained."""

    examples: int  # at most, with those held out
    validation: float  # share of them that is held out
    lora: LoraSettings


def train_adapter(
    spec: Json, config: PhaseConfig, recipe: Recipe, memos: Sequence[MemoRecord], bank: Bank, backends: Backends
) -> Trial:
    """Train on the dataset that the unit's spec names: s, r, or tokens, the longer of both cut to the other's tokens.

    Args:
        spec: of the unit: its dataset, its seed, and the hypothesis.
        config: of the phase.
        recipe: how to train.
        memos: the solved memory that the examples are made of.
        bank: the same memory, searched by what a query says.
        backends: they train, and attach the adapter.

    Returns:
        The training with its adapter, or with the reason why there is nothing to train on.
    """
    name = of = spec["dataset"]

    def made(name: str) -> Dataset:
        return dataset(name, bank.domain, memos, bank, config, recipe.examples, recipe.validation)

    if name == "tokens":
        counting = backends.language_model(config.model, precision=config.precision)
        of, (examples, held) = cut_to_tokens(made("s"), made("r"), counting.count_tokens)
    else:
        examples, held = made(name)
    if not examples:
        return untrained(spec, why_empty(name, of, any(m.success for m in memos), len(held)))
    training = backends.train(config.model, examples, held, recipe.lora, spec["seed"], config.precision, config.trainer)
    adapter = backends.attach(f"e2-{name}-{spec['seed']}.safetensors", training.adapter)
    return Trial(
        "training",
        f"train_{name}",
        seed=spec["seed"],
        tokens_in=training.tokens,
        latency_s=training.seconds,
        details={
            "hypothesis": spec["hypothesis"],
            "adapter": adapter,
            "adapter_bytes": len(training.adapter),
            "examples": len(examples),
            "of": of,
            "held": len(held),
            "engine": training.engine,
            "train_loss": training.train_loss,
            "validation_loss": training.validation_loss,
            "best_epoch": training.best_epoch,
        },
    )


def why_empty(name: str, of: str, solved: bool, held: int) -> str:
    """Return why a dataset has no example to train on.

    Args:
        name: of the dataset: s, r or tokens.
        of: for tokens the dataset that was cut, s or r.
        solved: whether any memo is solved.
        held: examples held out for validation.
    """
    if name != "r" and not solved:
        return f"no memo for dataset {name}: the baseline solved nothing"
    if name == "tokens":
        other = "r" if of == "s" else "s"
        return f"no example for dataset tokens: the first of dataset {of} has more tokens than all of dataset {other}"
    return f"no example for dataset {name}: validation holds out all of them, {held}"


def untrained(spec: Json, why: str) -> Trial:
    """Return the failed training of a unit; it names the hypothesis, so that a verdict on failures alone still does."""
    details = {"hypothesis": spec["hypothesis"]}
    return Trial("training", f"train_{spec['dataset']}", seed=spec["seed"], error=why, details=details)
