"""The speeds in a capability report, measured through the real engines on weights that are converted already."""

from __future__ import annotations

from pathlib import Path

import pytest

from workpools.assess import assess
from workpools.measure import Budget


@pytest.mark.slow
def test_a_whole_assessment_measures_all_engines(
    weights_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speeds are of the right order: a unit mixed up (tokens for characters, seconds for milliseconds) would leave the range.

    It leaves no file, so no choice for later runs, no test file of the disk's speed and no half model.
    """
    (tmp_path / "models").symlink_to(weights_home / "models")
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    # More than the minute of a user, since tests share the machine with others.
    monkeypatch.setattr("workpools.measure.Budget", lambda: Budget(250))
    report = assess(api_url="http://127.0.0.1:9/api")
    assert not any("not measured" in r for r in report.reasons)
    assert report.embedding_texts_per_s
    assert 0.2 < report.embedding_texts_per_s < 20_000
    assert report.prefill_tokens_per_s
    assert 2 < report.prefill_tokens_per_s < 200_000
    assert report.matrix_gflops
    assert report.disk_write_mb_s
    assert {p.name for p in tmp_path.iterdir()} == {"models"}
