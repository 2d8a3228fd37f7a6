"""Solving by guessing: rounds, feedback, censoring and seeds with a scripted model, then the real one and real phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from driving import earlier

from experiments.analysis.ends import flags_of, scale_of
from experiments.backends.lora import LoraSettings, Training
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import LanguageModel, Reply, Scores
from experiments.contract import Json, Result, Trial
from experiments.data import split, universe
from experiments.domains import get_domain
from experiments.domains.base import Judged
from experiments.registry import configure, get_phase
from experiments.seeds import seed_for
from experiments.solving.distillation import distilled, hunch_prompt, raw
from experiments.solving.guessing import RESERVED_TOKENS, prompt_after
from experiments.solving.memory_bank import Bank
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.solving import Memo, fit_prompt, most_attempts, prompt_for, solve
from flows.forecast import expected_seconds
from flows.plan import plan

DOMAIN = get_domain("equations")
GIVEN: dict[str, Any] = {"domain": "equations", "n_problems": 24, "max_guesses": 4}
CONFIG = configure("p2", "smoke", {**GIVEN, "n_memory": 8, "n_test": 4})
MEMORY, TEST = split(CONFIG, 8, 4)
LINE = next(p for p in TEST if p.label == "linear")
MEMOS = [Memo(p, p.truth, i) for i, p in enumerate(MEMORY)]


class FakeGuesser:
    """A language model that says what a script says: the guesses of each seed, by the number of the round."""

    name = "fake"
    scores = False

    def __init__(self, script: dict[int, list[str]], window: int = 2048) -> None:
        self.script = script
        self.window = window
        self.calls: list[dict[str, Any]] = []
        self._by_seed = {
            seed_for(seed, "p2", LINE.problem_id, "none", turn): text
            for seed, texts in script.items()
            for turn, text in enumerate(texts)
        }

    def describe(self) -> dict[str, str]:
        return {"engine": "fake"}

    def digest(self) -> str:
        return "0" * 64

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        raise AssertionError("guessing needs no scores")

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        chat: bool = False,
        stop: str = "",
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Reply]:
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
    assert details["guesses"][0] == "x" and trials[0].first_right == 0


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
    both = {"none": {"a": 4.0, "b": 4.0}, "semantic": {"a": 1.0, "b": 1.0}}
    assert flags_of(both, scale_of(CONFIG)) == {"ceiling": ["semantic"], "floor": ["none"]}


def test_training_examples_hold_formulas(engines: Backends) -> None:
    """E2's datasets: S ends in the right formula under its analysis, R in it after what was tried and heard."""
    bank = Bank(DOMAIN, MEMOS, engines.embedder("all-MiniLM-L6-v2"), RetrievalConfig(k=3))
    prompt, completion = distilled(DOMAIN, MEMORY[0], bank, CONFIG)
    assert prompt == hunch_prompt(DOMAIN, MEMORY[0], CONFIG) and prompt.endswith("\nQuery: points with")
    assert completion.endswith(f"\nFormula: y = {MEMORY[0].answer}")
    assert MEMORY[0].answer not in completion.split("Formula")[0]
    before, after = raw(DOMAIN, LINE, ["0*x", LINE.answer, "never reached"], CONFIG)
    assert before.endswith("\nAttempts:\n") and "Formula" not in before
    lines = after.splitlines()
    assert lines[0].startswith("Attempt 1: 0*x. Wrong, loss 1")
    assert lines[1].startswith(f"Attempt 2: {LINE.answer}. Right, loss 0.0")
    assert lines[2:] == [f"Formula: y = {LINE.answer}"]


