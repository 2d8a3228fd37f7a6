"""A Llama of 60,000 parameters with a tokenizer of 61 words, made here: every engine loads and trains it in a moment."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = (
    "fruit",
    "tool",
    "apple",
    "pear",
    "plum",
    "hammer",
    "saw",
    "file",
    "is",
    "a",
    "Question",
    "Answer",
    ":",
    "?",
    ".",
    "or",
    "and",
)


def make(folder: Path, seed: int = 1) -> Path:
    """Write the model; random weights from the seed."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<unk>", "<end>", *WORDS, *(f"w{i}" for i in range(42))])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}Question : {{ m['content'] }} Answer :{% endfor %}"
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        # Freshly made weights are so small that every word is as likely as another.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(6)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
