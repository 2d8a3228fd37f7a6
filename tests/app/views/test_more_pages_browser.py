"""Trials, hosts, provenance and the comparison in a real browser: a click, the keyboard, the address, a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import made_up_hosts
import pytest
from acting import assert_legible, settled
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


@pytest.mark.slow
def test_the_host_that_deviates_is_found_in_the_matrix_and_its_trials_opened(
    page: Page, served: tuple[str, Path]
) -> None:
    """Three machines that computed the same: the headline names the one with other answers, a click shows them, Back leads back."""
    url, home = served
    made_up_hosts.publish(home, made_up_hosts.names_of(3), "replicate", "pi-4")
    for width in (420, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{url}/hosts")
        settled(page)
        expect(page.locator(".lab-head h1")).to_have_text(re.compile(r"^pi-4 gives other answers"))
        expect(page.locator("[data-testid=stMain]")).to_contain_text("53 of 210 shared E1 trials")
        assert (
            page.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('[data-testid=stMain]'))") == 0
        )
        assert_legible(page)
    marks = page.locator(".lab-mark")
    assert marks.filter(has_text="53 of 210 differ").count() == marks.filter(has_text="43 of 144 differ").count() == 1
    assert marks.filter(has_text=re.compile("^same$")).count() == 8
    page.get_by_role("link").filter(has_text="43 of 144 differ").click()
    expect(page).to_have_url(re.compile(r"phase=p2&with=pi-4"))
    expect(page.locator("[data-testid=stMain]")).to_contain_text("144 trials of 12 problems, pi-4 with desktop")
    settled(page)
    page.go_back()
    expect(page.locator("[data-testid=stMain]")).to_contain_text("210 trials of 14 problems, pi-4 with desktop")


@pytest.mark.slow
def test_trials_are_searched_by_what_is_in_their_prompts_and_answers(page: Page, served: tuple[str, Path]) -> None:
    """A word typed into Search leaves the trials that have it, is in the address, and goes again when it is removed."""
    url, home = served
    made_up_hosts.publish(home, made_up_hosts.names_of(3), "split")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto(f"{url}/trials?phase=e1")
    main, search = page.locator("[data-testid=stMain]"), page.get_by_role("textbox", name="Search")
    expect(main).to_contain_text("of 210 trials")
    settled(page)  # what is typed before is overwritten
    search.fill("O(log n)")
    search.press("Enter")
    expect(main).to_contain_text(re.compile(r"of (?!210 )[1-9]\d* trials"))
    expect(page).to_have_url(re.compile(r"problem=O"))
    settled(page)
    search.fill("in no prompt of these")
    search.press("Enter")
    expect(main).to_contain_text("No trial matches these filters.")
    settled(page)
    search.fill("")
    search.press("Enter")
    expect(main).to_contain_text("of 210 trials")
