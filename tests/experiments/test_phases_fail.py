"""Phases when an engine is missing, and every condition of E1 and E2 asked of fakes: rows for all, in the right way."""

from __future__ import annotations

from typing import Any

import pytest
from driving import by_condition, drive, earlier
from fake_engines import FakeEmbedder, FakeLanguageModel

from experiments import e1_retrieval_strategies as e1
from experiments import e2_finetuned_retrieval as e2
from experiments import p3_finetuning_preservation as p3
from experiments.backends import transformers_backend
from experiments.backends.lora import LoraSettings, Training
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.peft_trainer import PeftTrainer
from experiments.contract import Json, Result, Status, Trial
from experiments.data import universe
from experiments.registry import configure, get_phase
from experiments.solving.retrieval import RetrievalConfig
from experiments.solving.stream import TOPICS, stream_of

MINI, MISSING, MODEL = "all-MiniLM-L6-v2", "no-such-embedder", "smollm2-135m"
PROBLEMS = universe(configure("e2", "smoke", {"n_problems": 24})).problems
MEMOS = [[p.problem_id, p.label, i, 1, True, [p.label]] for i, p in enumerate(PROBLEMS[:6])]
TEST = [p.problem_id for p in PROBLEMS[6:9]]
SMALL: dict[str, Json] = {
    "p1": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": [MISSING]},
    "p2": {"n_problems": 24, "n_memory": 6, "n_test": 2},
    "p3": {"n_problems": 24, "n_train": 2, "per_category": 2, "n_texts": 1},
    "e0": {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": [MISSING]},
    "e1": {"n_problems": 24, "n_memory": 6, "n_test": 3, "k": 2},
    "e2": {"n_problems": 24, "n_test": 3, "n_train": 4, "k": 2},
}


class FakeTrainingBackends(Backends):
    """Backends whose training gives fixed bytes at once."""

    def train(  # type: ignore[no-untyped-def]
        self, name, examples, validation, settings: LoraSettings, seed: int, precision=None, trainer="peft"
    ) -> Training:
        return Training(f"adapter from {len(examples)} examples".encode(), 1.5, 99, [2.0], [2.1, 2.0], 1)


def fakes(backends: type[Backends] = FakeTrainingBackends) -> tuple[Backends, FakeLanguageModel, FakeLanguageModel]:
    """(backends, the untuned and the tuned model in them); the tuned one answers for every adapter."""

    class Tuned(dict[tuple[str, str, str], FakeLanguageModel]):
        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: tuple[str, str, str]) -> FakeLanguageModel:
            return tuned

    base, tuned = FakeLanguageModel(says="nested loops"), FakeLanguageModel(says="halving of a value")
    return backends(no_files, {MINI: FakeEmbedder()}, Tuned({(MODEL, "", "float32"): base})), base, tuned


def findings(hypothesis: str = "weak_signal", best: str = "semantic", embedder: str = MINI) -> Json:
    return {
        "embedder": embedder,
        "text_weight": 1.0,
        "retrieval": RetrievalConfig(embedder=embedder).model_dump(),
        "memos": MEMOS,
        "hypothesis": hypothesis,
        "best": best,
        "test": TEST,
    }


@pytest.mark.parametrize("name", ["p1", "p2", "e0", "e1", "e2"])
def test_an_embedder_that_cannot_be_loaded_leaves_rows_with_its_name(name: str) -> None:
    """Not an exception, which would be tried again for ever, and not silence: every trial says why, the verdict is open."""
    backends = Backends(no_files, {}, {(MODEL, "", "float32"): FakeLanguageModel()})
    done, verdict = drive(name, SMALL[name], findings(embedder=MISSING), backends, {})
    lost = [t for _, trials in done for t in trials if t.condition != e1.MEMO]
    assert lost and all(MISSING in (t.error or "") for t in lost)
    assert verdict.status is Status.INCONCLUSIVE
    assert verdict.main.value is None


