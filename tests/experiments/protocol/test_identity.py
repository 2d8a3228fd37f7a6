"""Unit ids: equal exactly when what decides the result is equal; tampering and other code are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.canonical_json import canonical
from common.errors import LabError
from experiments.contract import Unit
from experiments.protocol import code_version as code
from experiments.protocol import identity
from experiments.protocol.code_version import code_version
from experiments.registry import PHASES, configure, get_phase
from experiments.seeds import generator, seed_for

CONFIG = configure("p2", "smoke", {"n_problems": 24, "n_memory": 6})
MODELS = ["smollm2-135m", "all-MiniLM-L6-v2"]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SPEC = st.dictionaries(st.text(max_size=4), PLAIN, max_size=3)
Change = Callable[[str, str, str], None]


def unit(spec: dict[str, Any] | None = None, **more: Any) -> Unit:
    return identity.make_unit("p2", CONFIG, spec or {"problems": ["a", "b"]}, models=MODELS, **more)


@pytest.fixture(scope="module")
def unchanged() -> dict[str, str]:
    """The versions before any edit."""
    return versions()


@pytest.fixture(scope="module")
def trials_unchanged() -> dict[str, str]:
    """The same of the trials alone."""
    return versions(analysis=False)


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Change]:
    """Edits a copy of the package that code_version then reads: change(file, old text, new text)."""
    copy = tmp_path / "experiments"
    shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", copy)

    def edit(file: str, old: str, new: str) -> None:
        path = copy / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        code_version.cache_clear()

    yield edit
    code_version.cache_clear()


LOOKED_AT = ("p1", "p3", "e2")  # they import different things; all six would take twice as long


def versions(analysis: bool = True) -> dict[str, str]:
    return {name: code_version(name, "big_o", analysis) for name in LOOKED_AT}


def test_every_phase_has_a_code_version_of_its_own() -> None:
    """16 hex digits, different for different phases, and for trials and what is made of them."""
    found = {(name, whole): code_version(name, "big_o", whole) for name in PHASES for whole in (False, True)}
    assert len(set(found.values())) == 2 * len(PHASES)
    assert all(len(v) == 16 and set(v) <= set("0123456789abcdef") for v in found.values())


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("solving/candidates.py", "HALF = 0.5", "# another comment\nHALF = (\n    0.5\n)"),
        ("p1_embedding_validity.py", '"""P1 - do embeddings', '"""P1 - do or do not embeddings'),
        ("p1_embedding_validity.py", '    """Return one unit a candidate."""\n', ""),
        ("statistics.py", '"""A test of n pairs', '"""One test of n pairs'),
        ("contract.py", "ge=12", "ge=11"),
        ("registry.py", '"smoke", "demo", "full"', '"smoke", "demo"'),
    ],
)
def test_what_cannot_change_a_result_keeps_the_version(
    change: Change, unchanged: dict[str, str], file: str, old: str, new: str
) -> None:
    """Comments, docstrings, layout, and the modules that only pass data: mending a typo must not redo a night's work."""
    change(file, old, new)
    assert versions() == unchanged


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("solving/candidates.py", "HALF = 0.5", "HALF = 0.6", {"p1"}),
        ("analysis/e2_settings.py", "0.65, 0.95", "0.66, 0.95", {"e2"}),
        ("analysis/attempts.py", "np.rint(x) == 1", "np.rint(x) == 2", {"e2"}),
        ("capability/judges.py", "len(lines) == count", "len(lines) >= count", {"p3"}),
        ("seeds.py", '"\\x1f"', '"\\x1e"', set(LOOKED_AT)),
        ("backends/transformers_lm.py", "WINDOW_TOKENS = 2048", "WINDOW_TOKENS = 1024", set(LOOKED_AT)),
        ("domains/big_o/domain.py", "maximum = 3000", "maximum = 3001", set(LOOKED_AT)),
        ("statistics.py", "RESAMPLES = 1000", "RESAMPLES = 999", {"p1", "p3", "e2"}),
        ("domains/leakage.py", "NAMED_PAIRS = 3", "NAMED_PAIRS = 4", set(LOOKED_AT)),
        ("domains/big_o/families.py", "def _read(", "def _read  (  # moved\n", set()),
    ],
)
def test_what_can_change_a_result_changes_the_version(
    change: Change, unchanged: dict[str, str], file: str, old: str, new: str, changed: set[str]
) -> None:
    """A constant changed anywhere below a phase: its stored results are then another experiment's."""
    change(file, old, new)
    assert {name for name, version in versions().items() if version != unchanged[name]} == changed


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("analysis/e2_settings.py", "0.65, 0.95", "0.66, 0.95", set()),
        ("statistics.py", "RESAMPLES = 1000", "RESAMPLES = 999", set()),
        ("analysis/attempts.py", "np.rint(x) == 1", "np.rint(x) == 2", set()),
        ("analysis/validity.py", "NOISE = 1e-9", "NOISE = 1e-8", set()),
        (
            "p1_embedding_validity.py",
            "cost=cost_of(candidate(name), config)",
            "cost=2 * cost_of(candidate(name), config)",
            set(),
        ),
        ("p1_embedding_validity.py", '"candidates: embedders, ', '"embedders, ', set()),
        ("protocol/leakage_gate.py", 'MARK = "LEAKY DATA"', 'MARK = "LEAKY"', set()),
        ("protocol/leakage_gate.py", "LISTED = 20", "LISTED = 21", set(LOOKED_AT)),
        ("solving/candidates.py", "HALF = 0.5", "HALF = 0.6", {"p1"}),
        ("capability/judges.py", "len(lines) == count", "len(lines) >= count", {"p3"}),
        ("solving/distillation.py", "def raw(", "def raw_(", {"e2"}),
        ("solving/memory_bank.py", "m.answer, m.order)", "m.answer, -m.order)", {"e2"}),
        ("seeds.py", '"\\x1f"', '"\\x1e"', set(LOOKED_AT)),
        ("domains/big_o/domain.py", "maximum = 3000", "maximum = 3001", set(LOOKED_AT)),
    ],
)
def test_trials_stand_when_only_their_analysis_or_its_price_changes(
    change: Change, trials_unchanged: dict[str, str], file: str, old: str, new: str, changed: set[str]
) -> None:
    """A night's trials are not computed again for another interval or estimate; for what run() reaches they are."""
    change(file, old, new)
    assert {name for name, version in versions(False).items() if version != trials_unchanged[name]} == changed


