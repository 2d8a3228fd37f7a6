"""Problems and splits: balanced, the same everywhere, and no problem, group or answer on the wrong side."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments import e0_retrieval_parameters as e0
from experiments import e1_retrieval_strategies as e1
from experiments import p1_embedding_validity as p1
from experiments import p2_retrieval_utility as p2
from experiments.data import balanced, batches, natural, split, universe
from experiments.domains import Problem, get_domain
from experiments.domains.leakage import inspect, refuse
from experiments.findings import Earlier
from experiments.registry import SCALES, configure

DOMAIN = get_domain("big_o")


def config(**given: Any) -> p2.Config:
    return p2.Config(**{"n_problems": 96, **given})


def plain(labels: list[str]) -> list[Problem]:
    return [Problem(f"p{i}", f"text {i}", label, label) for i, label in enumerate(labels)]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_balanced_keeps_order_and_gives_each_class_its_share(labels: list[str], n: int) -> None:
    """Equal to within one, in the given order, exactly n; or refused, naming the class that is short."""
    problems = plain(labels)
    try:
        chosen = balanced(problems, n)
    except LabError as error:
        short = [c for c in set(labels) if labels.count(c) < -(-n // len(set(labels)))]
        assert any(repr(c) in str(error) for c in short)  # noqa: PT017
        return
    counts = Counter(p.label for p in chosen)
    assert len(chosen) == n
    shares = [counts[c] for c in set(labels)]
    assert max(shares) - min(shares) <= 1
    assert chosen == [p for p in problems if p in chosen]


def test_too_few_problems_are_refused_with_what_there_is() -> None:
    """A phase that asks for more than there are must say so before anything runs."""
    with pytest.raises(LabError, match="only 1 of class 'b'"):
        balanced(plain(["a", "a", "b"]), 4)
    with pytest.raises(LabError, match="raise n_problems"):
        split(config(n_problems=24), 23, 12)


@pytest.mark.parametrize("how", ["variant", "group"])
@pytest.mark.parametrize(("n_memory", "n_test"), [(18, 6), (36, 13), (12, 12)])
def test_a_split_is_balanced_disjoint_and_repeats(how: str, n_memory: int, n_test: int) -> None:
    """Both sides have equal classes, nothing stands on both, and the same config gives the same sides in the same order."""
    memory, test = split(config(split=how), n_memory, n_test)
    assert (len(memory), len(test)) == (n_memory, n_test)
    for side in (memory, test):
        counts = Counter(p.label for p in side)
        assert max(counts.values()) - min(counts[o] for o in DOMAIN.options) <= 1
    assert not {p.problem_id for p in memory} & {p.problem_id for p in test}
    assert inspect(DOMAIN, memory, test).none
    assert split(config(split=how), n_memory, n_test) == (memory, test)


def test_a_group_split_keeps_families_whole() -> None:
    """Variants of one family on both sides would let retrieval copy the answer; split: group is the strict reading."""
    memory, test = split(config(split="group"), 18, 12)
    assert not {p.group for p in memory} & {p.group for p in test}
    by_variant = split(config(n_problems=360), 120, 60)
    assert {p.group for p in by_variant[0]} & {p.group for p in by_variant[1]}


@pytest.mark.parametrize("how", ["variant", "group"])
@pytest.mark.parametrize("scale", SCALES)
def test_no_phase_that_chooses_sees_a_problem_that_is_reported_on(scale: str, how: str) -> None:
    """P1 and E0 choose on problems that are neither in the test of P2 and E1 nor, of E0's queries, in any memory."""
    given = {"split": how}
    chosen: set[str] = set()
    for phase in (p1, e0):
        stored, queries = phase.sides(configure(phase.NAME, scale, given), Earlier())
        chosen |= {p.problem_id for p in (*stored, *(queries or ()))}
    for phase in (p2, e1):
        memory, test = phase.sides(configure(phase.NAME, scale, given), Earlier())
        assert not chosen & {p.problem_id for p in test or ()}
        assert not {p.problem_id for p in queries or ()} & {p.problem_id for p in memory}


def test_the_test_has_many_families_with_few_problems_each() -> None:
    """Problems of a family are alike: thirty from thirty families are more observations than thirty from ten."""
    _, test = split(configure("p2", "full"), 100, 30)
    assert len({p.group for p in test}) == 30
    _, test = split(configure("e1", "full", {"split": "group"}), 100, 90)
    assert len({p.group for p in test}) >= 30


