"""What the share of the machine's matrix rate counts: operations by hand, and the seconds of a model's own passes."""

from __future__ import annotations

import time
from types import SimpleNamespace

import torch

from benchmarks.common import Clock
from benchmarks.prefill_gemm import operations, timed_passes

SHAPE = SimpleNamespace(hidden_size=4, num_hidden_layers=3, vocab_size=10)


def test_operations_are_those_of_the_formula() -> None:
    """The share is believed for its numerator: two tokens in 100 parameters, three pairs, and the vocabulary once."""
    assert operations(100, SHAPE, 2) == 2 * 100 * 2 + 4 * 4 * 3 * 3 + 2 * 4 * 10
    # An option's token sees the prompt and itself, and has logits of its own.
    assert operations(100, SHAPE, 2, 1) - operations(100, SHAPE, 2) == 2 * 100 + 4 * 4 * 3 * 3 + 2 * 4 * 10


def test_each_pass_of_the_model_is_timed_once() -> None:
    """The first pass reads the prompt: counted with the options' it would be another share under the same name."""

    class Slow(torch.nn.Module):
        def forward(self, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

    model = Slow()
    passes = timed_passes(model)
    for seconds in (0.02, 0.001):
        model(seconds)
    assert len(passes) == 2 and passes[0] >= 0.02 and passes[1] >= 0.001


def test_a_sides_best_turn_is_its_shortest() -> None:
    """On a machine that others use the sums compare their work; the best turns compare ours."""
    clock = Clock()
    for seconds in (0.02, 0.001, 0.03):
        with clock.side("ours"):
            time.sleep(seconds)
    # The other two turns, whichever they were, took 0.05 s at least.
    assert 0.001 <= clock.best["ours"] <= clock.seconds["ours"] - 0.05
