"""Check that this host fits a phase now: memory and disk change after an assessment."""

from __future__ import annotations

from collections.abc import Sequence

from common.environment import lab_home, package_versions
from common.resources import disk_free_gb, memory
from workpools.assess import engines
from workpools.needs import available_models, is_model, lacking
from workpools.tiers import NEEDS, known_gb


def unfit_now(profile: str) -> str:
    """Return why this host has too little memory or disk for a phase at this moment, or "".

    Args:
        profile: prerequisites, e0_e1, e2 or e2_quantized (docs/science.md, "Which machine may run what").
    """
    need = NEEDS[profile]
    home = lab_home()
    home.mkdir(parents=True, exist_ok=True)
    ram_gb, disk_gb = memory().available_gb, disk_free_gb(home)
    if (ram_gb or 0.0) < need.ram_gb:
        return f"{known_gb(ram_gb)} RAM available, {need.ram_gb:g} needed"
    if (disk_gb or 0.0) < need.disk_gb:
        return f"{known_gb(disk_gb)} disk free, {need.disk_gb:g} needed"
    return ""


def lacks_now(needs: Sequence[str]) -> str:
    """Return which engines, models and packages this host lacks, or "".

    Args:
        needs: what the phase asks for (workpools.needs).
    """
    missing = lacking(needs, engines(), available_models() if any(map(is_model, needs)) else (), package_versions())
    return f"it lacks {', '.join(missing)}" if missing else ""
