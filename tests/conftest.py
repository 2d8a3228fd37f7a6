"""A real Chromium, one for all tests of a process: playwright starts only once in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from docs.generate.screenshots import FLAGS, browser_path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the session; its absence is a failure, so that no green run has left the page unseen."""
    path = browser_path()
    if path is None:
        pytest.fail("no Chromium on PATH, and the page's tests need one: apt-get install chromium", pytrace=False)
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()
