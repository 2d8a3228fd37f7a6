"""SmolLM2 itself: scores against a plain forward pass, batches against single calls, and silence while loading."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import LabError
from experiments.backends.catalog import digest_of
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import LanguageModel, Unavailable
from experiments.backends.transformers_lm import WINDOW_TOKENS, load_base
from experiments.data import universe
from experiments.domains import get_domain
from experiments.registry import configure
from experiments.solving.solving import prompt_for

DOMAIN = get_domain("big_o")
OPTIONS = [f" {o}" for o in DOMAIN.options]
PROBLEMS = universe(configure("p2", "smoke", {"n_problems": 24})).problems[:3]


def prompt(i: int) -> str:
    return prompt_for(DOMAIN, PROBLEMS[i], [])


def plain_logprob(lm: Any, before: str, after: str) -> float:
    """Log-probability of `after` as the whole answer: one full forward pass over both, without cache, batch or padding."""
    first, last = lm.tokenizer(before).input_ids, lm.tokenizer(after, add_special_tokens=False).input_ids
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.tensor([first + last]), use_cache=False).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)
    ends = [i for i in range(49_152) if lm.tokenizer.decode([i]).lstrip(" \t").startswith(("\n", "\r"))]
    end = torch.logsumexp(logprobs[-1, [*ends, *lm.tokenizer.all_special_ids]], 0).item()
    return end + sum(logprobs[len(first) + j - 1, token].item() for j, token in enumerate(last))


def test_converting_loading_and_training_print_nothing(first_load: Any) -> None:
    """Bars and warnings of three libraries would fill the log of every unit; the first load converts as well."""
    assert first_load.printed == ""


def test_the_conversion_is_found_again(lm: LanguageModel, weights_home: Path) -> None:
    """Converting takes ten seconds: once a host, under the digest of the weights, and nothing half made is left."""
    assert [p.name for p in (weights_home / "models").iterdir()] == [f"smollm2-135m-{digest_of('smollm2-135m')[:16]}"]


def test_scores_are_those_of_a_plain_forward_pass(lm: LanguageModel) -> None:
    """All options in one batch on one prefill must give what each gives alone: every attempt rests on these numbers."""
    scores = lm.score(prompt(0), OPTIONS)
    for option, found in zip(OPTIONS, scores.logprobs, strict=True):
        assert found == pytest.approx(plain_logprob(lm, prompt(0), option), abs=1e-3)
    assert len(set(scores.logprobs)) == len(OPTIONS)
    assert scores.tokens_in == lm.count_tokens(prompt(0))
    assert scores.tokens_out == sum(lm.count_tokens(o) for o in OPTIONS)
    assert scores.latency_s > 0


def test_padding_and_company_do_not_matter(lm: LanguageModel) -> None:
    """A short option padded to a long one's length, or in another order, keeps its score."""
    together = lm.score(prompt(1), OPTIONS).logprobs
    backwards = lm.score(prompt(1), OPTIONS[::-1]).logprobs[::-1]
    with_longer = lm.score(prompt(1), [OPTIONS[0], " a much longer answer than all of the others here"]).logprobs[0]
    assert backwards == pytest.approx(together, abs=1e-3)
    assert with_longer == pytest.approx(together[0], abs=1e-3)


def test_scoring_twice_gives_the_same_bits(lm: LanguageModel) -> None:
    """A unit that is run again must give the same attempts, also after other prompts were scored in between."""
    first = lm.score(prompt(2), OPTIONS).logprobs
    lm.score(prompt(0), OPTIONS[:2])
    assert lm.score(prompt(2), OPTIONS).logprobs == first


@pytest.mark.parametrize("chat", [False, True])
def test_a_batch_generates_what_each_prompt_generates_alone(lm: LanguageModel, chat: bool) -> None:
    """Prompts of different length are padded on the left; what stands beside a prompt may not change its reply."""
    prompts = ["The capital of France is", "Name three colors of the rainbow, please, in one line:", "2 + 3 ="]
    together = lm.generate(prompts, 10, chat=chat)
    alone = [lm.generate([p], 10, chat=chat)[0] for p in prompts]
    assert [r.text for r in together] == [r.text for r in alone]
    assert [(r.tokens_in, r.tokens_out) for r in together] == [(r.tokens_in, r.tokens_out) for r in alone]
    assert all(r.text.strip() and 0 < r.tokens_out <= 10 for r in together)


