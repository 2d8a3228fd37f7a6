"""Solving by guessing: rounds, feedback, censoring and seeds with a scripted model, then the real one and real phases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from experiments.attempts import ceiling_and_floor
from experiments.backends.base import Backends, LanguageModel, Reply, Scores
from experiments.contract import Json, Metrics, Trial, Unit, Verdict
from experiments.data import split
from experiments.distillation import distilled, hunch_prompt, raw
from experiments.domains import get_domain
from experiments.domains.base import Judged
from experiments.guessing import RESERVED_TOKENS, prompt_after
from experiments.memory_bank import Bank
from experiments.registry import configure, get_phase
from experiments.retrieval import RetrievalConfig
from experiments.seeds import seed_for
from experiments.solving import Memo, first_idea, fit_prompt, most_attempts, prompt_for, solve

DOMAIN = get_domain("equations")
GIVEN: dict[str, Any] = {"domain": "equations", "n_problems": 24, "max_guesses": 4}
CONFIG = configure("p2", "smoke", {**GIVEN, "n_memory": 8, "n_test": 4})
MEMORY, TEST = split(CONFIG, 8, 4)
LINE = next(p for p in TEST if p.label == "linear")
MEMOS = [Memo(p, p.truth, i) for i, p in enumerate(MEMORY)]


class FakeGuesser:
    """A language model that says what a script says: the guesses of each seed, by the number of the round."""

    name = "fake"

    def __init__(self, script: dict[int, list[str]], window: int = 2048) -> None:
        self.script = script
        self.window = window
        self.calls: list[dict[str, Any]] = []
        self._by_seed = {
            seed_for(seed, "p2", LINE.problem_id, "none", turn): text
            for seed, texts in script.items()
            for turn, text in enumerate(texts)
        }

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        raise AssertionError("guessing needs no scores")

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, *, chat: bool = False, stop: str = "",
        temperature: float = 0.0, seeds: Sequence[int] = (),
    ) -> list[Reply]:  # fmt: skip
        self.calls.append({"prompts": list(prompts), "seeds": list(seeds), "stop": stop, "temperature": temperature})
        return [Reply(f" {self._by_seed[s]}", 100, 7, 0.5) for s in seeds]

    def negative_log_likelihood(self, text: str) -> tuple[float, int]:
        raise AssertionError("guessing needs no likelihood")


def trials_of(script: dict[int, list[str]]) -> tuple[FakeGuesser, list[Trial]]:
    lm = FakeGuesser(script)
    return lm, solve(lm, DOMAIN, LINE, [], CONFIG, "p2", "none", {"group": LINE.group}, seeds=tuple(script))


def test_attempts_are_the_guesses_until_solved() -> None:
    """The main outcome: a seed that solves it in the second round has two attempts and guesses no more; one that never
    does is censored at the last."""
    right = LINE.answer
    lm, trials = trials_of({100: ["0*x", right], 200: [right], 300: ["x", "2*x", "junk!", "0"]})
    assert [(t.seed, t.attempts, t.solved) for t in trials] == [(100, 2, True), (200, 1, True), (300, 4, False)]
    assert [len(c["seeds"]) for c in lm.calls] == [3, 2, 1, 1]
    assert [t.answer for t in trials[:2]] == [right, right]
    assert {t.truth for t in trials} == {right}
    assert [(t.tokens_in, t.tokens_out, t.latency_s) for t in trials] == [(200, 14, 1.0), (100, 7, 0.5), (400, 28, 2.0)]
    assert all(t.error is None for t in trials)


def test_a_trial_says_how_it_was_solved_and_what_each_guess_was() -> None:
    """A reader of one trial must see every guess, its loss or the reason why it has none."""
    _, trials = trials_of({100: ["x", "__import__('os')", "1/0", "9**9**9"]})
    details = trials[0].details
    assert details["solved_by"] == "guessing"
    assert details["guesses"] == ["x", "__import__('os')", "1/0", "9**9**9"]
    assert details["losses"][1:] == [None, None, None] and details["losses"][0] > 0.1
    assert details["reasons"][0] == "" and all(details["reasons"][1:])
    assert (details["label"], details["group"], details["retrieved"]) == ("linear", LINE.group, [])
    assert trials[0].answer == "x"
    assert first_idea(DOMAIN, trials[0]) == "x"


def test_the_solver_hears_its_loss() -> None:
    """Without feedback twenty guesses are twenty first guesses: the next prompt holds each try and what came of it."""
    lm, _ = trials_of({100: ["0", "junk!", LINE.answer]})
    first, second, third = (c["prompts"][0] for c in lm.calls)
    assert "Tried" not in first and first.endswith("\nFormula: y =")
    assert second == first.replace("Formula: y =", "") + "Tried: 0, loss " + second.split("loss ")[1]
    assert second.endswith("\nFormula: y =")
    assert "Tried: junk!, a character that no formula has\nTried: 0, loss" in third
    assert all(c["stop"] == "\n" and c["temperature"] == CONFIG.guess_temperature for c in lm.calls)


def test_the_best_tries_stand_last_and_are_bounded() -> None:
    """The window holds a few tries, in rising order; a try that rambles is cut, a repeated one shown once."""
    losses = [0.9, 0.2, None, 0.5, 0.7, 0.2]
    judged = [Judged(False, loss, "" if loss else "not a formula") for loss in losses]
    text = prompt_after("Q\nA:", "A:", ["a", "b", "c", "d" * 500, "e", "b"], judged)
    assert text == f"Q\nTried: a, loss 0.9\nTried: e, loss 0.7\nTried: {'d' * 60}, loss 0.5\nTried: b, loss 0.2\nA:"


def test_seeds_differ_by_round_and_condition() -> None:
    """One seed for all rounds would propose the same again; and no seed may depend on which others still guess."""
    one, _ = trials_of({100: ["0", "0", "0", "0"], 200: [LINE.answer]})
    alone, _ = trials_of({100: ["0", "0", "0", "0"]})
    assert [c["seeds"][0] for c in one.calls] == [c["seeds"][0] for c in alone.calls]
    assert len({s for c in one.calls for s in c["seeds"]}) == 5


def test_a_long_memory_makes_room_for_tries() -> None:
    """The prompt must fit with all that rounds add to it; the least relevant memos go first."""
    lm = FakeGuesser({}, window=RESERVED_TOKENS + 130)
    prompt, dropped = fit_prompt(lm, DOMAIN, LINE, MEMOS)
    assert 0 < dropped < len(MEMOS)
    assert lm.count_tokens(prompt) <= lm.window - RESERVED_TOKENS
    assert MEMOS[-1].answer in prompt and MEMOS[0].answer not in prompt
    assert f"Formula: y = {MEMOS[-1].answer}\n\n" in prompt


def test_the_flags_of_floor_and_ceiling_know_the_way_of_answering() -> None:
    """Of four guesses the fourth is the floor; of six options the sixth."""
    assert most_attempts(DOMAIN, CONFIG) == 4
    assert most_attempts(DOMAIN, configure("p2", "full", {"domain": "equations"})) == 20
    assert most_attempts(get_domain("big_o"), CONFIG) == 6
    assert ceiling_and_floor({"none": {"a": 4.0}, "semantic": {"a": 1.0}}, 4) == {
        "ceiling": ["semantic"],
        "floor": ["none"],
    }


def test_training_examples_hold_formulas(engines: Backends) -> None:
    """E2's datasets: S ends in the right formula under its analysis, R in it after what was tried and heard."""
    bank = Bank(DOMAIN, MEMOS, engines.embedder("all-MiniLM-L6-v2"), RetrievalConfig(k=3))
    prompt, completion = distilled(DOMAIN, MEMORY[0], bank)
    assert prompt == hunch_prompt(DOMAIN, MEMORY[0]) and prompt.endswith("\nQuery:")
    assert completion.endswith(f"\nFormula: y = {MEMORY[0].answer}")
    assert MEMORY[0].answer not in completion.split("Formula")[0]
    before, after = raw(DOMAIN, LINE, ["0*x", LINE.answer, "never reached"])
    assert before.endswith("\nAttempts:\n") and "Formula" not in before
    lines = after.splitlines()
    assert lines[0].startswith("Attempt 1: 0*x. Wrong, loss 1")
    assert lines[1].startswith(f"Attempt 2: {LINE.answer}. Right, loss 0.0")
    assert lines[2:] == [f"Formula: y = {LINE.answer}"]


