"""Natural names in the domain big_o: they fit the family, never name a class, and change nothing else."""

from __future__ import annotations

import ast

import pytest

from common.errors import LabError
from experiments.data import universe
from experiments.domains import get_domain
from experiments.domains.big_o.families import FAMILIES
from experiments.domains.big_o.features import normal_form
from experiments.domains.big_o.template import ELEMENTS, FUNCTIONS, HELPER, INDICES, INTEGERS, LISTS, OTHERS, SUMS
from experiments.domains.leakage import names_answer
from experiments.protocol.identity import make_unit
from experiments.registry import configure

DOMAIN = get_domain("big_o")
NATURAL = {family.name: family.called for family in FAMILIES}


def test_every_family_has_names_that_name_no_class() -> None:
    """A function called linear_search would hand the answer over; one without a name would fall back to a neutral one."""
    assert len(NATURAL) == len(FAMILIES) > 60
    variables = {*FUNCTIONS, *LISTS, *INTEGERS, *INDICES, *SUMS, *ELEMENTS, *OTHERS}
    for family, names in NATURAL.items():
        assert len(set(names)) == len(names) >= 2, family
        for name in (*names, HELPER):
            assert name.isidentifier() and name not in variables
            assert not names_answer(DOMAIN, f"def {name}(n): return {name}_step(n)"), name
    assert "binary_search" in NATURAL["seek"] and "bubble_sort" in NATURAL["neighbour_swaps"]


def test_natural_and_neutral_problems_differ_in_names_alone() -> None:
    """Then a difference in results is the names' doing: same ids, labels, order and code, other names."""
    neutral, natural = DOMAIN.problems(300, 42), DOMAIN.problems(300, 42, "natural")
    for one, other in zip(neutral, natural, strict=True):
        assert (one.problem_id, one.label, one.group) == (other.problem_id, other.label, other.group)
        assert normal_form(one.text) == normal_form(other.text) and one.text != other.text
        assert not names_answer(DOMAIN, other.text)
        functions = [node.name for node in ast.parse(other.text).body if isinstance(node, ast.FunctionDef)]
        assert functions[-1] in NATURAL[other.group]
        assert not set(functions) & set(FUNCTIONS)
    assert natural == DOMAIN.problems(300, 42, "natural")
    assert len({p.text for p in natural}) == 300


def test_names_are_another_version_of_the_data() -> None:
    """Results under one kind of names must never be taken for those under the other."""
    configs = [configure("p1", "smoke", {"names": kind}) for kind in ("neutral", "natural")]
    assert configs[1] == configure("p1", "smoke")
    versions = [universe(c).version for c in configs]
    assert versions[0].startswith("big_o-1-96-42-") and versions[1].startswith("big_o-1-natural-96-42-")
    assert len({make_unit("p1", c, {}, models=[]).unit_id for c in configs}) == 2
    with pytest.raises(LabError, match="choose neutral or natural"):
        DOMAIN.problems(12, 42, "honest")
    with pytest.raises(LabError, match="names = 'honest'"):
        configure("p1", "smoke", {"names": "honest"})


def test_the_default_task_is_the_one_that_the_default_model_can_answer() -> None:
    """Natural names in big_o (docs/science.md, The default task); other domains have no names, and what is given stays."""
    assert configure("e1", "full").names == "natural"
    assert configure("e1", "full", {"names": "neutral"}).names == "neutral"
    assert configure("e1", "full", {"domain": "equations"}).names == "neutral"
