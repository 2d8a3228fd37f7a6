"""Roles: each machine gets the phases of its tier where nobody waits for it longer than that saves; pins say otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_host import made_up_report

from common.errors import LabError
from experiments.registry import PHASES
from workpools.placement import Placement
from workpools.plan import Round, schedule
from workpools.roles import WORTH, elsewhere, parse_pins, with_roles
from workpools.shards import START_S, cut, taken
from workpools.tiers import TIERS

TIERS_OF = {"pi": "weak", "laptop": "medium", "desktop": "strong"}
ALL = Placement("weak", ("pi", "laptop", "desktop"), "cheapest tier online that fits prerequisites")
SERVED = {"weak": ["pi", "laptop", "desktop"], "medium": ["laptop", "desktop"], "strong": ["desktop"]}


def test_machines_of_one_speed_have_the_roles_of_the_example() -> None:
    """As the seed's example has it: P1 to P3 on the Raspberry Pi, E0 and E1 on the laptop, E2 on the desktop."""
    reports = [made_up_report(h, ram, matrix_gflops=180.0) for h, ram in (("pi", 4), ("laptop", 8), ("desktop", 16))]
    rounds = [
        Round(phase, 1, "", profile, ("embedder",), (20.0,) * 6)
        for phase, profile in zip(PHASES, ["prerequisites"] * 3 + ["e0_e1"] * 2 + ["e2"], strict=True)
    ]
    planned = schedule(rounds, reports, online=SERVED)
    where = {s.round.phase: {share.host for share in s.shares} for s in planned.stages}
    assert where == {"p1": {"pi"}, "p2": {"pi"}, "p3": {"pi"}, "e0": {"laptop"}, "e1": {"laptop"}, "e2": {"desktop"}}
    assert all("the role of " in s.reason for s in planned.stages[:5])


def test_a_slow_machine_alone_is_not_waited_for() -> None:
    """A phase of a minute would take nine: then the others help, and the reason says how long it would be."""
    costs, speeds = [10.0] * 6, {"pi": 0.11, "laptop": 1.0, "desktop": 3.0}
    placed = with_roles(ALL, costs, speeds, TIERS_OF)
    assert placed.hosts == ALL.hosts and placed.unfit == ()
    assert placed.reason.startswith("shared by all that serve weak, since weak machines alone would take 8 min ")


@given(
    st.lists(st.floats(0.1, 300), min_size=1, max_size=20),
    st.fixed_dictionaries({h: st.floats(0.05, 5) for h in TIERS_OF}),
    st.fixed_dictionaries({h: st.sampled_from(TIERS) for h in TIERS_OF}),
)
def test_nobody_waits_longer_than_it_saves(costs: list[float], speeds: dict[str, float], tiers: dict[str, str]) -> None:
    """Whatever the machines: who gets the round is of the lowest tier or everybody, and the rule holds."""

    def ends(placed: Placement) -> dict[str, float]:
        loads = taken(cut(costs, placed, speeds), costs, {h: speeds[h] for h in placed.hosts})
        return {h: load.seconds - START_S * load.shards for h, load in loads.items()} | {
            "last": max(load.seconds for load in loads.values())
        }

    placed = with_roles(ALL, costs, speeds, tiers)
    lowest = min(tiers.values(), key=TIERS.index)
    own = {h for h in ALL.hosts if tiers[h] == lowest}
    assert set(placed.hosts) in (own, set(ALL.hosts)) and {*placed.hosts, *placed.unfit} == set(ALL.hosts)
    if set(placed.hosts) != set(ALL.hosts):
        together = ends(ALL)
        saved = sum(together.get(h, 0.0) for h in placed.unfit)
        assert ends(placed)["last"] - together["last"] <= WORTH * saved + 1e-6


def test_without_reports_or_others_nothing_changes() -> None:
    """A worker that was started by hand has no tier, so it is no helper of a strong machine; one machine has no choice."""
    assert with_roles(ALL, [10.0], {}, {}) == ALL
    assert with_roles(ALL, [10.0] * 6, {"desktop": 1.0}, {"desktop": "strong"}) == ALL
    one = Placement("weak", ("pi",), "because")
    assert with_roles(one, [10.0], {"pi": 1.0}, TIERS_OF) == one


def test_a_pin_keeps_a_phase_on_its_host_or_tier() -> None:
    """The owner knows what the plan does not: which machine stands in the bedroom."""
    reports = [made_up_report(h, ram) for h, ram in (("pi", 4), ("laptop", 8), ("desktop", 16))]
    pins = parse_pins(["p1=laptop", "e1=medium"], list(PHASES))
    assert set(elsewhere(pins, "p1", TIERS_OF, reports)) == {"pi", "desktop"}
    assert set(elsewhere(pins, "e1", [*TIERS_OF, "guest"], reports)) == {"pi", "desktop", "guest"}
    assert elsewhere(pins, "p2", TIERS_OF, reports) == {}
    rounds = [Round("p1", 1, "", "prerequisites", ("embedder",), (20.0,) * 6)]
    (stage,) = schedule(rounds, reports, online=SERVED, pins=pins).stages
    assert {s.host for s in stage.shares} == {"laptop"}
    (stage,) = schedule(rounds, reports, online=SERVED, pins={"p1": "nobody"}).stages
    assert stage.pool is None and "pi is not where --on p1=nobody wants it" in stage.reason


@pytest.mark.parametrize("given", ["p9=pi", "p1", "p1=", "p1=Pi 4", "=pi"])
def test_a_wrong_pin_is_the_users_mistake(given: str) -> None:
    """Taken for none, the phase would run anywhere."""
    with pytest.raises(LabError, match="is not PHASE=HOST or PHASE=TIER"):
        parse_pins([given], list(PHASES))
    with pytest.raises(LabError, match="pins p1 twice, to pi and desk"):
        parse_pins(["p1=pi", "p1=desk"], list(PHASES))