def test_generation_is_greedy(lm: Any) -> None:
    """The first token is the most probable one: no sampling, so no seed is needed."""
    text = "The capital of France is"
    with torch.inference_mode():
        logits = lm.model(**lm.tokenizer(text, return_tensors="pt")).logits[0, -1]
    assert lm.generate([text], 1)[0].text == lm.tokenizer.decode(int(logits.argmax()))


def test_a_stop_string_ends_each_reply_by_itself(lm: LanguageModel) -> None:
    """E2's queries end at the line; the text after it, and padding behind a shorter reply, must not be counted."""
    free = lm.generate(["The capital of France is", "One two three four"], 12)
    assert any("\n" in r.text for r in free)
    stopped = lm.generate(["The capital of France is", "One two three four"], 12, stop="\n")
    assert [r.text for r in stopped] == [r.text.split("\n")[0] for r in free]
    assert all(s.tokens_out <= f.tokens_out for s, f in zip(stopped, free, strict=True))
    assert any(s.tokens_out < f.tokens_out for s, f in zip(stopped, free, strict=True))


def test_negative_log_likelihood_by_hand(lm: Any) -> None:
    """P3's perplexity: the sum over all tokens after the first, each from a forward pass over its own prefix."""
    text = "Rain falls on the roof of the house."
    ids = lm.tokenizer(text).input_ids
    total = 0.0
    for i in range(1, len(ids)):
        with torch.inference_mode():
            logits = lm.model(input_ids=torch.tensor([ids[:i]]), use_cache=False).logits[0, -1].double()
        total -= torch.log_softmax(logits, dim=-1)[ids[i]].item()
    loss, tokens = lm.negative_log_likelihood(text)
    assert tokens == len(ids) - 1
    assert loss == pytest.approx(total, abs=1e-3)


def test_text_longer_than_the_window_is_cut(lm: LanguageModel) -> None:
    """The window is a promise about time and memory; fit_prompt trims to it and perplexity may not exceed it."""
    assert lm.window == WINDOW_TOKENS == 2048
    assert lm.count_tokens("one two three") == 3


def test_a_model_is_loaded_once(engines: Backends, lm: LanguageModel, capfd: pytest.CaptureFixture[str]) -> None:
    """Half a gigabyte and some seconds each: units of one process share it, and taking it again prints nothing."""
    assert engines.language_model("smollm2-135m") is lm
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_library_is_unavailable_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without the extra fails its trials with a reason; a traceback would crash the shard instead."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(Unavailable, match="pip install"):
        load_base("smollm2-135m")


def test_a_missing_gguf_reader_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the weights cannot be converted; the error must name what to install."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr("transformers.modeling_gguf_pytorch_utils.is_gguf_available", lambda *args, **kwargs: False)
    with pytest.raises(Unavailable, match="pip install"):
        load_base("smollm2-135m")
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_an_unknown_model_is_the_users_mistake(engines: Backends) -> None:
    """A misspelt name must say which names there are, before anything is loaded."""
    with pytest.raises(LabError, match="smollm2-135m"):
        engines.language_model("smolm")


CORCOD = ["1", "logn", "n", "n_square", "nlogn"]  # labels of which one begins two others


@pytest.mark.parametrize("taught", CORCOD)
def test_an_option_that_begins_another_can_win_and_lose(taught: str, lm: LanguageModel) -> None:
    """Without their ends "n" would be at least as probable as "n_square", whatever the model knows: it could never lose."""
    shown = "".join(f"Function:\nf{i}\nAnswer: {taught}\n\n" for i in range(5))
    scores = lm.score(f"{shown}Function:\nf5\nAnswer:", [f" {label}" for label in CORCOD])
    assert CORCOD[int(np.argmax(scores.logprobs))] == taught
    assert sum(np.exp(scores.logprobs)) <= 1, "whole answers exclude each other"
