"""Tiers at, just under and just over every threshold of docs/science.md, "Which machine may run what"."""

from __future__ import annotations

import pytest

from workpools.tiers import NEEDS, POOLS, TIERS, decide, serves, tiers_for

# The numbers of docs/science.md, written down a second time on purpose: available RAM and free disk in GB.
PROTOCOL = {"prerequisites": (3, 5), "e0_e1": (5, 10), "e2_quantized": (6, 10), "e2": (12, 15)}


def test_the_needs_are_those_of_the_protocol() -> None:
    """A threshold that drifts from docs/science.md sends phases to machines that cannot run them, or leaves able ones idle."""
    assert {name: (need.ram_gb, need.disk_gb) for name, need in NEEDS.items()} == PROTOCOL


@pytest.mark.parametrize("profile", PROTOCOL)
def test_each_profile_fits_from_its_thresholds_on(profile: str) -> None:
    """At both thresholds a profile fits; a hundredth of a GB under either it does not."""
    ram, disk = PROTOCOL[profile]
    assert decide(ram, disk).profiles[profile]
    assert decide(ram + 0.01, disk + 0.01).profiles[profile]
    assert not decide(ram - 0.01, disk).profiles[profile]
    assert not decide(ram, disk - 0.01).profiles[profile]
    assert not decide(1000, disk - 0.01).profiles[profile]
    assert not decide(ram - 0.01, 1000).profiles[profile]


EDGES = [
    (0, 0, "unfit"),
    (2.99, 1000, "unfit"),
    (1000, 4.99, "unfit"),
    (3, 5, "weak"),
    (4.99, 1000, "weak"),
    (1000, 9.99, "weak"),
    (5, 10, "medium"),
    (6, 10, "medium"),
    (11.99, 1000, "medium"),
    (1000, 14.99, "medium"),
    (12, 15, "strong"),
    (1000, 1000, "strong"),
]


@pytest.mark.parametrize(("ram", "disk", "tier"), EDGES)
def test_the_tier_is_the_highest_that_fits(ram: float, disk: float, tier: str) -> None:
    """More of one resource never makes up for too little of the other."""
    assert decide(ram, disk).tier == tier


def test_each_tier_not_reached_is_explained_once_for_each_resource() -> None:
    """The owner of a machine reads what it lacks, with the number seen and the number needed."""
    assert decide(12, 15).reasons == []
    assert decide(11.99, 15).reasons == ["not strong: 11.99 GB RAM available, 12 needed"]
    assert decide(12, 14.5).reasons == ["not strong: 14.50 GB disk free, 15 needed"]
    assert decide(4, 50).reasons == [
        "not strong: 4.00 GB RAM available, 12 needed",
        "not medium: 4.00 GB RAM available, 5 needed",
    ]
    assert decide(2, 1).reasons == [
        "not strong: 2.00 GB RAM available, 12 needed",
        "not strong: 1.00 GB disk free, 15 needed",
        "not medium: 2.00 GB RAM available, 5 needed",
        "not medium: 1.00 GB disk free, 10 needed",
        "not weak: 2.00 GB RAM available, 3 needed",
        "not weak: 1.00 GB disk free, 5 needed",
    ]


def test_a_host_serves_its_own_pool_and_the_weaker_ones() -> None:
    """A strong machine also takes what is meant for weak ones; an unfit or misnamed one takes nothing."""
    assert serves("strong") == ("strong", "medium", "weak")
    assert serves("medium") == ("medium", "weak")
    assert serves("weak") == ("weak",)
    assert serves("unfit") == serves("coordinator") == serves("") == ()
    assert set(serves("strong")) == set(TIERS) == set(POOLS) - {"coordinator"}


def test_profiles_go_to_the_cheapest_tier_first() -> None:
    """Cheap phases leave strong machines free; E2 alone tries the strong tier first and falls back."""
    assert tiers_for("prerequisites") == ("weak", "medium", "strong")
    assert tiers_for("e0_e1") == ("medium", "strong")
    assert tiers_for("e2_quantized") == ("medium", "strong")
    assert tiers_for("e2") == ("strong",)
