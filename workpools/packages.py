"""Requirements of this project that the host does not meet, by the extra that its tier installs."""

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
    """A requirement that is not met, and the reason with the command that installs it."""

    requirement: str
    reason: str


def project_requirements() -> list[str] | None:
    """Read this project's requirements, extras included, from its metadata; None if it is not installed."""
    try:
        return metadata.requires(PROJECT)
    except metadata.PackageNotFoundError:
        return None


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, None without it."""
    try:
        # A package that was removed by hand may leave metadata without a version.
        return metadata.version(name) or None
    except metadata.PackageNotFoundError:
        return None


def needed(requires: Sequence[str], extra: str) -> list[Requirement]:
    """Return the requirements of an extra with the project's own, for this system; extras that it names are followed."""
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
                one.marker = None  # it holds, so pip need not read it again
                found += [one] if str(one) not in map(str, found) else []
    return found


def unmet(
    tier: str, requires: Sequence[str] | None = None, version_of: Callable[[str], str | None] = installed_version
) -> list[Unmet] | None:
    """Return the requirements of the tier's extra that are missing or too old.

    Args:
        tier: of the host.
        requires: requirements of the project; from its metadata unless given.
        version_of: returns the installed version of a package, None without it.

    Returns:
        [] for a host that is unfit, None if the requirements cannot be read.
    """
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
    """Return a line if this Python is not one that the project supports, else None."""
    try:
        wanted = metadata.metadata(PROJECT)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return f"{PROJECT} is not installed, so its requirements are not known: pip install -e '.[weak]'"
    version = platform.python_version()
    return (
        None
        if not wanted or _within(SpecifierSet(wanted), version)
        else f"this is Python {version}, the project needs {wanted}"
    )
