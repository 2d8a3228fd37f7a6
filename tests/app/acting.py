"""What a reader does on the page, with the waits that a slow machine needs."""

from __future__ import annotations

import re
from contextlib import suppress
from html import unescape
from pathlib import Path

from playwright.sync_api import Page, TimeoutError, expect
from streamlit.testing.v1 import AppTest

LEGIBLE = Path(__file__).with_name("legible.js").read_text()


def commands_on(page: AppTest) -> list[str]:
    """The commands to copy that a page shows."""
    html = " ".join(h.proto.body for h in page.get("html"))
    return [unescape(found) for found in re.findall(r'<div class="lab-command"><pre>(.*?)</pre>', html, re.DOTALL)]


def settled(page: Page) -> None:
    """Wait until the script has ended."""
    expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")


def choose(page: Page, label: str, text: str) -> None:
    """Pick the option that contains `text` in the select box named `label`.

    An open list hides the rest of the page from roles, and two lists that are open at once may leave it hidden, so the
    list must be closed and the page drawn before anything else is done.
    """
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option").filter(has_text=text).click()
    expect(page.get_by_role("listbox")).to_have_count(0)
    settled(page)


def assert_legible(page: Page) -> None:
    """No small text has little contrast; no text of a plot is cut, crossed by a line or by another text."""
    with suppress(TimeoutError):  # plots are drawn anew for another width or theme
        page.wait_for_function(f"({LEGIBLE})().length === 0")
    assert page.evaluate(LEGIBLE) == []
