"""The report of the full run: made from full.md, with the numbers of full.md."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import pytest

from app import format as words
from docs.generate.full_report import NOTE, RESULTS, cells, estimate, page, parse, plain

MARKDOWN = (RESULTS / "full.md").read_text(encoding="utf-8")
FILE = (RESULTS / "full.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    """Return the file without its scripts, styles and the time at which it was written."""
    return re.sub(r"<(script|style|time)\b.*?</\1>", "", html, flags=re.S)


def test_the_file_is_what_the_generator_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that was edited by hand, or is older than the page that it shows, would be believed."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    assert text_of(page(MARKDOWN)) == text_of(FILE), "run: python -m docs.generate.full_report"
    assert list(tmp_path.iterdir()) == []


def test_every_number_of_full_md_is_in_the_file() -> None:
    """The file stands for the run: no number may be lost, changed or invented on the way."""
    rows = [cells(line) for line in MARKDOWN.splitlines() if line.startswith("| ") and line.count(" | ") >= 5]
    metrics = [r for r in rows if len(r) == 6 and r[0] != "metric"]
    assert len(metrics) == len(parse(MARKDOWN).metrics) > 200
    found = re.findall(r"<tr>(.*?)</tr>", FILE)
    for metric, condition, value, n, failed, method in metrics:
        known = estimate(value)
        interval = words.interval(known.low, known.high)
        texts = (
            words.words(metric),
            words.conditions(condition),
            words.number(known.value),
            interval,
            f"{int(n):,}",
            failed,
            method,
        )
        assert "".join(f"<bdi>{escape(t)}</bdi>" for t in texts) in [re.sub(r"</?td.*?>", "", row) for row in found]
    for reason in re.findall(r"^- \*\*\w\w \w+\.\*\* (.*)$", MARKDOWN, re.M):
        assert escape(words.reason(plain(reason))) in FILE


def test_the_file_says_what_it_was_made_from() -> None:
    """A reader must know that trials, hosts and plan are not in it, and that most of the plan was announced late."""
    assert NOTE in FILE and "stored when 74 of its 166 units had results of an earlier plan already." in FILE
    assert "The trials of this phase are not in this file" in FILE


@pytest.mark.parametrize(
    ("text", "found"),
    [("1.48 (1.25 to 1.77)", (1.48, 1.25, 1.77)), ("-2.2e-16", (-2.2e-16, None, None)), ("undefined", (None,) * 3)],
)
def test_estimates_are_parsed(text: str, found: tuple[float | None, ...]) -> None:
    """A sign or an exponent that was lost would turn a finding round."""
    assert estimate(text) == found
    assert cells("| a\\|b | mean\\_x |") == ["a|b", "mean_x"]


def test_a_file_of_another_form_is_refused() -> None:
    """Half a report would look like a whole one."""
    with pytest.raises(ValueError, match="does not begin with"):
        parse("# Something else")