def test_sampling_repeats_by_seed_and_ignores_the_batch(lm: LanguageModel) -> None:
    """The same seed gives the same text whoever stands beside it and whatever was sampled before; another seed another."""
    prompt = prompt_for(DOMAIN, LINE, MEMOS[:2])
    longer = prompt.replace("Formula: y =", "Tried: x, loss 0.9\nFormula: y =")
    together = lm.generate([prompt, longer, prompt], 12, stop="\n", temperature=0.9, seeds=[1, 2, 3])
    alone = [
        lm.generate([p], 12, stop="\n", temperature=0.9, seeds=[s])[0]
        for p, s in ((prompt, 1), (longer, 2), (prompt, 3))
    ]
    assert [r.text for r in together] == [r.text for r in alone]
    assert [(r.tokens_in, r.tokens_out) for r in together] == [(r.tokens_in, r.tokens_out) for r in alone]
    assert [r.tokens_in for r in together] == [lm.count_tokens(p) for p in (prompt, longer, prompt)]
    assert len({r.text for r in together}) == 3
    with pytest.raises(ValueError, match="1 seeds for 2 prompts"):
        lm.generate([prompt, longer], 2, temperature=0.9, seeds=[1])


def test_cold_sampling_is_greedy(lm: LanguageModel) -> None:
    """As T falls to 0 the draw becomes the most probable token: the noise is added at the right scale, and what is
    remembered of the prompt is what the prompt says."""
    prompts = [prompt_for(DOMAIN, p, MEMOS[:1]) for p in TEST[:2]]
    for _ in range(2):
        cold = lm.generate(prompts, 8, stop="\n", temperature=1e-4, seeds=[1, 2])
        assert [r.text for r in cold] == [r.text for r in lm.generate(prompts, 8, stop="\n")]


