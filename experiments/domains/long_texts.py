"""Texts that are too long for a prompt: refused, cut or left out, as the user chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from experiments.domains.jsonl_rows import MAX_CHARACTERS, Row, Wrong

Choice = Literal["refuse", "cut", "skip"]
BREAKS = ("\n", " ")  # at which a text is cut, the best first, if one is in its second half


@dataclass
class LongTexts:
    """What happens to rows whose text is too long, and how many there were."""

    choice: Choice = "refuse"
    fits_model: Callable[[str], bool] = lambda text: True
    cut: int = 0
    skipped: int = 0

    def apply(self, row: Row) -> Row | None:
        """Return the row, with a shorter text where it is to be cut; None where it is to be left out."""
        if self.choice == "refuse":
            return row
        try:
            fields = row.fields()
        except Wrong:
            return row  # whoever reads it reports why
        text = fields.get("text")
        if not isinstance(text, str) or self.fits(text):
            return row
        if self.choice == "skip":
            self.skipped += 1
            return None
        self.cut += 1
        return Row(row.number, {**fields, "text": shortened(text, self.fits)})

    def fits(self, text: str) -> bool:
        """Return True if a text is neither longer than any may be nor too long for the model."""
        return len(text) <= MAX_CHARACTERS and self.fits_model(text)


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Return the beginning of a text that fits, up to the end of a line or word where one is in its second half.

    Args:
        fits: true of a beginning if it is true of a longer one.
    """
    least, most = 0, min(len(text), MAX_CHARACTERS)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(text[:middle]) else (least, middle - 1)
    for mark in BREAKS:
        if (end := text.rfind(mark, least // 2, least + 1)) > 0:
            return text[:end].rstrip()
    return text[:least]
