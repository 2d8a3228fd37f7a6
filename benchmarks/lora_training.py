"""How many more tokens a second does our LoRA training learn from than plain peft?

    python -m benchmarks.lora_training --examples 32 --rounds 3

    {
      "benchmark": "lora_training",
      "ratio": 1.31,
      "needed": 1.3,
      "seconds": {"ours": 114.478, "plain_peft": 152.707},
      "counts": {"examples": 32, "rounds": 3, "tokens_a_round": 6932, "steps_a_round": 2},
      "compared": "smollm2-135m: plain peft against train() on dataset S; same rows in each step, loading included, losses agree",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 1.9, "torch": "2.13.0+cpu"},
      "best_round_s": {"ours": 37.38, "plain_peft": 48.8},
      "tokens_per_s": {"ours": 185.4, "plain_peft": 142.0},
      "final_loss": {"ours": 2.76175, "plain_peft": 2.76175}
    }

Ours is experiments.backends.peft_trainer.PeftTrainer: rows of like length stand together within a step, what a batch's rows begin
with is read once, and logits are made only from the first learned token on. The plain way pads random batches of four to their
longest row and makes all logits. Both have E2's settings, the dataset S of as many memos, the same start, the same rows in each
optimizer step and the model's loading in their seconds; dropout is 0, so that the losses must agree, which is checked. Each
way's best round counts, after one of a single example in each, so that neither pays for an import or for other work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks.common import Clock, show
from experiments import e2_finetuned_retrieval as e2
from experiments.backends.lora import LoraSettings
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.peft_trainer import PeftTrainer
from experiments.backends.quiet import quiet
from experiments.backends.transformers_lm import load_base
from experiments.data import split
from experiments.domains import get_domain
from experiments.seeds import generator, seed_for
from experiments.solving.distillation import Pair, distilled
from experiments.solving.memory_bank import Bank
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo

NAME = "lora_training"
NEEDED = 1.3
AGREE_NATS = 1e-3  # a token; float32 sums in another order differ by less


def collate(tokenizer: Any, pairs: Sequence[Pair]) -> dict[str, Any]:
    """A batch padded to its longest row; the prompt's labels are -100."""
    import torch

    rows = []
    for prompt, completion in pairs:
        asked, told = tokenizer(prompt).input_ids, tokenizer(completion, add_special_tokens=False).input_ids
        rows.append((asked + told + [tokenizer.eos_token_id], [-100] * len(asked) + told + [tokenizer.eos_token_id]))
    longest = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]),
    }


def plain_train(name: str, pairs: Sequence[Pair], settings: LoraSettings, seed: int) -> list[float]:
    """Mean loss a completion token of each epoch, by the plain way."""
    import torch
    from peft import LoraConfig, get_peft_model

    base, tokenizer = load_base(name)
    torch.manual_seed(seed_for(seed, "lora") % 2**63)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        task_type="CAUSAL_LM",
    )
    with quiet():
        model = get_peft_model(base, lora).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=settings.learning_rate)
    group, size = settings.batch_size * settings.accumulation, settings.batch_size
    rising = max(1, round(settings.warmup * settings.epochs * -(-len(pairs) // group)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / rising))
    rng, losses = generator(seed, "lora-order"), []
    for _ in range(settings.epochs):
        order, total, learned = [pairs[i] for i in rng.permutation(len(pairs))], 0.0, 0
        for i in range(0, len(order), group):
            step = order[i : i + group]
            batches = [collate(tokenizer, step[j : j + size]) for j in range(0, len(step), size)]
            counts = [int((b["labels"] != -100).sum()) for b in batches]
            for batch, count in zip(batches, counts, strict=True):
                loss = model(**batch).loss * count
                (loss / sum(counts)).backward()
                total, learned = total + loss.item(), learned + count
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(total / learned)
    return losses


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Raises:
        ValueError: the two ways came to different losses.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=32, help="examples of dataset S; 16 are one optimizer step")
    parser.add_argument(
        "--rounds", type=int, default=3, help="trainings of one epoch in each way, in turn; the best count"
    )
    given = parser.parse_args(arguments)
    config = e2.Config(lora=e2.PROTOCOL_LORA.model_copy(update={"epochs": 1, "dropout": 0.0}))
    domain, backends, retrieval = get_domain(config.domain), Backends(no_files), RetrievalConfig(k=config.k)
    memory, _ = split(config, given.examples, 6)
    memos = [Memo(p, p.truth, i) for i, p in enumerate(memory)]
    bank = Bank(domain, memos, backends.embedder(retrieval.embedder), retrieval)
    pairs = [distilled(domain, p, bank, config) for p in memory]
    # Not timed: the weights are converted the first time, and peft is imported.
    PeftTrainer(config.model).train(pairs[:1], [], config.lora, config.data_seed)
    plain_train(config.model, pairs[:1], config.lora, config.data_seed)
    clock = Clock()
    for _ in range(given.rounds):
        with clock.side("ours"):
            training = PeftTrainer(config.model).train(pairs, [], config.lora, config.data_seed)
        with clock.side("plain_peft"):
            loss = plain_train(config.model, pairs, config.lora, config.data_seed)[-1]
        if abs(loss - training.train_loss[-1]) > AGREE_NATS:
            raise ValueError(f"loss {loss} in the plain way, {training.train_loss[-1]} in ours: unequal work")
    show(
        NAME,
        clock.best["plain_peft"] / clock.best["ours"],
        NEEDED,
        clock.seconds,
        {
            "examples": len(pairs),
            "rounds": given.rounds,
            "tokens_a_round": training.tokens,
            "steps_a_round": -(-len(pairs) // (config.lora.batch_size * config.lora.accumulation)),
        },
        f"{config.model}: plain peft against train() on dataset S; same rows in each step, loading included, losses agree",
        best_round_s={side: round(seconds, 2) for side, seconds in clock.best.items()},
        tokens_per_s={side: round(training.tokens / seconds, 1) for side, seconds in clock.best.items()},
        final_loss={"ours": round(training.train_loss[-1], 6), "plain_peft": round(loss, 6)},
    )


if __name__ == "__main__":
    main()
