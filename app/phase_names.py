"""The phases as readers know them. Titles and questions come from the plans in the snapshot."""

from __future__ import annotations

from app.reading import read
from warehouse.queries import snapshot

ORDER = snapshot.PHASE_ORDER
TABS = {
    "p1": "Embeddings",
    "p2": "Memory",
    "p3": "Preservation",
    "e0": "Parameters",
    "e1": "Retrieval",
    "e2": "Fine-tuning",
}


def text_of(phase: str) -> snapshot.PhaseText:
    """Return title, question and more of a phase, as the latest plan has them; empty for an older plan."""
    return read(snapshot.phase_texts).get(phase, snapshot.PhaseText())


def tab(name: str) -> str:
    """Return the short name of a page: "P1 Embeddings", "Hosts"."""
    return f"{name.upper()} {TABS[name]}" if name in TABS else name.capitalize()


def named(phase: str) -> str:
    """Return "P1 Embedding validity", or "P1" while no plan has titles."""
    return f"{phase.upper()} {text_of(phase).title}".strip()