def test_the_id_changes_with_all_that_decides_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Config, spec, files, data, model and code: each alone makes another unit."""

    def with_config(**values: Any) -> Unit:
        config = configure("p2", "smoke", {"n_problems": 24, "n_memory": 6, **values})
        return identity.make_unit("p2", config, {"problems": ["a", "b"]}, models=MODELS)

    found = [
        unit(),
        unit({"problems": ["b", "a"]}),
        unit(files=["f" * 64]),
        with_config(temperature=0.4),
        with_config(data_seed=43),
        with_config(n_problems=30),
        with_config(run_seeds=[100]),
        with_config(split="group"),
        identity.make_unit("p2", CONFIG, {"problems": ["a", "b"]}, models=MODELS[:1]),
        identity.make_unit("e1", configure("e1", "smoke"), {"problems": ["a", "b"]}, models=MODELS),
    ]
    monkeypatch.setattr(identity, "code_version", lambda phase, domain, models=(): "0" * 16)
    found.append(unit())
    monkeypatch.setattr("experiments.backends.catalog.digest_of", lambda name: "d" * 64)
    found.append(unit())
    assert len({u.unit_id for u in found}) == len(found)


def test_the_id_does_not_change_with_what_only_helps_to_plan() -> None:
    """Cost, round, what it waits for and how many trials are expected: a better estimate must not redo the work."""
    other = unit(round=2, depends_on=["x" * 32], n_trials=9, cost=99.0)
    assert other.unit_id == unit().unit_id
    assert identity.make_unit("p2", CONFIG, {"problems": ["a", "b"]}, models=MODELS[::-1] * 2).unit_id == unit().unit_id


@settings(max_examples=60, deadline=None)
@given(SPEC, SPEC)
def test_ids_are_equal_exactly_when_specs_are(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Equal JSON gives the equal id, whatever the order of keys; anything else gives another."""
    same = canonical(one) == canonical(two)
    assert (unit({"s": one}).unit_id == unit({"s": two}).unit_id) == same
    backwards = dict(reversed(list(one.items())))
    assert (
        unit({"s": backwards}).unit_id == unit({"s": one}).unit_id == unit({"s": json.loads(json.dumps(one))}).unit_id
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    """NaN is unequal to itself: hashed, it would make two equal units out of unequal ones."""
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": value})


def test_a_unit_made_here_is_accepted_here() -> None:
    """The check that every host makes first must let its own units through, also after a way through JSON."""
    identity.check_unit(unit(), CONFIG)
    travelled = Unit.from_json(json.loads(json.dumps(unit(files=["f" * 64]).to_json())))
    identity.check_unit(travelled, get_phase("p2").Config(**travelled.config))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda u: {"spec": {"problems": ["a", "c"]}},
        lambda u: {"config": {**u.config, "temperature": 9.0}},
        lambda u: {"phase": "p1"},
        lambda u: {"files": ("e" * 64,)},
        lambda u: {"unit_id": "0" * 32},
        lambda u: {"identity": {**u.identity, "code": "0" * 16}},
        lambda u: {"identity": {**u.identity, "models": {}}},
    ],
    ids=["spec", "config", "phase", "files", "unit_id", "code", "models"],
)
def test_a_tampered_unit_is_refused(tamper: Callable[[Unit], dict[str, Any]]) -> None:
    """Whatever was changed on the way, the id no longer fits: nothing is run under a name that means something else."""
    with pytest.raises(LabError, match="was changed after it was planned"):
        identity.check_unit(replace(unit(), **tamper(unit())), CONFIG)


