"""An empty LAB_HOME, as the page finds it on a fresh machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LAB_HOME."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    return tmp_path