def run_phase(
    name: str, carried: Json, engines: Backends, files: dict[str, bytes], **given: Any
) -> tuple[list[Trial], Metrics, Verdict]:
    """One phase to its end with real engines."""
    module, config = get_phase(name), configure(name, "smoke", {**GIVEN, **given})
    so_far: list[tuple[Unit, list[Trial]]] = []
    while units := module.units(config, carried, so_far):
        for unit in units:
            trials = module.run(unit, engines)
            assert len(trials) == unit.n_trials
            so_far.append((unit, trials))
            files.update({a.sha256: a.content for a in engines.take_attachments()})
    trials = [t for _, found in so_far for t in found]
    metrics = module.metrics(trials, config)
    return trials, metrics, module.gate(metrics, config)


@pytest.mark.slow
def test_the_chain_runs_on_equations(engines: Backends, files: dict[str, bytes]) -> None:
    """All six phases with real engines at a few problems: none may rest on options, and no trial may fail."""
    few = {"max_guesses": 2, "run_seeds": (100, 200), "k": 2}
    carried: Json = {}
    trials, metrics, verdict = run_phase(
        "p1", carried, engines, files, per_class=4, embedders=("all-MiniLM-L6-v2", "hybrid")
    )
    carried |= verdict.carried
    assert {m.condition for m in metrics.values if m.metric == "similarity_ratio"} == {"all-MiniLM-L6-v2", "hybrid"}
    trials, metrics, verdict = run_phase("p2", carried, engines, files, n_memory=8, n_test=4, per_unit=4, **few)
    assert {t.details["solved_by"] for t in trials} == {"guessing"}
    assert all(t.error is None and 1 <= (t.attempts or 0) <= 2 for t in trials)
    assert metrics.find("attempts_mean", "semantic") is not None
    _, _, verdict = run_phase("e0", carried, engines, files, n_memory=8, n_queries=4)
    carried |= verdict.carried
    trials, metrics, verdict = run_phase(
        "e1", carried, engines, files, n_memory=8, n_test=4, per_unit=4, memos_per_unit=8, **few
    )
    carried |= verdict.carried
    assert [row[1] for row in carried["memos"]] == [t.truth for t in trials if t.condition == "memo"]
    by_class = [m for m in metrics.values if m.metric == "class_accuracy"]
    assert {m.condition.split()[0] for m in by_class} == set(DOMAIN.options) and sum(m.n for m in by_class) == 24
    # The untuned model solves none of these, and S is made of what was solved: one memo counts as solved here.
    carried["memos"][0][4] = True
    trials, metrics, verdict = run_phase("e2", carried, engines, files, n_test=2, n_train=2, per_unit=2, **few)
    assert {t.condition for t in trials} >= {"train_s", "train_r", "base_query", "tuned_s", "tuned_r"}
    assert all(t.error is None for t in trials)
    assert metrics.find("hypothesis_quality", "tuned_s") is not None
    trials, _, _ = run_phase("p3", {}, engines, files, n_train=2, per_category=2, n_texts=1)
    assert all(t.error is None for t in trials)