@pytest.mark.parametrize(
    ("patched", "value", "word"),
    [
        ("experiments.protocol.identity.code_version", "1" * 16, "code differ"),
        ("experiments.backends.catalog.digest_of", "2" * 64, "models differ"),
    ],
)
def test_a_unit_from_other_code_or_models_is_refused(
    patched: str, value: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is behind the coordinator says so and names the way out; it does not compute something else."""
    made = unit()
    monkeypatch.setattr(patched, lambda *args, **kwargs: value)
    with pytest.raises(LabError, match=word) as caught:
        identity.check_unit(made, CONFIG)
    assert value in caught.value.what and caught.value.mend


def test_a_unit_with_other_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another library version could make other problems out of the same seed."""
    from experiments import data

    made, other = unit(), replace(data.universe(CONFIG), version="big_o-0")
    monkeypatch.setattr(data, "universe", lambda config: other)
    with pytest.raises(LabError, match="data differ"):
        identity.check_unit(made, CONFIG)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(st.integers(), st.text(alphabet="ab1", max_size=3)), min_size=1, max_size=4),
    st.lists(st.one_of(st.integers(), st.text(alphabet="ab1", max_size=3)), min_size=1, max_size=4),
)
def test_seeds_differ_exactly_when_keys_do(one: list[str | int], two: list[str | int]) -> None:
    """("a", "b") and ("ab",) are different draws; a number and its text are the same, as keys travel through JSON."""
    same = [str(k) for k in one] == [str(k) for k in two]
    assert (seed_for(*one) == seed_for(*two)) == same


def test_draws_touch_no_global_state_and_repeat() -> None:
    """Every draw is a function of its key alone: a global generator would make the order of units matter."""
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first = generator(100, "p2", "q1", "none").random(5)
    assert np.array_equal(generator(100, "p2", "q1", "none").random(5), first)
    assert not np.array_equal(generator(100, "p2", "q1", "random").random(5), first)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]
