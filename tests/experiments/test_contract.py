"""What every phase promises: a frozen Config, scales that only count, units that come in rounds and can be resumed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from driving import earlier
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import LabError
from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments.contract import PhaseConfig, Result, Trial, Unit
from experiments.findings import Earlier
from experiments.protocol.code_version import PACKAGE
from experiments.registry import PHASES, SCALES, configure, get_phase
from experiments.solving.retrieval import RetrievalConfig

SMALL = {"n_problems": 24}
GIVEN: dict[str, dict[str, Any]] = {
    "p1": {**SMALL, "n_memory": 12, "n_queries": 6},
    "p2": {**SMALL, "n_memory": 6, "n_test": 4, "per_unit": 2},
    "p3": {**SMALL, "n_train": 4},
    "e0": {**SMALL, "n_memory": 12, "n_queries": 6},
    "e1": {**SMALL, "n_memory": 6, "n_test": 4, "k": 2, "per_unit": 2, "memos_per_unit": 3},
    "e2": {**SMALL, "n_test": 4, "n_train": 4, "k": 2, "per_unit": 2},
}
RETRIEVAL = RetrievalConfig().model_dump()
ADAPTERS = {"s": "a" * 64, "r": "b" * 64, "p3": "c" * 64, "tokens": "d" * 64}


def findings_for(without: str = "") -> Earlier:
    """The findings of all phases that a phase may need, one of them left out."""
    memos = [[f"m{i}", "O(n)", i, 1, True, ["O(n)"]] for i in range(6)]
    found = {
        "embedder": "all-MiniLM-L6-v2",
        "text_weight": 1.0,
        "retrieval": RETRIEVAL,
        "memos": memos,
        "hypothesis": "weak_signal",
        "best": "semantic",
        "test": ["t1", "t2", "t3", "t4"],
    }
    return earlier({key: value for key, value in found.items() if key != without})


def made_up_results(unit: Unit) -> list[Trial]:
    """Trials that a unit could have left, as far as later units read them."""
    role = unit.spec.get("role", "")
    if role == "train":
        name = unit.spec.get("dataset", "p3")
        return [Trial("training", "train", details={"adapter": ADAPTERS[name]})]
    if role == "memo":
        first = unit.spec["first_order"]
        return [
            Trial(p, "memo", 100, 1, True, "O(n)", "O(n)", details={"order": first + i, "guesses": ["O(n)"]})
            for i, p in enumerate(unit.spec["problems"])
        ]
    return [Trial(p, "x", details={"query": f"of {p}"}) for p in unit.spec.get("problems", ["x"])]


def rounds(phase: str, shuffled: int | None = None) -> list[list[Unit]]:
    """All units of a phase by round, as the chain asks for them; `shuffled` seeds the order of the results."""
    config, so_far = configure(phase, "full", GIVEN[phase]), []
    found: list[list[Unit]] = []
    while units := get_phase(phase).units(config, findings_for(), so_far):
        found.append(units)
        so_far += [Result(u, made_up_results(u)) for u in units]
        if shuffled is not None:
            random.Random(shuffled).shuffle(so_far)
        assert len(found) < 5, "units() does not end"
    return found


def ids(found: Sequence[Sequence[Unit]]) -> list[list[str]]:
    return [[u.unit_id for u in units] for units in found]


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_has_all_that_the_contract_asks_for(name: str) -> None:
    """Every floor above reads these attributes; a phase without one would fail in the middle of a run."""
    phase = get_phase(name)
    assert name == phase.NAME
    assert phase.TITLE and phase.QUESTION.endswith("?")
    assert phase.BLOCKING is (name in ("p1", "p2", "p3"))
    assert phase.PROFILE in ("prerequisites", "e0_e1", "e2")
    assert phase.NEEDS and set(phase.NEEDS) <= {"embedder", "language_model", "chat", "lora"}
    assert issubclass(phase.Config, PhaseConfig)
    assert set(phase.SCALES) == set(SCALES) and phase.SCALES["full"] == {}


@pytest.mark.parametrize("name", PHASES)
def test_a_config_is_frozen_and_refuses_unknown_keys(name: str) -> None:
    """A value changed after planning would belong to another unit id; a misspelt key would silently do nothing."""
    config = configure(name, "smoke")
    with pytest.raises(ValidationError):
        config.data_seed = 1
    with pytest.raises(ValidationError):
        get_phase(name).Config(n_tests=3)
    assert type(config)(**json.loads(config.model_dump_json())) == config
    assert all(f.description for key, f in type(config).model_fields.items() if key != "lora")


COUNTS = ("n_", "per_", "memos_per_unit", "max_guesses", "k")


@pytest.mark.parametrize("name", PHASES)
def test_a_scale_only_changes_counts(name: str) -> None:
    """Smoke and demo must walk the same code paths as full: no threshold, data seed or temperature may differ."""
    full = configure(name, "full")
    for scale in SCALES:
        config = configure(name, scale)
        for key in type(full).model_fields:
            ours, whole = getattr(config, key), getattr(full, key)
            if ours == whole:
                continue
            if key == "lora":
                assert ours.epochs <= whole.epochs
                assert ours == whole.model_copy(update={"epochs": ours.epochs})
            elif key in ("embedders", "run_seeds", "train_seeds"):
                assert set(ours) <= set(whole) and ours[0] == whole[0]
            elif key == "controls":
                assert set(ours) <= set(whole)
            else:
                assert key.startswith(COUNTS), f"{name} {scale}: {key}"
                assert isinstance(ours, int) and ours <= whole


@pytest.mark.parametrize(
    ("name", "scale", "given", "words"),
    [
        ("p9", "smoke", {}, ["'p9'", "p1, p2"]),
        ("p1", "huge", {}, ["'huge'", "smoke, demo, full"]),
        ("p2", "smoke", {"n_tests": 3}, ["p2", "'n_tests'", "n_test"]),
        ("p2", "smoke", {"n_test": 1}, ["p2", "n_test = 1", "greater than 1"]),
        ("p2", "smoke", {"n_test": "many"}, ["p2", "n_test = 'many'"]),
        ("p3", "smoke", {"lora": {"rank": 0}}, ["p3", "lora.rank = 0"]),
        ("p3", "demo", {"per_category": 21}, ["p3", "per_category = 21"]),
        ("e1", "demo", {"memo_on_failure": "guess"}, ["e1", "memo_on_failure = 'guess'", "'truth' or 'drop'"]),
        ("e2", "full", {"run_seeds": []}, ["e2", "run_seeds = []"]),
        ("e0", "full", {"distances": ["manhattan"]}, ["e0", "distances.0 = 'manhattan'"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line(name: str, scale: str, given: dict[str, Any], words: list[str]) -> None:
    """The user sees phase or scale, key, the value given and what is allowed; no traceback of pydantic's."""
    with pytest.raises(LabError) as caught:
        configure(name, scale, given)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.mend


