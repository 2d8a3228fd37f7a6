"""Trials, hosts, provenance and the comparison in a real browser: a click, the keyboard, the address, a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_snapshot import publish
from playwright.sync_api import Browser, Page, expect

WAIT_MS = 30_000
RUNS = (("full", "p1 p2 p3 e0 e1 e2", None), ("other", "p1", None))


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One page for the module, so that Streamlit's scripts are loaded once."""
    expect.set_options(timeout=WAIT_MS)
    context = browser.new_context(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


@pytest.mark.slow
def test_a_click_opens_a_trial_and_the_keyboard_turns_the_page(page: Page, served: tuple[str, Path]) -> None:
    """From the list to one trial and back by mouse, to the next fifty by keyboard; the address follows each step."""
    url, home = served
    publish(home, *RUNS)
    page.goto(f"{url}/trials?run=full&phase=e1")
    table = page.locator("[data-testid=stDataFrame] .dvn-scroller").first
    expect(table).to_be_visible()
    expect(page.locator("[data-testid=stMain]")).to_contain_text("1 to 24 of 24 trials")
    table.click(position={"x": 220, "y": 60})
    expect(page.get_by_role("button", name="Back to the list")).to_be_visible()
    expect(page).to_have_url(re.compile(r"trial=full-e1-0-0\.\d"))
    page.get_by_role("button", name="Back to the list").click()
    expect(page.locator("[data-testid=stMain]")).to_contain_text("1 to 24 of 24 trials")
    page.goto(f"{url}/trials?run=full")
    page.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-testid=stMain]")).to_contain_text("51 to 100 of 144 trials")
    expect(page).to_have_url(re.compile("page=2"))


@pytest.mark.slow
def test_pages_fit_a_phone(page: Page, served: tuple[str, Path]) -> None:
    """At 420 px nothing scrolls sideways, and the head is not under the bar of pages."""
    url, home = served
    publish(home, *RUNS)
    page.set_viewport_size({"width": 420, "height": 900})
    for name in ("hosts", "provenance", "compare"):
        page.goto(f"{url}/{name}?run=full")
        expect(page.locator(".lab-head h1")).to_be_visible()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        main = "document.querySelector('[data-testid=stMain]')"
        assert page.evaluate(f"{main}.scrollWidth - {main}.clientWidth") == 0
        top = page.evaluate("document.querySelector('.lab-head').getBoundingClientRect().top")
        bar = page.evaluate("document.querySelector('[data-testid=stHeader]').getBoundingClientRect().bottom")
        assert top >= bar