def test_batches_have_whole_families_of_all_classes_in_turn() -> None:
    """A family in two batches, or classes one after the other, and a look would not be at new and like observations."""
    problems = split(p2.Config(), 100, 180).test
    found = batches(problems, 12)
    assert sorted(p.problem_id for b in found for p in b) == sorted(p.problem_id for p in problems)
    families = [{p.group for p in b} for b in found]
    assert sum(map(len, families)) == len(set().union(*families)) > 60
    of_class = Counter({p.group: p.label for p in problems}.values())
    for n in range(1, len(found)):
        there = set().union(*families[:n])
        seen = Counter({p.group: p.label for p in problems if p.group in there}.values())
        share = len(there) / sum(of_class.values())
        assert all(abs(seen[label] - share * of_class[label]) < 1.5 for label in of_class), "each class by its share"
    assert all(len(b) >= 12 for b in found[:-1]) and max(map(len, found)) <= 12 + 5


def test_natural_shares_by_hand() -> None:
    """Seven and three of ten: of five, 3.5 and 1.5 are 4 and 1 (equal remainders go by name); of one class one at least."""
    problems = plain(["a"] * 7 + ["b"] * 3)
    assert Counter(p.label for p in natural(problems, 5)) == {"a": 4, "b": 1}
    assert Counter(p.label for p in natural(plain(["a"] * 19 + ["b"]), 4)) == {"a": 3, "b": 1}
    assert natural(problems, 10) == problems
    with pytest.raises(LabError, match="only 10 are there"):
        natural(problems, 11)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_natural_shares_are_exactly_as_many_as_asked_for(labels: list[str], n: int) -> None:
    """Within one of the exact share, but for a class that would have none."""
    if n > len(labels):
        return
    chosen = Counter(p.label for p in natural(plain(labels), n))
    assert sum(chosen.values()) == n
    if n >= len(set(labels)):
        assert set(chosen) == set(labels)


def test_memory_is_in_an_order_drawn_by_the_seed() -> None:
    """Temporal retrieval takes the last ones: an order by class or family would favour or spoil it."""
    memory, _ = split(config(), 24, 6)
    position = {p.problem_id: i for i, p in enumerate(universe(config()).problems)}
    paths = [position[p.problem_id] for p in memory]
    assert paths != sorted(paths)
    other, _ = split(config(data_seed=43), 24, 6)
    assert [p.problem_id for p in other] != [p.problem_id for p in memory]


def test_the_version_names_the_data() -> None:
    """It stands in every unit's identity: other size, seed or text must be another version, the same the same."""
    versions = [universe(config(**c)).version for c in ({}, {"n_problems": 90}, {"data_seed": 43})]
    assert len(set(versions)) == 3
    assert universe(config(n_test=3)) is universe(config())
    assert all(v.startswith(f"{DOMAIN.version}-") for v in versions)
    known = universe(config()).by_id()
    assert len(known) == 96 and all(known[i].problem_id == i for i in known)


def test_a_test_problem_in_memory_is_refused_by_name() -> None:
    """Renamed and commented it is still the same function: the pair is named, and what to do."""
    memory, test = list(universe(config()).problems[:6]), list(universe(config()).problems[6:12])
    refuse(inspect(DOMAIN, memory, test))
    twin = replace(test[0], problem_id="twin", text=f"# a comment\n{test[0].text}\n\n")
    with pytest.raises(LabError) as caught:
        refuse(inspect(DOMAIN, [*memory, twin], test))
    assert f"twin = {test[0].problem_id}" in str(caught.value)
    assert "1 test problems" in str(caught.value) and "split: group" in caught.value.mend


def test_only_the_first_pairs_are_named() -> None:
    """A hundred leaks are one mistake: the line must stay readable."""
    problems = list(universe(config()).problems[:20])
    with pytest.raises(LabError) as caught:
        refuse(inspect(DOMAIN, problems, problems))
    assert "20 test problems" in str(caught.value) and str(caught.value).count(" = ") == 3


@pytest.mark.parametrize("side", ["memory", "test"])
def test_a_text_that_names_an_answer_is_refused_by_name(side: str) -> None:
    """A comment "runs in O(n)" would make the test one of reading."""
    memory, test = list(universe(config()).problems[:6]), list(universe(config()).problems[6:12])
    at = memory if side == "memory" else test
    at[2] = replace(at[2], text=f"{at[2].text}\n# runs in O(n log n)\n")
    with pytest.raises(LabError, match=at[2].problem_id):
        refuse(inspect(DOMAIN, memory, test))


@pytest.mark.parametrize(("domain", "n"), [("no_such", 24), ("big_o", 100_000)])
def test_a_domain_that_is_not_there_or_has_not_enough_is_refused(domain: str, n: int) -> None:
    """The user's mistake, in one line with the choices or the limit."""
    with pytest.raises(LabError) as caught:
        universe(config(domain=domain, n_problems=n))
    assert caught.value.mend