@given(
    st.text(min_size=1, max_size=20), st.one_of(st.integers(), st.text(max_size=5), st.none(), st.lists(st.integers()))
)
@settings(max_examples=60, deadline=None)
def test_any_unknown_key_is_refused_in_one_line(key: str, value: object) -> None:
    """Whatever stands behind --set: a key that does nothing must not be taken silently."""
    for name in ("p1", "e2"):
        fields = get_phase(name).Config.model_fields
        if key in fields:
            continue
        with pytest.raises(LabError) as caught:
            configure(name, "smoke", {key: value})
        assert repr(key) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("e0", {"choice_relevance": float("inf")}),
        ("e0", {"text_weights": [float("nan")]}),
        ("p1", {"temperature": float("inf")}),
    ],
)
def test_numbers_that_are_not_finite_are_refused(name: str, given: dict[str, Any]) -> None:
    """A plan is stored as JSON, which has none: one that was taken could not be read again."""
    with pytest.raises(LabError, match="numbers must be finite"):
        configure(name, "smoke", given)


def test_settings_within_settings_are_finite_too() -> None:
    """`--set lora=...` is read as JSON with Infinity in it."""
    lora = configure("e2", "smoke").lora.model_dump()
    with pytest.raises(LabError, match="numbers must be finite"):
        configure("e2", "smoke", {"lora": {**lora, "learning_rate": float("inf")}})


