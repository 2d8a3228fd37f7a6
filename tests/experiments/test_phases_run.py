"""Every phase once with real engines and a small language model, at a size below smoke: from its first unit to its verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest
from driving import by_condition, drive

from experiments import e2_finetuned_retrieval as e2
from experiments import p2_retrieval_utility as p2
from experiments.backends.model_cache import Backends
from experiments.capability import judges
from experiments.contract import Json, Status
from experiments.data import universe
from experiments.domains import get_domain
from experiments.registry import configure
from experiments.solving.retrieval import RetrievalConfig

DOMAIN = get_domain("big_o")
MINI, MISSING = "all-MiniLM-L6-v2", "no-such-embedder"
TINY: Json = {"n_problems": 24, "run_seeds": [100, 200]}
RETRIEVAL = RetrievalConfig().model_dump()
LORA: Json = {"rank": 2, "alpha": 4, "dropout": 0.05, "learning_rate": 1e-4, "epochs": 1, "batch_size": 2}


def test_p1_measures_what_loads_and_skips_the_rest_by_name(engines: Backends, files: dict[str, bytes]) -> None:
    """Vectors of the real embedder, features and words without one, and an embedder that cannot be had here."""
    names = [MINI, "structure", "bm25", MISSING]
    given = {"n_problems": 24, "n_memory": 12, "n_queries": 6, "embedders": names}
    done, verdict = drive("p1", given, {}, engines, files)
    trials = by_condition(done)
    assert {c: len(t) for c, t in trials.items()} == dict.fromkeys(names, 6)
    for name in names[:-1]:
        for t in trials[name]:
            assert {size: len(found) for size, found in t.details["nearest"].items()} == {"6": 5, "12": 5}
            assert t.truth in DOMAIN.options and t.details["group"] and 0 <= t.details["auc"] <= 1
            assert bool(t.latency_s) == ("reading" in t.details) == (name == MINI)
            pairs = t.details.get("histogram", {"within": [], "between": []})
            assert (sum(pairs["within"]), sum(pairs["between"])) == ((0, 0) if name == "bm25" else (2, 10))
            assert ("map" in t.details) == ("probe" in t.details) == (name != "bm25")
    assert all(MISSING in (t.error or "") for t in trials[MISSING])
    assert f"{MISSING} was skipped" in verdict.reason
    assert verdict.main.value is not None and verdict.main.low is not None
    assert verdict.findings.embedder == MINI and verdict.main.condition in names[:-1]


def test_e0_sweeps_the_grid_on_one_embedding(engines: Backends, files: dict[str, bytes]) -> None:
    """Every cell of the grid for every query, and a choice of which the parts are those of the cell."""
    given = {
        "n_problems": 24,
        "n_memory": 12,
        "n_queries": 6,
        "text_weights": [1.0, 0.5, 0.0],
        "ks": [1, 5, 20],
        "embedders": [MINI, MISSING],
    }
    done, verdict = drive("e0", given, {}, engines, files)
    trials = by_condition(done)
    assert len(trials) == 3 * 3 * 5 + 1
    assert {t.details["k"] for c, own in trials.items() if c != MISSING for t in own} == {1, 5, 12}  # of twelve memos
    assert {len(t) for c, t in trials.items() if c != MISSING} == {6}
    assert {sum(t.details["held_out"] for t in own) for c, own in trials.items() if c != MISSING} == {3}
    for t in (t for c, own in trials.items() if c != MISSING for t in own):
        parts = t.details
        total = 0.4 * parts["type_match"] + 0.4 * parts["solution_similarity"] + 0.2 * parts["diversity"]
        assert parts["relevance"] == pytest.approx(total) and 0 <= total <= 1
        # Two of the twelve memos have the query's class.
        assert parts["recall"] == pytest.approx(parts["type_match"] * parts["k"] / 2)
        assert 0 <= parts["ndcg"] <= 1 and (parts["reciprocal_rank"] > 0) == (parts["type_match"] > 0)
        assert parts["vote_first_right"] <= (parts["type_match"] > 0)
    assert verdict.findings.retrieval.embedder == MINI
    assert f"{MISSING} was skipped" in verdict.reason


@pytest.mark.slow
def test_p2_solves_every_problem_under_every_condition(engines: Backends, files: dict[str, bytes], tiny: str) -> None:
    """Two problems, four conditions, two seeds where they draw the memos; two runs of a unit give the same trials."""
    given = {**TINY, "model": tiny, "n_memory": 6, "n_test": 2, "k": 1, "per_unit": 1}
    done, verdict = drive("p2", given, {"embedder": MINI, "text_weight": 0.5}, engines, files)
    trials = by_condition(done)
    assert {c: len(t) for c, t in trials.items()} == {"none": 2, "random": 4, "recent": 4, "semantic": 2}
    for condition, own in trials.items():
        for t in own:
            assert t.attempts is not None and 1 <= t.attempts <= 6
            assert t.seed in ((100, 200) if condition in p2.DRAWN else (None,))
            assert len(t.details["retrieved"]) == (0 if condition == "none" else 1)
            assert t.problem_id not in t.details["retrieved"]
            assert ("relevance" in t.details) == (condition != "none")
    assert verdict.status in (Status.FAIL, Status.PASS) and verdict.main.n == 2
    unit, first = done[0]
    again = p2.run(unit, engines)
    assert [(t.condition, t.seed, t.attempts, t.details["logprobs"]) for t in again] == [
        (t.condition, t.seed, t.attempts, t.details["logprobs"]) for t in first
    ]


def test_p3_trains_and_asks_base_and_tuned_the_same(
    engines: Backends, files: dict[str, bytes], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter is left as a file, both models answer the same prompts and read the same text."""
    asked = judges.prompts

    def short(category: str, count: int) -> list[judges.CapabilityPrompt]:
        return [replace(p, max_new_tokens=4) for p in asked(category, count)]

    # Replies of four tokens: what is said does not matter here, and it would take half a minute more.
    monkeypatch.setattr(judges, "prompts", short)
    given = {"n_problems": 24, "model": tiny, "n_train": 1, "per_category": 2, "n_texts": 1, "lora": LORA}
    done, verdict = drive("p3", given, {}, engines, files)
    trials = by_condition(done)
    assert {c: len(t) for c, t in trials.items()} == {"train": 1, "base": 9, "tuned": 9}
    assert trials["train"][0].details["adapter"] in files
    assert [t.problem_id for t in trials["base"]] == [t.problem_id for t in trials["tuned"]]
    for t in (*trials["base"], *trials["tuned"]):
        if t.details["category"] == "perplexity":
            assert t.details["negative_log_likelihood"] > 0 and t.tokens_in
        else:
            assert t.answer is not None and t.solved is not None and t.tokens_out is not None
    losses = [t.details["negative_log_likelihood"] for t in (trials["base"][-1], trials["tuned"][-1])]
    assert losses[0] != losses[1], "the adapter has to change the model"
    assert verdict.main.metric == "retention"


