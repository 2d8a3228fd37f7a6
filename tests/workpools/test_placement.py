"""Placement: the cheapest tier that fits and is online, and a refusal that says what is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_host import ALL, made_up_report

from common.errors import LabError
from experiments.registry import PHASES, configure
from workpools.assess import CapabilityReport
from workpools.hosts import UNNAMED
from workpools.needs import demand
from workpools.placement import Placement, fit_hosts, out_of_use, place
from workpools.tiers import TIERS, serves, tiers_for

ONLINE = {"weak": ["a", "b"], "medium": ["b"], "strong": ["c"], "coordinator": ["c"]}


def test_a_phase_goes_to_the_cheapest_tier_that_is_online() -> None:
    """Strong machines stay free for what only they can run; the number of able workers bounds the shards."""
    fits = "cheapest tier online that fits"
    assert place("prerequisites", ALL, ONLINE) == Placement("weak", ("a", "b"), f"{fits} prerequisites")
    assert place("prerequisites", ALL, ONLINE).workers == 2
    assert place("e0_e1", ALL, ONLINE) == Placement("medium", ("b",), f"{fits} e0_e1")
    assert place("e2", ALL, ONLINE) == Placement("strong", ("c",), f"{fits} e2")
    assert place("prerequisites", ALL, {"weak": [], "strong": ["c"]}).pool == "strong"
    assert place("e0_e1", ALL, {"weak": ["a"], "strong": ["c"]}).pool == "strong"


def test_e2_in_full_numbers_never_goes_to_a_medium_machine() -> None:
    """There it would run in other numbers, under the ids of the plan: that is another plan, which the refusal names."""
    other = r"medium 1, strong 0; machines of medium run it in other numbers, by another plan: --set e2\.precision=int8"
    with pytest.raises(LabError, match=other):
        place("e2", ALL, {"medium": ["b"]})
    no_lora = made_up_report("c", engines=("embedder", "language_model"))
    with pytest.raises(LabError, match=r"c lacks lora; machines of medium"):
        place("e2", ALL, ONLINE, [no_lora])
    fits = "cheapest tier online that fits e2_quantized"
    assert place("e2_quantized", ALL, ONLINE) == Placement("medium", ("b",), fits)
    assert place("e2_quantized", ALL, {"strong": ["c"]}) == Placement("strong", ("c",), fits)


def test_a_medium_machine_too_small_for_the_quantised_model_gets_none() -> None:
    """The medium tier starts at 5 GB, quantised E2 at 6: a machine in between takes E0 and E1, and is named for E2."""
    small, large = made_up_report("b", 5.5), made_up_report("d", 6)
    assert (small.tier, large.tier) == ("medium", "medium")
    assert place("e0_e1", ALL, {"medium": ["b"]}, [small]).workers == 1
    assert place("e2_quantized", ALL, {"medium": ["b", "d"]}, [small, large]).workers == 1
    with pytest.raises(LabError, match="b lacks 6 GB RAM available or 10 GB disk"):
        place("e2_quantized", ALL, {"medium": ["b"]}, [small])


def test_a_host_with_another_release_is_passed_over_and_named() -> None:
    """Its numbers would be another result under the same id; a release that its report does not tell, it checks itself."""
    other = made_up_report("a").model_copy(update={"versions": {"torch": "2.12.1+cu126"}})
    same = made_up_report("b").model_copy(update={"versions": {"torch": "2.13.4"}})
    needs, online = (*ALL, "torch==2.13"), {"weak": ["a", "b", "c"]}
    assert place("prerequisites", needs, online, [other, same, made_up_report("c")]).hosts == ("b", "c")
    with pytest.raises(LabError, match=r"a lacks torch==2\.13"):
        place("prerequisites", needs, {"weak": ["a"]}, [other])


@pytest.mark.parametrize(
    ("profile", "wanted", "need"),
    [
        ("prerequisites", "weak", "3 GB RAM available, 5 GB disk"),
        ("e0_e1", "medium", "5 GB RAM available, 10 GB disk"),
        ("e2", "strong", "12 GB RAM available, 15 GB disk"),
    ],
)
def test_where_nothing_fits_the_need_and_what_is_online_are_named(profile: str, wanted: str, need: str) -> None:
    """Whoever waits for a phase learns which machine is missing and the command that adds it."""
    with pytest.raises(LabError) as refused:
        place(profile, ALL, {"coordinator": ["c"]})
    assert refused.value.what == f"{profile} needs a {wanted} worker ({need}); online: weak 0, medium 0, strong 0"
    assert refused.value.mend == f"prefect worker start --pool {wanted}"


def test_a_tier_too_weak_is_counted_but_not_used() -> None:
    """Workers that are online and too small are shown, so that nobody looks for a fault in them."""
    with pytest.raises(LabError, match=r"e0_e1 needs a medium worker .*; online: weak 2, medium 0, strong 0\."):
        place("e0_e1", ALL, {"weak": ["a", "b"]})


def test_a_worker_that_lacks_an_engine_is_passed_over_and_named() -> None:
    """A host without LoRA must not be given E2; where only such hosts are online the refusal says which and what."""
    bare, able = made_up_report("a", engines=("embedder",)), made_up_report("b")
    assert place("prerequisites", ALL, {"weak": ["a", "b"]}, [bare, able]).workers == 1
    assert place("prerequisites", ["embedder"], {"weak": ["a", "b"]}, [bare, able]).workers == 2
    with pytest.raises(LabError, match=r"weak 1, medium 0, strong 1; a lacks language_model, lora\.") as refused:
        place("prerequisites", ALL, {"weak": ["a"], "strong": ["a"]}, [bare])
    assert refused.value.mend == "prefect worker start --pool weak, on a machine after: make setup"


def test_who_gets_no_work_is_named_with_the_way_back() -> None:
    """Whoever drained the only machine reads which command gives it work again, not how to start another one."""
    online = {"weak": ["a", "b"]}
    assert place("prerequisites", ALL, online, excluded=out_of_use({"a"})) == Placement(
        "weak", ("b",), "cheapest tier online that fits prerequisites", ("a",)
    )
    with pytest.raises(
        LabError, match=r"weak 2, medium 0, strong 0; a is drained; b is left out of this run: code"
    ) as no:
        place("prerequisites", ALL, online, excluded=out_of_use({"a"}) | {"b": "is left out of this run: code differ"})
    assert no.value.mend == "lab undrain a"
    with pytest.raises(LabError, match=r"; a is drained\.") as no:
        fit_hosts("prerequisites", ALL, {"weak": ["a"]}, excluded=out_of_use({"a"}))
    assert no.value.mend == "lab undrain a"


def test_a_worker_whose_name_no_host_can_have_gets_nothing() -> None:
    """Its shards would carry the machine's own name, and be taken for those of a machine that is gone; names that Prefect
    made are known to say nothing. A comparison of machines goes on without both."""
    prefect = f"{UNNAMED}1"
    for name in ("Living Room", "all", "pi_4"):
        with pytest.raises(LabError, match=f"{name} has no host's name"):
            place("prerequisites", ALL, {"weak": [name]})
        assert place("prerequisites", ALL, {"weak": [name, "b", prefect]}).unfit == (name,)
        assert set(fit_hosts("prerequisites", ALL, {"weak": [name, "b", prefect]})) == {"b"}


def test_a_worker_without_a_report_is_believed_able() -> None:
    """A worker that was started by hand under a name of its own still gets work."""
    assert place("e2", ALL, {"strong": ["somebody"]}, [made_up_report("a", engines=())]).workers == 1


def test_a_plan_speaks_of_registered_machines() -> None:
    """A plan asks who is known, not who is online; told otherwise, its reader would look for a worker that is down."""
    assert place("e0_e1", ALL, {"medium": ["b"]}, state="registered").reason.startswith("cheapest tier registered")
    with pytest.raises(LabError, match="; registered: weak 1, medium 0, strong 0"):
        place("e0_e1", ALL, {"weak": ["a"]}, state="registered")


@st.composite
def networks(draw: st.DrawFn) -> list[CapabilityReport]:
    """Machines of any size around the thresholds, each with some of the engines."""
    sizes = draw(st.lists(st.floats(2, 14), max_size=6))
    engines = st.lists(st.sampled_from(ALL), unique=True).map(tuple) | st.just(ALL)
    return [made_up_report(f"host-{i}", round(ram, 2), draw(engines)) for i, ram in enumerate(sizes)]


@given(
    networks(),
    st.sampled_from(["prerequisites", "e0_e1", "e2_quantized", "e2"]),
    st.lists(st.sampled_from(ALL), unique=True),
)
def test_no_unit_goes_to_a_machine_that_cannot_run_it(
    reports: list[CapabilityReport], profile: str, needs: list[str]
) -> None:
    """Whatever the machines: each that is chosen has memory and engines, none that has is left out of the pool, and a
    refusal means that there is none."""
    online = {tier: [r.host for r in reports if tier in serves(r.tier)] for tier in TIERS}
    equipped = [r for r in reports if set(needs) <= set(r.engines)]
    fit = [r.host for r in equipped if r.profiles[profile]]
    try:
        placed = place(profile, needs, online, reports)
    except LabError:
        assert not fit
        return
    assert list(placed.hosts) == fit
    assert placed.pool in tiers_for(profile)
    assert set(placed.hosts) <= set(online[placed.pool])


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_can_be_placed(phase: str) -> None:
    """A phase with a profile or an engine that no machine has would wait for ever."""
    profile, needs = demand(phase, configure(phase, "smoke"))
    assert place(profile, needs, {"strong": ["c"]}, [made_up_report("c")]).pool == "strong"
