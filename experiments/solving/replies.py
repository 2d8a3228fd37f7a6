"""Ask a model for short answers; one that thinks first is read after its thinking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.backends.protocols import THINKING, THOUGHT, LanguageModel, Reply, TooLong, seeds_for
from experiments.contract import Trial
from experiments.domains import Problem

# Tokens of thinking and answer together: half of the window, so that a prompt with memos still stands beside them.
THINKING_TOKENS = 1024
UNFINISHED = f"no answer after {THINKING_TOKENS:,} tokens of thinking"
MARKS = " \t\r\n*_`\"'"  # around an answer: marks of Markdown and quotes


def check_room(lm: LanguageModel, prompt: str, most: int) -> None:
    """Raise TooLong unless `prompt` and `most` tokens of an answer fit in the model's window."""
    tokens = lm.count_tokens(prompt)
    if tokens + most > lm.window:
        raise TooLong(
            f"a prompt of {tokens:,} tokens and {most} of an answer, more than the {lm.window:,} of {lm.name}"
        )


def answers(
    lm: LanguageModel,
    prompts: Sequence[str],
    most: int,
    *,
    chat: bool = False,
    stop: str = "",
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
) -> list[Reply]:
    """Return the replies without their thinking; arguments as of LanguageModel.generate.

    A reply that begins to think is asked for again, with the same seed and THINKING_TOKENS; one whose thinking does not
    end by then is empty and `unfinished`. Tokens and time are those of both.
    """
    found = lm.generate(prompts, most, chat=chat, stop=stop, temperature=temperature, seeds=seeds)
    thinking = [i for i, reply in enumerate(found) if reply.text.lstrip().startswith(THINKING)]
    own = seeds_for(prompts, temperature, seeds)
    for i in thinking:
        budget = min(THINKING_TOKENS, lm.window - lm.count_tokens(prompts[i]))
        again = lm.generate(
            [prompts[i]], max(budget, most), chat=chat, temperature=temperature, seeds=[own[i]] if seeds else ()
        )[0]
        found[i] = _both(found[i], after_thinking(again, stop))
    return found


def after_thinking(reply: Reply, stop: str) -> Reply:
    """Return a reply without its thinking, up to `stop`; empty and unfinished if the thinking has no end."""
    _, end, text = reply.text.partition(THOUGHT)
    text = text.strip()
    return replace(reply, text=text.split(stop)[0] if stop else text, unfinished=not end)


def _both(first: Reply, second: Reply) -> Reply:
    return replace(
        second,
        tokens_in=first.tokens_in + second.tokens_in,
        tokens_out=first.tokens_out + second.tokens_out,
        latency_s=first.latency_s + second.latency_s,
    )


def failed(problem: Problem, condition: str, seeds: Sequence[int | None], error: Exception) -> list[Trial]:
    """Return the trials of a problem whose model call failed: with their error, never missing and never zeros."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]
    return [Trial(problem.problem_id, condition, seed, truth=problem.truth, error=text) for seed in seeds]