def test_e1_fills_a_memory_and_asks_it(engines: Backends, files: dict[str, bytes], tiny: str) -> None:
    """Four memos, then two problems under three conditions on them; what E2 needs is handed on."""
    given = {**TINY, "model": tiny, "n_memory": 4, "n_test": 2, "k": 2, "per_unit": 1, "memos_per_unit": 2}
    done, verdict = drive("e1", given, {"retrieval": RETRIEVAL}, engines, files)
    trials = by_condition(done)
    assert {c: len(t) for c, t in trials.items()} == {
        "memo": 4,
        "none": 2,
        "temporal": 4,
        "semantic": 2,
        "label_only": 4,
    }
    assert [t.details["order"] for t in trials["memo"]] == [0, 1, 2, 3]
    memos = [t.problem_id for t in trials["memo"]]
    assert all(set(t.details["retrieved"]) < set(memos) for t in (*trials["temporal"], *trials["semantic"]))
    assert [m.problem_id for m in verdict.findings.memos] == memos and len(verdict.findings.test) == 2
    assert verdict.findings.hypothesis and verdict.findings.best in ("temporal", "semantic")


@pytest.mark.slow
def test_e2_trains_both_adapters_and_solves_with_them(engines: Backends, files: dict[str, bytes], tiny: str) -> None:
    """From memos to two adapters to every condition; queries are written by the model that is then asked."""
    config = configure("e2", "smoke", {"n_problems": 24})
    problems = universe(config).problems
    memos = [[p.problem_id, p.label, i, 1, True, [p.label]] for i, p in enumerate(problems[:4])]
    findings: Json = {
        "retrieval": RETRIEVAL,
        "memos": memos,
        "hypothesis": "amplification",
        "best": "semantic",
        "test": [p.problem_id for p in problems[4:6]],
    }
    given = {
        **TINY,
        "model": tiny,
        "n_test": 2,
        "n_train": 2,
        "validation": 0.5,
        "k": 1,
        "per_unit": 2,
        "query_tokens": 6,
        "lora": {**LORA, "patience": 3},
    }
    done, verdict = drive("e2", given, findings, engines, files)
    trials = by_condition(done)
    asked = ("base_semantic", "base_query", "tuned_s", "tuned_r", "tuned_s_random", "tuned_s_none")
    assert {c: len(t) for c, t in trials.items()} == {
        "train_s": 1,
        "train_r": 1,
        **dict.fromkeys(asked, 2),
        "tuned_s_random": 4,
        **dict.fromkeys(e2.CROSSED, 1),
    }
    adapters = {t.details["adapter"] for c in ("train_s", "train_r") for t in trials[c]}
    assert len(adapters) == 2 and adapters <= set(files)
    for condition in asked:
        for t in trials[condition]:
            assert t.attempts is not None and t.details["hypothesis"] == "amplification"
            assert ("query_quality" in t.details) == (condition in ("base_query", "tuned_s", "tuned_r"))
            assert len(t.details["retrieved"]) == (0 if condition == "tuned_s_none" else 1)
            assert 0 <= t.details["hypothesis_quality"] <= 1
    assert trials["tuned_s"][0].details["logprobs"] != trials["base_query"][0].details["logprobs"]
    assert trials["write_s_solve_base"][0].details["query"] == trials["tuned_s"][0].details["query"]
    assert set(verdict.findings.criteria) == {
        "efficiency_moderate",
        "efficiency_strong",
        "performance_moderate",
        "performance_strong",
        "token_efficiency",
    }
    assert verdict.findings.best_model in asked
