"""Counts of a scale that a file of the user's cannot serve become smaller; what the user asked for never does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments import e1_retrieval_strategies as e1
from experiments.data import split, universe
from experiments.domains import get_domain
from experiments.domains.jsonl_file import MIN_LINES, MIN_OF_LABEL
from experiments.findings import Earlier
from experiments.fitting import smaller_counts, unused_rows
from experiments.registry import PHASES, SCALES, configure, get_phase


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LAB_HOME of the test's own, where files of the user's are kept."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "lab"))
    return tmp_path


def data(home: Path, *sizes: int) -> str:
    """The domain of a file with as many lines of label a, b, ... as `sizes` says."""
    rows = [(i, label) for label, n in zip("abcdefghijklmnopqrst", sizes, strict=False) for i in range(n)]
    lines = [json.dumps({"id": f"{c}-{i}", "text": f"word{i} of kind{ord(c)}", "label": c}) for i, c in rows]
    path = home / "own.jsonl"
    path.write_text("\n".join(lines))
    return f"jsonl:{path}"


def test_a_small_file_serves_every_phase_at_full_scale(home: Path) -> None:
    """The user with 60 labelled texts gets six runs that are possible, with both sides of each split served."""
    domain = data(home, 20, 20, 20)
    shown = {}
    for name in PHASES:
        config = configure(name, "full", {"domain": domain})
        get_phase(name).sides(config, Earlier((e1.EXPECTED,)))
        shown[name] = smaller_counts(get_phase(name).Config(domain=config.domain))
    # 20 of a label: 2 for the test, 2 for tuning, 16 for the memory.
    assert shown["e1"] == {"n_problems": 60, "n_memory": 48, "n_test": 6}
    assert shown["p1"] == {"n_problems": 60, "n_memory": 48, "n_queries": 6}
    # 34 and 10 a label of the 18 that are not for tuning: 18 * 10/44 = 4, and 14.
    assert shown["p2"] == {"n_problems": 60, "n_memory": 42, "n_test": 12}
    assert shown["e0"] == {"n_problems": 60, "n_memory": 48, "n_queries": 6}
    assert shown["p3"] == {"n_problems": 60, "n_train": 48}


def test_the_rarest_label_decides(home: Path) -> None:
    """Classes are drawn equal, so 100 lines with 8 of one label serve 8 of each."""
    config = configure("p2", "full", {"domain": data(home, 92, 8)})
    assert (config.n_problems, config.n_memory, config.n_test) == (100, 12, 2)  # type: ignore[attr-defined]
    memory, test = split(config, 12, 2)
    assert sorted(p.label for p in memory) == ["a"] * 6 + ["b"] * 6 and sorted(p.label for p in test) == ["a", "b"]


def test_what_the_user_asked_for_is_not_changed(home: Path) -> None:
    """More than there is fails with what is there, instead of quietly giving less."""
    domain = data(home, 10, 10)
    config: Any = configure("p2", "full", {"domain": domain, "n_test": 8})
    assert (config.n_memory, config.n_test) == (10, 8)
    with pytest.raises(LabError, match="50 problems asked for"):
        get_phase("p2").sides(configure("p2", "full", {"domain": domain, "n_test": 50}), {})
    with pytest.raises(LabError, match="30 problems asked for; own has 20"):
        get_domain(config.domain).problems(configure("p2", "full", {"domain": domain, "n_problems": 30}).n_problems, 42)


def test_a_domain_that_makes_its_problems_is_left_alone() -> None:
    """The protocol's counts are the protocol's."""
    for name in PHASES:
        assert smaller_counts(configure(name, "full")) == {}


@settings(max_examples=40, deadline=None)
@example([29, 30], "full")  # a tenth of 30 is one more than of 29, on both sides
@given(
    st.lists(st.integers(MIN_OF_LABEL, 60), min_size=2, max_size=4).filter(lambda s: sum(s) >= MIN_LINES),
    st.sampled_from(["smoke", "demo", "full"]),
)
def test_any_file_that_the_check_calls_ready_can_be_split(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], scale: str
) -> None:
    """Whatever the sizes of the labels, P1 has enough of each, and P2, E0 and E1 find two sides, with every label on both."""
    domain = data(tmp_path_factory.mktemp("own"), *sizes)
    for name in ("p2", "e0", "e1"):
        config = configure(name, scale, {"domain": domain})
        memory, test = get_phase(name).sides(config, {})
        assert test is not None
        assert {p.label for p in memory} == {p.label for p in test} == set("abcd"[: len(sizes)])
    memory, _ = get_phase("p1").sides(configure("p1", scale, {"domain": domain}), {})
    assert {p.label for p in memory} == set("abcd"[: len(sizes)])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("labels", [2, 20])
def test_two_and_twenty_labels_run_at_every_scale(home: Path, labels: int, scale: str) -> None:
    """Every label is on both sides of every phase, whatever the scale's counts, which are meant for six."""
    domain = data(home, *[60] * labels)
    for name in ("p1", "p2", "p3", "e0", "e1"):
        config = configure(name, scale, {"domain": domain})
        memory, test = get_phase(name).sides(config, Earlier((e1.EXPECTED,)))
        assert len({p.label for p in memory}) == labels
        assert test is None or len({p.label for p in test}) == labels


def test_natural_balance_keeps_prevalence_and_uses_all_rows(home: Path) -> None:
    """Of 380 and 20 rows equal classes use 40 and say so; natural ones use all, one in twenty of the rare label."""
    domain = data(home, 380, 20)
    equal: Any = configure("e1", "full", {"domain": domain})
    assert (equal.n_memory, equal.n_test) == (32, 4)
    assert "'b' has 20 rows: at most 40 of 400 rows are used; --set balance=natural uses all" in unused_rows(equal)
    config: Any = configure("e1", "full", {"domain": domain, "balance": "natural"})
    assert config.n_problems == 400 and unused_rows(config) == ""
    memory, test = split(config, config.n_memory, config.n_test)
    assert (len(memory), len(test)) == (320, 40)  # a tenth each for the test and for tuning
    assert [sum(p.label == "b" for p in side) for side in (memory, test)] == [16, 2]
    with pytest.raises(LabError, match="leave balance at equal"):
        universe(configure("p2", "smoke", {"balance": "natural"}))


@pytest.mark.parametrize("name", ["p1", "p2", "p3", "e0", "e1"])
def test_whole_groups_serve_every_phase_at_full_scale(name: str) -> None:
    """With split: group each side has what its groups have; counts shrink before anything is planned."""
    config = configure(name, "full", {"split": "group"})
    memory, test = get_phase(name).sides(config, Earlier((e1.EXPECTED,)))
    assert smaller_counts(config) == {}
    assert len({p.label for p in memory}) == 6
    assert test is None or not {p.group for p in memory} & {p.group for p in test}


def test_a_label_with_two_groups_cannot_be_split_by_group(home: Path) -> None:
    """Memory, tuning and test need one each: said before anything is planned."""
    rows = [(label, i) for label in "ab" for i in range(20)]
    lines = [
        json.dumps({"id": f"{c}{i}", "text": f"word{i} of {c}", "label": f"kind-{c}", "group": f"{c}{i % 2}"})
        for c, i in rows
    ]
    (home / "two.jsonl").write_text("\n".join(lines))
    with pytest.raises(LabError, match=r"has 2 groups, too few .* for memory, tuning and test apart"):
        configure("p2", "full", {"domain": f"jsonl:{home / 'two.jsonl'}", "split": "group"})
