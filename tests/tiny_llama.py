"""Llamas of random weights with small tokenizers, made here: every engine loads and trains them in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = "fruit tool apple pear plum hammer saw file is a Question Answer : ? . or and".split()


def make(folder: Path, seed: int = 1) -> Path:
    """Write a model of 60,000 parameters that knows 61 words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {word: i for i, word in enumerate(["<unk>", "<end>", *WORDS, *(f"w{i}" for i in range(42))])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return _write(folder, tokenizer, seed, width=64, layers=2, window=256)


def make_for_any_text(folder: Path, seed: int = 1) -> Path:
    """Write a model of half a million parameters whose tokens are bytes, for whole phases."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {word: i for i, word in enumerate(["<unk>", "<end>", *sorted(ByteLevel.alphabet())])}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Decoder()
    return _write(folder, tokenizer, seed, width=128, layers=4, window=8192)


def _write(folder: Path, plain: Any, seed: int, width: int, layers: int, window: int) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}Question : {{ m['content'] }} Answer :{% endfor %}"
    config = LlamaConfig(
        vocab_size=plain.get_vocab_size(),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=window,
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
