"""The page about the report against the model that the code checks reports with."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generate.capability_report import page
from workpools.report import CapabilityReport

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_that_of_the_model() -> None:
    """Reports that follow the page must not be refused: `python -m docs.generate.capability_report` makes it again."""
    assert (ROOT / "docs/capability_report.md").read_text() == page()


def test_every_field_is_explained_with_its_type() -> None:
    """A field without a meaning, or with a type in Python's words, would leave the reader where he was."""
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", page(), re.MULTILINE))
    assert list(rows) == list(CapabilityReport.model_fields)
    for row in rows.values():
        kind, _default, meaning = (cell.strip() for cell in row.split(" | "))
        assert meaning and meaning != "None"
        assert kind and not re.search(r"\b(str|int|float|bool|NoneType|typing|Literal|datetime)\b", kind)
    assert "list of text or null | null" in rows["ollama_models"]
    assert "number or null, at least 0" in rows["matrix_gflops"]
    assert "number or null, over 0" in rows["ram_total_gb"]
