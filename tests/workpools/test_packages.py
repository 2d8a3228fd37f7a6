"""Package versions against what the tier's extra needs: read from the project's own metadata."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from workpools.packages import PROJECT, needed, project_requirements, python_reason, unmet
from workpools.tiers import TIERS

ROOT = Path(__file__).resolve().parents[2]
REQUIRES = [
    "base>=2",
    'torch>=2.7; extra == "weak"',
    f'{PROJECT}[weak]; extra == "medium"',
    'ollama>=0.5; extra == "medium"',
    'llm_memory.experiments[medium]; extra == "strong"',
    'mlx-lm>=0.29; (sys_platform == "nowhere") and extra == "strong"',
    'peft<1,>=0.18; extra == "strong"',
    'pytest>=8; extra == "dev"',
]
THERE = {"base": "2.1", "torch": "2.13.0+cpu", "ollama": "0.6.3", "peft": "0.21.2"}


def test_an_extra_takes_those_before_it_and_what_this_system_needs() -> None:
    """Each tier's extra adds to the one before: judged by its own lines alone, a strong host would need no torch."""
    names = {tier: {r.name for r in needed(REQUIRES, tier)} for tier in TIERS}
    assert names["weak"] == {"base", "torch"}
    assert names["medium"] == {"base", "torch", "ollama"}
    assert names["strong"] == {"base", "torch", "ollama", "peft"}
    assert sorted(str(r) for r in needed(REQUIRES, "strong")) == [
        "base>=2",
        "ollama>=0.5",
        "peft<1,>=0.18",
        "torch>=2.7",
    ]
    assert [r.name for r in needed([*REQUIRES, f'{PROJECT}[strong]; extra == "weak"'], "strong")].count("base") == 1


def test_each_shortfall_is_named_with_the_command_that_mends_it() -> None:
    """Too old, missing, or of a version that is none: the owner copies one line; builds with a local version are fine."""
    assert unmet("strong", REQUIRES, THERE.get) == []
    versions = THERE | {"torch": "2.6.0", "peft": "1.0", "base": "broken"}
    del versions["ollama"]
    found = unmet("strong", REQUIRES, versions.get)
    assert found is not None
    assert {u.requirement: u.reason for u in found} == {
        "base>=2": "base broken is installed, strong needs base>=2: pip install 'base>=2'",
        "torch>=2.7": "torch 2.6.0 is installed, strong needs torch>=2.7: pip install 'torch>=2.7'",
        "ollama>=0.5": "ollama is not installed, strong needs ollama>=0.5: pip install 'ollama>=0.5'",
        "peft<1,>=0.18": "peft 1.0 is installed, strong needs peft<1,>=0.18: pip install 'peft<1,>=0.18'",
    }
    weak = unmet("weak", REQUIRES, versions.get)
    assert weak is not None
    assert [u.requirement for u in weak] == ["base>=2", "torch>=2.7"]
    assert unmet("unfit", REQUIRES, {}.get) == []
    assert unmet("weak", ["torch >= "], {}.get) is None


def test_the_requirements_are_those_of_pyproject() -> None:
    """The metadata that is read is this project's, with every extra that a tier installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == PROJECT
    found = project_requirements()
    assert found is not None
    assert {"torch", "transformers", "gguf"} <= {r.name for r in needed(found, "weak")}
    for tier in TIERS:
        written = [Requirement(text) for text in project["optional-dependencies"][tier]]
        wanted = {
            r.name for r in written if r.name != PROJECT and (r.marker is None or r.marker.evaluate({"extra": tier}))
        }
        assert wanted <= {r.name for r in needed(found, tier)}
        assert "pytest" not in {r.name for r in needed(found, tier)}


def test_this_installation_meets_its_own_requirements() -> None:
    """The tests ran with it, so whatever were said to be missing here would be wrong."""
    assert [unmet(tier) for tier in TIERS] == [[], [], []]
    assert python_reason() is None


def test_a_project_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from a folder without metadata, nothing is known: not that nothing is missing."""
    monkeypatch.setattr("workpools.packages.PROJECT", "no-such-project-as-this")
    assert unmet("weak") is None
    assert "pip install -e" in str(python_reason())
