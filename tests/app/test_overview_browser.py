"""The overview in a real browser, on a real Streamlit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_snapshot import HOSTILE, publish
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.screenshots import FLAGS, browser_path

WAIT_MS = 20_000
FULL = ("demo-full", "p1 p2 p3 e0 e1 e2", None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the module."""
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page at 1400 px."""
    page = browser.new_page(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(WAIT_MS)
    yield page
    page.close()


def test_empty_state_then_a_snapshot_appears_by_itself(page: Page, served: tuple[str, Path]) -> None:
    """A first visit names the command; a publication, and the next one, show without a touch of the page."""
    url, home = served
    (home / "snapshot.duckdb").unlink(missing_ok=True)
    page.goto(url)
    expect(page.locator("[data-testid=stCode]")).to_contain_text("make demo", timeout=WAIT_MS)
    publish(home, ("demo-one", "p1", "p2"))
    expect(page.locator("[data-phase=p2]")).to_contain_text("3 of 8", timeout=WAIT_MS)
    expect(page.locator("[data-phase=p2] .lab-pill")).to_have_text("running")
    expect(page.locator("[data-phase=e2] .lab-pill")).to_have_text("not run")
    publish(home, ("demo-one", "p1 p2", None))
    expect(page.locator("[data-phase=p2] .lab-pill")).to_have_text("FAIL", timeout=WAIT_MS)


def test_six_cards_with_their_words(page: Page, served: tuple[str, Path]) -> None:
    """Six cards in one row say verdict, number, interval, trials, hosts and duration; markup in data stays text."""
    url, home = served
    publish(home, FULL)
    page.goto(url)
    expect(page.locator(".lab-card")).to_have_count(6, timeout=WAIT_MS)
    expect(page.locator(".lab-card .lab-pill")).to_have_text(
        ["PASS", "FAIL", "INCONCLUSIVE", "PASS", "PASS", "INCONCLUSIVE"]
    )
    first = page.locator("[data-phase=p1]")
    for text in (
        "Embedding validity",
        "1.34",
        "1.28 to 1.41",
        "threshold 1.2",
        "24 trials, 8 failed",
        "laptop, pi-4",
        "3 min 20 s",
    ):
        expect(first).to_contain_text(text)
    expect(page.locator("[data-phase=p3]")).to_contain_text("undefined")
    expect(page.locator("[data-phase=p2]")).to_contain_text(f"overridden: pilot says go on {HOSTILE}")
    assert page.evaluate("window.hurt") is None
    tops = page.evaluate(
        "[...document.querySelectorAll('.lab-card')].map(e => Math.round(e.getBoundingClientRect().top))"
    )
    assert len(set(tops)) == 1
    assert page.evaluate("getComputedStyle(document.querySelector('.lab-pass > i')).backgroundImage").startswith("url(")
    expect(page.locator(".js-plotly-plot")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator(".js-plotly-plot")).to_contain_text("threshold 1.2")


def test_no_horizontal_scroll_on_a_phone_in_both_themes(page: Page, served: tuple[str, Path]) -> None:
    """At 420 px the cards stand under each other, nothing is wider than the page, and the theme follows the system's."""
    url, home = served
    publish(home, FULL)
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto(f"{url}/?run=demo-full")
    expect(page.locator(".lab-where")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator(".js-plotly-plot")).to_be_visible(timeout=WAIT_MS)
    app = page.locator("[data-testid=stApp]")
    expect(app).to_have_css("background-color", "rgb(255, 255, 255)")
    assert_fits(page)
    page.emulate_media(color_scheme="dark")
    expect(app).not_to_have_css("background-color", "rgb(255, 255, 255)", timeout=WAIT_MS)
    assert_fits(page)


def assert_fits(page: Page) -> None:
    """No part of the page scrolls sideways, and the cards begin at the same left edge."""
    wider = page.evaluate(
        "['html', '[data-testid=stMain]'].map(q => document.querySelector(q)).map(e => e.scrollWidth - e.clientWidth)"
    )
    assert wider == [0, 0]
    lefts = page.evaluate(
        "[...document.querySelectorAll('.lab-card')].map(e => Math.round(e.getBoundingClientRect().left))"
    )
    assert lefts == [16] * 6
