"""A real Chromium, one for all tests of a process: playwright starts only once in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from programs import missing

from docs.generate.screenshots import FLAGS, browser_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the session's one Chromium."""
    path = browser_path()
    if path is None:
        missing("chromium")
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()
