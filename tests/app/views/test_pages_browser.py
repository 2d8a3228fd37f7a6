"""The phases' pages in a real browser: filters in the address, downloads, a run in progress, keyboard, a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pandas as pd
import pytest
from acting import assert_legible, choose, settled
from made_up_phases import enrich
from made_up_snapshot import PHASE_TEXTS, START, publish
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app import format as words

WAIT_MS = 60_000  # a busy machine draws a page in seconds
FULL = ("full-run", "p1 p2 p3 e0 e1 e2", None)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One profile, so that Streamlit's scripts are loaded once."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, reduced_motion="reduce", timezone_id="UTC", accept_downloads=True
    )
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield context
    context.close()


@pytest.mark.slow
def test_every_page_with_data_and_without_at_both_widths(page: Page, served: tuple[str, Path]) -> None:
    """Each page answers its question, or names the next command; none is wider than a phone, none shows a traceback.

    Text of 13 px was grey at 3.3:1, "families apart" was cut to "familie…", and lines went through numbers.
    """
    url, home = served
    publish(home, FULL, more=enrich)
    for phase in PHASE_TEXTS:
        page.goto(f"{url}/{phase}?run=full-run")
        expect(page.locator(".lab-head h1")).to_have_text(str(PHASE_TEXTS[phase]["question"]))
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
        settled(page)
        assert_legible(page)
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 420, "height": 900})
        page.wait_for_function(
            "(e => e.clientWidth <= 420 && e.scrollWidth === e.clientWidth)(document.querySelector('[data-testid=stMain]'))"
        )
        assert_legible(page)
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1400, "height": 900})
        assert page.locator("[data-testid=stException]").count() == 0
    assert page.evaluate("window.hurt") is None
    (home / "snapshot.duckdb").unlink()
    for phase in PHASE_TEXTS:
        page.goto(f"{url}/{phase}")
        expect(page.locator(".lab-command pre")).to_have_text("make demo")


@pytest.mark.slow
def test_filters_live_in_the_address_and_survive_a_change_of_page(
    page: Page, browser: Browser, served: tuple[str, Path]
) -> None:
    """A copied link opens the same view elsewhere; the keyboard alone reaches another page, and the filters come along.

    One press of Back leads to the page before; it took two, since writing the address was a step of its own.
    """
    url, home = served
    publish(home, FULL, ("newer", "p1", None), more=enrich)
    page.goto(f"{url}/p1")
    expect(page).to_have_url(f"{url}/p1?run=newer")
    choose(page, "Run", words.local_time(START, UTC, short=True))
    choose(page, "Host", "pi-4")
    expect(page).to_have_url(re.compile(r"/p1\?(?=.*run=full-run)(?=.*host=pi-4)"))
    page.get_by_role("link", name="P1 Embeddings").first.focus()
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="P2 Memory").first
    expect(link).to_be_focused()
    expect(link).to_have_css("outline", "rgb(37, 99, 235) solid 2px")
    page.keyboard.press("Enter")
    expect(page.locator(".lab-head h1")).to_have_text(str(PHASE_TEXTS["p2"]["question"]))
    expect(page).to_have_url(re.compile(r"/p2\?(?=.*run=full-run)(?=.*host=pi-4)"))
    other = browser.new_page(viewport={"width": 1400, "height": 900})
    try:
        other.goto(page.url, timeout=WAIT_MS)
        expect(other.locator(".lab-head h1")).to_have_text(str(PHASE_TEXTS["p2"]["question"]))
        settled(other)
        # A choice that could not be taken over would have left the address.
        expect(other).to_have_url(re.compile(r"/p2\?(?=.*run=full-run)(?=.*host=pi-4)"))
    finally:
        other.close()
    page.go_back()
    expect(page.locator(".lab-head h1")).to_have_text(str(PHASE_TEXTS["p1"]["question"]))


@pytest.mark.slow
def test_tables_and_plots_can_be_taken_along(page: Page, served: tuple[str, Path], tmp_path: Path) -> None:
    """A table's files hold its intervals as numbers; a plot's file carries its title."""
    url, home = served
    publish(home, FULL, more=enrich)
    page.goto(f"{url}/p2?run=full-run")
    settled(page)
    frames = []
    for name, read in (("CSV", pd.read_csv), ("Parquet", pd.read_parquet)):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).first.click()
        path = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(path)
        frames.append(read(path))
    assert path.name == "full-run-p2.parquet"
    assert {"metric", "condition", "value", "low", "high", "n"} <= set(frames[0])
    assert len(frames[0]) == len(frames[1]) > 10
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=f"Save this plot as {kind}").first.click()
        picture = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(picture)
        assert picture.name == f"full-run-p2-attempts.{kind.lower()}"
        assert picture.read_bytes().startswith(begins)
    assert "Right at the first guess" in (tmp_path / "full-run-p2-attempts.svg").read_text()


@pytest.mark.slow
def test_a_page_follows_a_run_in_progress(page: Page, served: tuple[str, Path]) -> None:
    """While the chain runs nobody reloads: units, then the verdict and the plots come by themselves."""
    url, home = served
    publish(home, ("live", "p1", None))
    page.goto(f"{url}/p2")
    expect(page.locator(".lab-head .lab-pill")).to_have_text("not run")
    publish(home, ("live", "p1", "p2"))
    expect(page.locator(".lab-head")).to_contain_text("3 of 8 units done")
    publish(home, ("live", "p1 p2", None), more=enrich)
    expect(page.locator(".lab-head .lab-pill")).to_have_text("FAIL")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    expect(page.locator(".lab-command pre").first).to_contain_text("lab run p2 --set n_test=64")
