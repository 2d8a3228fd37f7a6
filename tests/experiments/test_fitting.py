"""Counts of a scale that a file of the user's cannot serve become smaller; what the user asked for never does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments import e1_retrieval_strategies as e1
from experiments.data import split
from experiments.domains import get_domain
from experiments.findings import Earlier
from experiments.registry import PHASES, configure, get_phase, smaller_counts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LAB_HOME of the test's own, where files of the user's are kept."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "lab"))
    return tmp_path


def data(home: Path, *sizes: int) -> str:
    """The domain of a file with as many lines of label a, b, ... as `sizes` says."""
    rows = [(i, label) for label, n in zip("abcd", sizes, strict=False) for i in range(n)]
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
    # 20 of a label: 1500 and 150 problems, 500 and 50 a label, keep 20 * 10/11 = 18 and 20 * 1/11 = 1 a label.
    assert shown["e1"] == {"n_problems": 60, "n_memory": 54, "n_test": 3}
    assert shown["p1"] == {"n_problems": 60}  # 17 a label are there
    assert shown["p2"] == {"n_problems": 60, "n_memory": 45, "n_test": 12}
    assert shown["e0"] == {"n_problems": 60, "n_memory": 45, "n_queries": 15}
    assert shown["p3"] == {"n_problems": 60}  # 17 a label to train on and one beside them


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
    assert (config.n_memory, config.n_test) == (12, 8)
    with pytest.raises(LabError, match="50 problems asked for"):
        get_phase("p2").sides(configure("p2", "full", {"domain": domain, "n_test": 50}), {})
    with pytest.raises(LabError, match="30 problems asked for; own has 20"):
        get_domain(config.domain).problems(configure("p2", "full", {"domain": domain, "n_problems": 30}).n_problems, 42)


def test_a_domain_that_makes_its_problems_is_left_alone() -> None:
    """The protocol's counts are the protocol's."""
    for name in PHASES:
        assert smaller_counts(configure(name, "full")) == {}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(3, 60), min_size=2, max_size=4).filter(lambda s: sum(s) >= 12),
    st.sampled_from(["smoke", "demo", "full"]),
)
def test_any_file_with_three_of_each_label_can_be_split(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], scale: str
) -> None:
    """Whatever the sizes of the labels, P2, E0 and E1 find two sides, with every label on both."""
    domain = data(tmp_path_factory.mktemp("own"), *sizes)
    for name in ("p2", "e0", "e1"):
        config = configure(name, scale, {"domain": domain})
        memory, test = get_phase(name).sides(config, {})
        assert test is not None
        assert {p.label for p in memory} == {p.label for p in test} == set("abcd"[: len(sizes)])
