"""Check that this host fits a phase now: memory and disk change after an assessment."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from common.environment import lab_home, package_versions
from workpools.assess import engines
from workpools.hardware import GB, memory
from workpools.needs import available_models, is_model, lacking
from workpools.tiers import NEEDS


def unfit_now(profile: str) -> str:
    """Return why this host has too little memory or disk for a phase at this moment, or "".

    Args:
        profile: prerequisites, e0_e1, e2 or e2_quantized (docs/science.md, "Which machine may run what").
    """
    need = NEEDS[profile]
    home = lab_home()
    home.mkdir(parents=True, exist_ok=True)
    ram_gb, disk_gb = memory().available_gb, shutil.disk_usage(home).free / GB
    if ram_gb < need.ram_gb:
        return f"{ram_gb:.1f} GB RAM available, {need.ram_gb:g} needed"
    if disk_gb < need.disk_gb:
        return f"{disk_gb:.1f} GB disk free, {need.disk_gb:g} needed"
    return ""


def lacks_now(needs: Sequence[str]) -> str:
    """Return which engines, models and packages this host lacks, or "".

    Args:
        needs: what the phase asks for (workpools.needs).
    """
    missing = lacking(needs, engines(), available_models() if any(map(is_model, needs)) else (), package_versions())
    return f"it lacks {', '.join(missing)}" if missing else ""