def test_sampling_repeats_by_seed_and_ignores_the_batch(lm: LanguageModel) -> None:
    """The same seed gives the same text whoever stands beside it and whatever was sampled before; another seed another."""
    prompt = prompt_for(DOMAIN, LINE, [])
    longer = prompt.replace("Formula: y =", "Tried: x, loss 0.9\nFormula: y =")
    together = lm.generate([prompt, longer, prompt], 5, stop="\n", temperature=0.9, seeds=[1, 2, 3])
    alone = [
        lm.generate([p], 5, stop="\n", temperature=0.9, seeds=[s])[0]
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
    prompts = [prompt_for(DOMAIN, p, []) for p in TEST[:2]]
    for _ in range(2):
        cold = lm.generate(prompts, 6, stop="\n", temperature=1e-4, seeds=[1, 2])
        assert [r.text for r in cold] == [r.text for r in lm.generate(prompts, 6, stop="\n")]


def run_phase(name: str, findings: Json, engines: Backends, files: dict[str, bytes], **given: Any) -> list[Trial]:
    """One phase to its end with real engines; its findings are added to `findings`, its numbers are looked at."""
    module, config = get_phase(name), configure(name, "smoke", {**GIVEN, **given})
    so_far: list[Result] = []
    while units := module.units(config, earlier(findings), so_far):
        for unit in units:
            trials = module.run(unit, engines)
            assert len(trials) == unit.n_trials
            so_far.append(Result(unit, trials))
            files.update({a.sha256: a.content for a in engines.take_attachments()})
    found = [t for _, trials in so_far for t in trials]
    assert [t.error for t in found if t.error] == []
    metrics = module.metrics(found, config)
    verdict = module.gate(metrics, config)
    assert verdict.main.value is not None
    findings.update(verdict.findings.model_dump() if verdict.findings else {})
    return found


def test_phases_of_vectors_run_on_equations(engines: Backends, files: dict[str, bytes]) -> None:
    """P1 and E0 with the real embedder: families as classes, and likeness of formulas as relevance."""
    findings: Json = {}
    trials = run_phase(
        "p1", findings, engines, files, n_memory=12, n_queries=6, embedders=("all-MiniLM-L6-v2", "hybrid")
    )
    assert {t.truth for t in trials} == set(DOMAIN.options) and findings["embedder"] == "all-MiniLM-L6-v2"
    trials = run_phase("e0", findings, engines, files, n_memory=8, n_queries=4)
    assert all(0 <= t.details["solution_similarity"] <= 1 for t in trials)
    assert len({t.details["solution_similarity"] for t in trials}) > 5


FEW = {"max_guesses": 2, "run_seeds": (100,), "k": 1}
FINDINGS: Json = {"embedder": "all-MiniLM-L6-v2", "text_weight": 0.5, "retrieval": {"text_weight": 0.5}}


@pytest.fixture
def short_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight tokens a guess, read as a formula: what it says is not looked at, and each token takes its time."""
    monkeypatch.setattr("experiments.solving.guessing.GUESS_TOKENS", 8)
    judge = type(DOMAIN).judge
    monkeypatch.setattr(type(DOMAIN), "judge", lambda *of: replace(judge(*of), readable=True))


@pytest.mark.slow
def test_p2_runs_on_equations(
    engines: Backends, files: dict[str, bytes], tiny: str, short_guesses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without memory: every trial is guessed, and attempts stay within what is allowed."""
    p2 = get_phase("p2")
    monkeypatch.setattr(p2, "CONDITIONS", ("none", "random", "semantic"))
    trials = run_phase("p2", {**FINDINGS}, engines, files, model=tiny, n_memory=4, n_test=2, per_unit=2, **FEW)
    assert len(trials) == 6
    assert {t.details["solved_by"] for t in trials} == {"guessing"}
    assert all(1 <= (t.attempts or 0) <= 2 for t in trials)
    assert [len(t.details["retrieved"]) for t in trials if t.condition == "semantic"] == [1, 1]


class FakeSolver(FakeGuesser):
    """Solves nothing and says so at once."""

    def __init__(self) -> None:
        super().__init__({})

    def generate(self, prompts: Sequence[str], max_new_tokens: int, **options: Any) -> list[Reply]:
        return [Reply(" 0*x", 10, 3, 0.1) for _ in prompts]


def test_e1_runs_on_equations(engines: Backends, files: dict[str, bytes]) -> None:
    """Memos keep formulas and every guess, and accuracy is told by family, which the truth of a trial no longer is."""
    findings = {**FINDINGS}
    solver = Backends(no_files)
    solver.models[("smollm2-135m", "", "float32")] = FakeSolver()
    solver.embedders["all-MiniLM-L6-v2"] = engines.embedder("all-MiniLM-L6-v2")
    given = {**FEW, "n_memory": 8, "n_test": 4}
    trials = run_phase("e1", findings, solver, files, per_unit=4, memos_per_unit=8, **given)
    assert [memo["answer"] for memo in findings["memos"]] == [t.truth for t in trials if t.condition == "memo"]
    assert all((m["attempts"], m["success"], m["guesses"]) == (2, False, ("0*x", "0*x")) for m in findings["memos"])
    by_class = get_phase("e1").metrics(trials, configure("e1", "smoke", {**GIVEN, **given})).values
    rows = [m for m in by_class if m.metric == "class_accuracy"]
    assert {m.condition.split()[0] for m in rows} == set(DOMAIN.options) and sum(m.n for m in rows) == 12


@pytest.mark.slow
def test_e2_runs_on_equations(
    engines: Backends, files: dict[str, bytes], tiny: str, short_guesses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both adapters are trained on formulas, and first ideas are measured by likeness."""
    monkeypatch.setattr(get_phase("e2"), "CONTROLS", ())
    # The untuned model solves none of these, and S is made of what was solved: here all memos count as solved.
    memos = [[p.problem_id, p.truth, i, 2, True, ["x", p.truth]] for i, p in enumerate(MEMORY[:4])]
    findings = {
        **FINDINGS,
        "memos": memos,
        "test": [p.problem_id for p in TEST],
        "hypothesis": "weak_signal",
        "best": "semantic",
    }
    trials = run_phase(
        "e2", findings, engines, files, model=tiny, n_test=2, n_train=2, n_crossed=0, per_unit=2, query_tokens=4, **FEW
    )
    assert {t.condition for t in trials} == {"train_s", "train_r", "base_query", "tuned_s", "tuned_r"}
    assert all(0 <= t.details["hypothesis_quality"] <= 1 for t in trials if t.condition == "tuned_s")


class FakeTrainer(Backends):
    """Keeps what it is to train on, and trains nothing."""

    def train(
        self,
        name: str,
        examples: Sequence[tuple[str, str]],
        validation: Sequence[tuple[str, str]],
        settings: LoraSettings,
        seed: int,
        *how: object,
    ) -> Training:
        self.examples = list(examples)
        return Training(b"", 0.0, 0)


def test_p3_trains_on_formulas() -> None:
    """P3's adapter learns to answer: on equations the answer is the formula behind the lead, not the family's name."""
    module, config = get_phase("p3"), configure("p3", "smoke", {**GIVEN, "n_train": 4})
    backends = FakeTrainer(no_files)
    unit = next(u for u in module.units(config, {}, []) if u.spec["role"] == "train")
    (trial,) = module.run(unit, backends)
    assert trial.error is None and len(backends.examples) == 4
    known = {p.answer for p in universe(config).problems}
    for prompt, completion in backends.examples:
        assert prompt.endswith("\nFormula: y =") and completion[1:] in known


def test_guessing_is_expected_to_take_longer() -> None:
    """Shards are balanced and the time left is told by these costs: up to twenty guesses are not one choice."""
    by_choice = expected_seconds(plan("smoke").run)
    by_guessing = expected_seconds(plan("smoke", {phase: {"domain": "equations"} for phase in by_choice}).run)
    for phase in ("p2", "e1", "e2"):
        assert by_guessing[phase] > 1.5 * by_choice[phase]
    assert by_guessing["e0"] == by_choice["e0"]