@pytest.mark.parametrize(
    ("name", "sizes"), [("p1", [8]), ("p2", [2]), ("p3", [6, 5]), ("e0", [3]), ("e1", [2, 2]), ("e2", [9, 24, 12])]
)
def test_units_come_in_rounds_that_end(name: str, sizes: list[int]) -> None:
    """[] ends a phase; the later round exists only once the earlier one has results, and depends on it."""
    found = rounds(name)
    assert [len(units) for units in found] == sizes
    for number, units in enumerate(found, 1):
        assert {u.round for u in units} == {number}
        assert {u.phase for u in units} == {name}
        assert all(u.n_trials >= 1 and u.cost > 0 for u in units)
        if number > 1:
            earlier = {u.unit_id for u in found[number - 2]}
            assert all(u.depends_on and set(u.depends_on) <= earlier for u in units)
    everything = [i for round_ in ids(found) for i in round_]
    assert len(set(everything)) == len(everything)
    assert all(len(i) == 32 and set(i) <= set("0123456789abcdef") for i in everything)


@pytest.mark.parametrize("name", PHASES)
def test_asking_again_in_any_order_gives_the_same_units(name: str) -> None:
    """Resuming: results come back in the order in which hosts finished, and the units must be the ones on record."""
    assert ids(rounds(name, shuffled=1)) == ids(rounds(name, shuffled=2)) == ids(rounds(name))


def test_units_are_the_same_in_another_process_on_another_host() -> None:
    """Another hash seed, host name, home and folder may not change one id, or nothing would ever be found again."""
    code = "from test_contract import *; print(json.dumps({name: ids(rounds(name)) for name in PHASES}))"
    path = os.pathsep.join([str(Path(__file__).parent), str(PACKAGE.parent)])
    elsewhere = {"PYTHONPATH": path, "PYTHONHASHSEED": "7", "LAB_HOST": "pi-4", "LAB_HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd="/",
        env={**os.environ, **elsewhere},
    )
    assert json.loads(done.stdout) == {name: ids(rounds(name)) for name in PHASES}


def test_a_failed_training_ends_p3_and_leaves_e2_its_base() -> None:
    """Nothing can be asked of an adapter that does not exist; what can be measured without it still is."""
    p3, config = get_phase("p3"), configure("p3", "full", GIVEN["p3"])
    first = p3.units(config, Earlier(), [])
    failed = [Trial("training", "train", error="no peft")]
    so_far = [Result(u, failed if u.spec["role"] == "train" else []) for u in first]
    assert p3.units(config, Earlier(), so_far) == []
    e2, config = get_phase("e2"), configure("e2", "full", GIVEN["e2"])
    training = e2.units(config, findings_for(), [])
    results = [
        Result(training[0], [Trial("training", "train_s", error="nothing solved")]),
        Result(training[1], made_up_results(training[1])),
    ]
    asked = {u.spec["condition"] for u in e2.units(config, findings_for(), results)}
    assert asked == {"base_query", "tuned_r"}


def test_too_few_memos_end_e1() -> None:
    """With fewer memos than are to be shown both strategies would show the same ones: there is nothing to compare."""
    config = configure("e1", "full", GIVEN["e1"])
    first = e1.units(config, findings_for(), [])
    lost = [Result(u, [Trial(p, "memo", 100, error="OSError: gone") for p in u.spec["problems"]]) for u in first]
    assert e1.units(config, findings_for(), lost) == []


@pytest.mark.parametrize("missing", ["memos", "hypothesis", "empty"])
def test_e2_without_a_memory_is_refused(missing: str) -> None:
    """Run out of order, or after an E1 whose solver never answered: the command that mends it is named."""
    empty = Earlier((findings_for().of(e0.Findings), e1.EXPECTED))
    findings = empty if missing == "empty" else findings_for(without=missing)
    with pytest.raises(LabError, match="lab run e1"):
        get_phase("e2").units(configure("e2", "full", GIVEN["e2"]), findings, [])


@pytest.mark.parametrize("name", PHASES)
def test_a_unit_survives_its_json(name: str) -> None:
    """Units travel to other hosts as JSON; what arrives must be what was sent, id and all."""
    for units in rounds(name):
        for unit in units:
            assert Unit.from_json(json.loads(json.dumps(unit.to_json()))) == unit
