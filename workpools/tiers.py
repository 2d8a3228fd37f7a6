"""Tiers of machines, by available memory and free disk, and what each may run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tier = Literal["weak", "medium", "strong", "unfit"]
TIERS: tuple[Tier, ...] = ("weak", "medium", "strong")
POOLS = (*TIERS, "coordinator")
UNFIT: Tier = "unfit"


@dataclass(frozen=True)
class Need:
    """Available RAM and free disk, in GB (10^9 bytes)."""

    ram_gb: float
    disk_gb: float


# docs/science.md, "Which machine may run what".
NEEDS = {"prerequisites": Need(3, 5), "e0_e1": Need(5, 10), "e2_quantized": Need(6, 10), "e2": Need(12, 15)}
TIER_PROFILES = {"weak": ("prerequisites",), "medium": ("e0_e1", "e2_quantized"), "strong": ("e2",)}


@dataclass(frozen=True)
class Decision:
    """A tier, the profiles that fit, and the reasons against higher tiers."""

    tier: Tier
    profiles: dict[str, bool]
    reasons: list[str]


def decide(ram_available_gb: float | None, disk_free_gb: float | None) -> Decision:
    """Return the highest tier with a profile that fits, and why each higher tier does not.

    Args:
        ram_available_gb, disk_free_gb: in GB (10^9 bytes); None, which fits nothing, where they are not known.
    """
    ram_gb, disk_gb = ram_available_gb or 0.0, disk_free_gb or 0.0
    fits = {name: ram_gb >= need.ram_gb and disk_gb >= need.disk_gb for name, need in NEEDS.items()}
    tier, reasons = UNFIT, []
    for name in reversed(TIERS):
        if any(fits[p] for p in TIER_PROFILES[name]):
            tier = name
            break
        least = NEEDS[TIER_PROFILES[name][0]]
        if ram_gb < least.ram_gb:
            reasons.append(f"not {name}: {known_gb(ram_available_gb)} RAM available, {least.ram_gb:g} needed")
        if disk_gb < least.disk_gb:
            reasons.append(f"not {name}: {known_gb(disk_free_gb)} disk free, {least.disk_gb:g} needed")
    return Decision(tier, fits, reasons)


def known_gb(value: float | None) -> str:
    """Return an amount of memory or disk for messages: 3.20 GB, or that it is not known."""
    return "an unknown amount of" if value is None else f"{value:.2f} GB"


def serves(tier: str) -> tuple[str, ...]:
    """Return the pools that a host of this tier can serve: its own and all weaker ones, the strongest first."""
    return tuple(reversed(TIERS[: TIERS.index(tier) + 1])) if tier in TIERS else ()


def tiers_for(profile: str) -> tuple[str, ...]:
    """Return the tiers that may run a profile, the cheapest first."""
    return {"prerequisites": TIERS, "e0_e1": TIERS[1:], "e2_quantized": TIERS[1:], "e2": TIERS[2:]}[profile]
