"""Failed trials for units that no machine could compute, with their reason, never missing ones or zeros."""

from __future__ import annotations

from experiments.contract import Json, Trial, Unit
from experiments.registry import get_phase

TRAINING = "training"  # problem id of a training's one trial, as P3 and E2 write it


def failed_trials(unit: Unit, why: str) -> list[Trial]:
    """Return one failed trial for each problem and condition that the unit names."""
    spec = unit.spec
    conditions, problems = _of(unit)
    # P3 finds its rows by category, E2 its comparisons by hypothesis.
    details: Json = {"given_up": True}
    details |= {"category": spec["part"]} if "part" in spec else {}
    details |= {"hypothesis": spec["hypothesis"]} if "hypothesis" in spec else {}
    return [Trial(p, c, error=why, details=details) for p in problems for c in conditions]


def _of(unit: Unit) -> tuple[list[str], list[str]]:
    """Return conditions and problem ids of a unit's trials, as far as they follow from its spec."""
    spec, role = unit.spec, str(unit.spec.get("role", ""))
    if role == "train":
        return [f"train_{spec['dataset']}" if "dataset" in spec else "train"], [TRAINING]
    problems = [str(p) for p in spec.get("problems", [])]
    if "condition" in spec or "embedder" in spec:
        return [str(spec.get("condition") or spec["embedder"])], problems or ["all"]
    if role in ("", "evaluate"):
        return list(getattr(get_phase(unit.phase), "CONDITIONS", ("all",))), problems or ["all"]
    return [role], problems or [str(spec.get("part", role))]