def test_a_training_that_cannot_run_leaves_p3_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft is missing: one failed row with the reason, the base is still asked, nothing is said about retention."""
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    backends, _, _ = fakes(Backends)
    done, verdict = drive("p3", SMALL["p3"], {}, backends, {})
    trials = by_condition(done)
    assert {c: len(t) for c, t in trials.items()} == {"train": 1, "base": 9}
    assert verdict.status is Status.INCONCLUSIVE and "pip install" in verdict.reason


@pytest.mark.parametrize("name", ["p2", "p3", "e1", "e2"])
def test_a_model_that_no_library_loads_or_trains_is_a_result_of_every_unit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials fail in one line, and the phase asks for nothing more: a pipeline has nothing to send again or elsewhere."""

    def broken(*of: object) -> Any:
        raise RuntimeError("size mismatch\nfor many layers")

    monkeypatch.setattr(transformers_backend, "load", broken)
    monkeypatch.setattr(PeftTrainer, "train", broken)
    done, verdict = drive(name, SMALL[name], findings(), Backends(no_files, {MINI: FakeEmbedder()}), {})
    errors = {(t.error or "").removeprefix("Unavailable: ") for _, trials in done for t in trials}
    assert len({unit.unit_id for unit, _ in done}) == len(done) > 0
    assert errors == {f"model '{MODEL}' cannot be used: RuntimeError: size mismatch"}
    assert verdict.status is Status.INCONCLUSIVE and "RuntimeError: size mismatch" in verdict.reason
    assert "lab doctor" in [str(step.command) for step in verdict.next_steps]  # nothing that could be installed helps


@pytest.mark.parametrize("name", ["p3", "e2"])
def test_an_adapter_that_cannot_be_fetched_fails_every_trial_of_its_units(name: str) -> None:
    """As many rows as were promised, each with the reason: P3 pairs prompts by id, and a missing row would go unseen."""
    phase, config = get_phase(name), configure(name, "smoke", SMALL[name])
    first = phase.units(config, earlier(findings()), [])
    so_far = [
        Result(u, [Trial("training", "train", details={"adapter": "a" * 64})] if u.spec["role"] == "train" else [])
        for u in first
    ]
    backends = Backends(no_files, {MINI: FakeEmbedder()}, {(MODEL, "", "float32"): FakeLanguageModel()})
    for unit in phase.units(config, earlier(findings()), so_far):
        if not unit.files:
            continue
        trials = phase.run(unit, backends)
        assert len(trials) == unit.n_trials == len({(t.problem_id, t.seed) for t in trials})
        assert all("no file store" in (t.error or "") for t in trials)
    if name == "p3":
        assert all(t.condition == "tuned" and t.details["category"] in (*p3.CATEGORIES, p3.PERPLEXITY) for t in trials)


def test_e1_asks_each_strategy_for_what_it_means() -> None:
    """None shows nothing, temporal what came last in each seed's stream, semantic the most alike; conditions come in an
    order drawn per problem."""
    backends, _, _ = fakes()
    config = {**SMALL["e1"], "topics": 1}
    done, _ = drive("e1", config, {"retrieval": RetrievalConfig().model_dump()}, backends, {})
    trials = by_condition(done)
    assert all(t.details["retrieved"] == [] for t in trials["none"])
    known = universe(configure("e1", "smoke", config)).by_id()
    memos = [known[t.problem_id] for t in sorted(trials["memo"], key=lambda t: t.details["order"])]
    streams = {seed: stream_of([p.group for p in memos], 1, seed) for seed in (100, 200)}
    for t in trials["temporal"]:
        latest = streams[t.seed].before(t.problem_id, known[t.problem_id].group, 2)
        assert t.details["retrieved"] == [memos[i].problem_id for i in latest]
    assert {len(t.details["retrieved"]) for t in trials["semantic"]} == {2}
    assert all(len(t.details["guesses"]) == 6 and t.seed is None for t in trials["memo"])
    orders = {
        tuple(dict.fromkeys(t.condition for t in own if t.problem_id == p))
        for unit, own in done
        if unit.spec["role"] == "evaluate"
        for p in unit.spec["problems"]
    }
    assert len(orders) > 1 and all(set(o) == {*e1.CONDITIONS, "label_only"} for o in orders)


