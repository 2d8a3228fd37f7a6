"""Which requirements of this project the host does not meet, by the extra that its tier installs."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from common.environment import PROJECT
from workpools.tiers import TIERS


@dataclass(frozen=True)
class Unmet:
    """A requirement that is not met, and why, with the command that mends it."""

    requirement: str
    reason: str


def project_requirements() -> list[str] | None:
    """This project's own requirements, extras included, from its metadata; None when it is not installed."""
    try:
        return metadata.requires(PROJECT)
    except metadata.PackageNotFoundError:
        return None


def installed_version(name: str) -> str | None:
    """Version of an installed package, None without it."""
    try:
        # What is left of a package that was removed by hand has no version.
        return metadata.version(name) or None
    except metadata.PackageNotFoundError:
        return None


def needed(requires: Sequence[str], extra: str) -> list[Requirement]:
    """The requirements of an extra with the project's own, each extra that it names followed, for this system."""
    found: list[Requirement] = []
    extras, followed = [extra], set[str]()
    while extras:
        name = extras.pop()
        followed.add(name)
        for text in requires:
            one = Requirement(text)
            if one.marker is not None and not one.marker.evaluate({"extra": name}):
                continue
            if canonicalize_name(one.name) == PROJECT:
                extras += sorted(one.extras - followed)
            else:
                one.marker = None  # it was told; pip need not read it again
                found += [one] if str(one) not in map(str, found) else []
    return found


def unmet(
    tier: str, requires: Sequence[str] | None = None, version_of: Callable[[str], str | None] = installed_version
) -> list[Unmet] | None:
    """What of the tier's extra is missing or too old; [] for a host that is unfit, None when it cannot be known."""
    if tier not in TIERS:
        return []
    requires = project_requirements() if requires is None else requires
    if requires is None:
        return None
    found = []
    try:
        wanted = needed(requires, tier)
    except InvalidRequirement:
        return None
    for one in wanted:
        there = version_of(one.name)
        if there is not None and _within(one.specifier, there):
            continue
        state = f"{one.name} {there} is installed" if there else f"{one.name} is not installed"
        found.append(Unmet(str(one), f"{state}, {tier} needs {one}: pip install '{one}'"))
    return found


def _within(specifier: SpecifierSet, version: str) -> bool:
    try:
        return specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def python_reason() -> str | None:
    """What is wrong with this Python for the project, if anything."""
    try:
        wanted = metadata.metadata(PROJECT)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return f"{PROJECT} is not installed here, so its requirements are not known: pip install -e '.[weak]'"
    here = platform.python_version()
    return None if not wanted or _within(SpecifierSet(wanted), here) else f"Python {here} is here, {wanted} needed"
