"""A run as one file: whole, escaped, and with no need of a server or a network."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from made_up_phases import enrich
from made_up_snapshot import HOSTILE, publish
from playwright.sync_api import Browser, expect

from app.report import html
from lab.main import main

FULL = ("demo-full", "p1 p2 p3 e0 e1 e2", None)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a whole run."""
    home = tmp_path_factory.mktemp("report")
    publish(home, FULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(home))
        return html.page("demo-full")


def test_the_file_is_whole_and_every_text_in_it_is_text(text: str) -> None:
    """It is sent to others: markup in data must not run there, and what it shows must be what the snapshot says."""
    own, scripts = (
        re.sub(r"<script.*?</script>", "", text, flags=re.S),
        re.findall(r"<script.*?</script>", text, flags=re.S),
    )
    assert HOSTILE not in text
    assert "&lt;img src=x" in own
    assert [re.sub("<.*?>", "", s) for s in re.findall(r'<span class="lab-pill.*?</span>', own)][:6] == [
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
        "PASS",
        "PASS",
        "INCONCLUSIVE",
    ]
    assert all(
        f"<h2>{name}</h2>" in own
        for name in ("P1 Embedding validity", "E2 Fine-tuned retrieval", "Hosts", "Provenance")
    )
    figures = [json.loads(re.sub("<.*?>", "", s)) for s in scripts if s.startswith('<script type="application/json"')]
    assert len(figures) >= 6
    assert all(f["layout"]["meta"]["saved"]["title"]["text"].startswith("<b>") for f in figures)


def test_each_phase_brings_the_plots_of_its_page(home: Path) -> None:
    """Who gets the file has no page to look at: the map, the front, the losses and the criteria must be in it."""
    publish(home, FULL, more=enrich)
    text = html.page("demo-full")
    drawn = [
        json.loads(s)["layout"]["xaxis"]["title"]["text"].replace("<br>", " ").replace("\u00a0", " ")
        for s in re.findall(r'<script type="application/json">(.*?)</script>', text, flags=re.S)
    ]
    for axis in (
        "t-SNE 1 (no unit)",
        "cosine similarity of a problem and a memo",
        "attempts more (+) or fewer (-) than none",
        "retention (% of the base model's score)",
        "epoch",
        "time of a retrieval (s, median)",
        "share of variance (%)",
        "effect size (-1 to 1)",
        "query quality (0 to 1)",
    ):
        assert axis in drawn
    assert "<h3>Success criteria: 1 of 2 met (efficiency moderate)</h3>" in text
    assert "<h3>Cost and break-even</h3>" in text
    assert "<dt>Verified</dt><dd>never</dd>" in text


def test_the_contents_lead_to_each_section_with_its_verdict(text: str) -> None:
    """A reader who was sent the file finds a phase, its verdict and the reason without scrolling through the others."""
    own = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    (contents,) = re.findall(r"<nav.*?</nav>", own, flags=re.S)
    sections = re.findall(r'<section id="(\w+)"><h2>', own)
    assert (
        re.findall(r'href="#(\w+)"', contents)
        == sections
        == ["p1", "p2", "p3", "e0", "e1", "e2", "hosts", "provenance"]
    )
    assert contents.count("lab-pill") == 6
    (second,) = re.findall(r'<section id="p2">(.*?)</section>', own, flags=re.S)
    assert re.search(r'class="question">[^<]+\?</p>', second) and "lab-fail" in second and "trials" in second
    assert "<h3>Next steps</h3>" in second


def test_the_file_of_a_whole_run_is_small(home: Path) -> None:
    """It is sent by mail: plotly alone would take 4.8 MB, so it is compressed."""
    publish(home, FULL, more=enrich)
    assert len(html.page("demo-full").encode()) < 3_000_000


def test_the_file_asks_nothing_of_a_network(text: str) -> None:
    """It must open anywhere: nothing is linked, and a policy forbids what a library might fetch."""
    own = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert "default-src 'none'" in own
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']+|@import|<link|<iframe""", own) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--run", "other"], "unknown run 'other'. choose one of: r1"), (["--out", "missing/report.html"], "no folder")],
)
def test_a_mistake_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """A wrong run or folder is told with what to type instead, and writes nothing."""
    publish(home, ("r1", "p1", None))
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", ["lab", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert (ended.value.code, said in error, error.count("\n")) == (2, True, 1)
    assert list(home.glob("**/*.html")) == []


def test_no_results_name_the_command_that_makes_some(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a fresh checkout the command says what to do first."""
    monkeypatch.setattr(sys, "argv", ["lab", "report"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, "make demo" in capsys.readouterr().err) == (2, True)
    assert list(home.iterdir()) == []


def test_the_written_file_draws_itself_without_a_network(
    home: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opened from disk with no network, on a phone and in the dark: plots are drawn, nothing hurts, nothing overflows."""
    publish(home, FULL)
    out = home / "a report.html"
    monkeypatch.setattr(sys, "argv", ["lab", "report", "--run", "demo-full", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0, "demo-full in" in capsys.readouterr().out) == (0, True)
    context = browser.new_context(offline=True, viewport={"width": 420, "height": 900}, color_scheme="dark")
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(out.as_uri())
    expect(page.locator(".plot .main-svg").first).to_be_visible(timeout=30_000)
    assert page.locator(".plot:not(:has(.main-svg))").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.evaluate("window.hurt") is None
    expect(page.locator("body")).to_have_css("background-color", "rgb(18, 20, 23)")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    expect(page.locator(".drawing strong").first).to_have_css("color", "rgb(22, 24, 29)")  # on white paper
    widths = page.locator(".plot .main-svg").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert max(widths) <= 681 and page.locator("button:visible, details:visible").count() == 0
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").last.click()
    assert saved.value.suggested_filename == "table.csv"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save this plot as PNG").first.click()
    assert saved.value.suggested_filename == "plot.png"
    context.close()
