"""The phases as readers know them. Titles and questions come from the plans in the snapshot."""

from __future__ import annotations

from app.reading import read
from warehouse.queries import snapshot

ORDER = snapshot.PHASE_ORDER


def text_of(phase: str) -> snapshot.PhaseText:
    """Return title, question and more of a phase, as the latest plan has them; empty for an older plan."""
    return read(snapshot.phase_texts).get(phase, snapshot.PhaseText())


def named(phase: str) -> str:
    """Return "P1 Embedding validity", or "P1" while no plan has titles."""
    return f"{phase.upper()} {text_of(phase).title}".strip()