@pytest.mark.parametrize("best", ["temporal", "semantic"])
@pytest.mark.parametrize("hypothesis", e2.CONDITIONS)
def test_e2_asks_each_condition_in_its_own_way(hypothesis: str, best: str) -> None:
    """Which model solves, whether it writes a query first, and what is then shown: the whole meaning of a condition."""
    backends, base, tuned = fakes()
    files: dict[str, bytes] = {}
    done, verdict = drive("e2", SMALL["e2"], findings(hypothesis, best), backends, files)
    trials = by_condition(done)
    for condition in (*e2.CONDITIONS[hypothesis], *e2.CONTROLS):
        own = trials[condition]
        temporal = condition == "base_temporal" or (condition == "base_best" and best == "temporal")
        drawn = temporal or condition == "tuned_s_random"
        seeds = {100, 200} if drawn else {42} if condition in e2.TUNED_WRITERS else {None}
        assert len(own) == len(TEST) * len(seeds) and {t.seed for t in own} == seeds
        queries = {t.details.get("query") for t in own}
        shown = [t.details["retrieved"] for t in own]
        if condition in ("base_query", "tuned_s", "tuned_r"):
            assert queries == {"nested loops" if condition == "base_query" else "halving of a value"}
            assert all(t.details["query_tokens"] > 0 and 0 <= t.details["query_quality"] <= 1 for t in own)
            assert all(0 <= t.details[key] <= 1 for t in own for key in ("vote_first_right", "analysis_match"))
            # One query text for all problems, so the same memos for all.
            assert len({tuple(s) for s in shown}) == 1
        else:
            assert queries == {None}
        if condition == "tuned_s_none":
            assert all(s == [] for s in shown)
        elif temporal:
            memory, known = [p.problem_id for p in PROBLEMS[:6]], {p.problem_id: p for p in PROBLEMS}
            for t, ids in zip(own, shown, strict=True):
                stream = stream_of([known[m].group for m in memory], TOPICS, t.seed or 0)
                latest = stream.before(t.problem_id, known[t.problem_id].group, 2)
                assert ids == [memory[i] for i in latest], "the latest in each seed's stream"
        else:
            assert all(len(s) == 2 for s in shown)
        asked = tuned if condition.startswith("tuned_") else base
        assert any(prompt == own[0].details["prompt"] for prompt, _ in asked.asked)
    assert len(files) == 1 or len(files) == 2  # the fake's bytes name the number of examples
    assert f"hypothesis {hypothesis}." in verdict.reason


def test_a_random_control_is_drawn_for_each_problem() -> None:
    """The control of tuned_s: memos by lot, the same lot on every host, another for another problem."""
    first, second = (
        by_condition(drive("e2", SMALL["e2"], findings(), fakes()[0], {})[0])["tuned_s_random"] for _ in range(2)
    )
    assert [t.details["retrieved"] for t in first] == [t.details["retrieved"] for t in second]
    assert len({tuple(t.details["retrieved"]) for t in first}) > 1


def test_e2_without_a_solved_memo_trains_r_only() -> None:
    """Dataset S would be empty: that is a failed training with its reason, and R is still judged."""
    backends, _, _ = fakes()
    failures = [[*m[:4], False, m[5]] for m in MEMOS]
    done, verdict = drive("e2", SMALL["e2"], {**findings(), "memos": failures}, backends, {})
    trials = by_condition(done)
    assert "no memo for dataset s" in (trials["train_s"][0].error or "")
    assert set(trials) == {
        *("train_s", "train_r", "base_query", "tuned_r"),
        *("write_r_solve_base", "write_base_solve_r"),
    }
    assert verdict.reason.startswith("better retrieval ") and "tuned_r - base_query" in verdict.reason


def test_more_text_than_the_window_still_gives_every_trial() -> None:
    """A window of a few words: memos are dropped one by one and named as dropped, the problem is still asked."""
    backends = Backends(no_files, {MINI: FakeEmbedder()}, {(MODEL, "", "float32"): FakeLanguageModel(window=120)})
    done, _ = drive("p2", {**SMALL["p2"], "k": 4}, findings(), backends, {})
    dropped = [t.details["memos_dropped"] for t in by_condition(done)["semantic"]]
    assert all(d > 0 for d in dropped)
