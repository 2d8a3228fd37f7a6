"""The page Monitor in a real browser, over a real Prefect server whose machines work, and that stops answering."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from ports import free_port

from benchmarks.chaos.laboratory import HOST, ROOT, Lab, environment, given
from lab.services.environments import prefect_environment
from warehouse.paths import Paths

WAIT_MS = 120_000  # until a shard's process has started on a busy machine
# What a reader would see as flicker: something fades, the head is gone, or the page jumps together.
WATCH = """() => { window.seen = {faint: 1, headless: 0, looks: 0};
  const look = () => {
    for (const e of document.querySelectorAll('[data-testid=stMain] [data-testid=stElementContainer]'))
      window.seen.faint = Math.min(window.seen.faint, Number(getComputedStyle(e).opacity));
    window.seen.headless += document.querySelectorAll('.lab-head h1').length === 0;
    window.seen.looks += 1;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look); }"""


@pytest.fixture
def monitor(light: Lab, browser: Browser) -> Iterator[Page]:
    """The page, served from the laboratory's home as `lab up` serves it."""
    port = free_port()
    ours = prefect_environment(Paths(light.home), light.port)
    told = environment(light.home, **{k: v for k, v in ours.items() if k.startswith("PREFECT_")})
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app/home.py"), f"--server.port={port}"]
    with (light.home / "logs" / "page.log").open("wb") as log:
        served = subprocess.Popen(command, cwd=ROOT, env=told, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert served.poll() is None and time.monotonic() < deadline, light.logs()
                time.sleep(0.1)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/monitor")
        yield page
        page.close()
    finally:
        served.terminate()
        served.wait(timeout=20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_follows_a_pipeline_by_itself_and_says_when_the_server_is_away(light: Lab, monitor: Page) -> None:
    """Who watches a run must see it begin, and must not take an old picture for the present when the server is away."""
    expect.set_options(timeout=WAIT_MS)
    head = monitor.locator(".lab-head h1")
    expect(head).to_contain_text("machine online")
    expect(head).to_contain_text("nothing under way")
    monitor.evaluate(WATCH)
    running = light.start("pipeline", *given(2, 5))
    expect(head).to_contain_text("under way")
    expect(head).not_to_contain_text("nothing under way")
    expect(monitor.locator("[data-testid=stMain]")).to_contain_text(HOST)  # the table's own text, for screen readers
    server = psutil.Process(light.services()["server"])
    server.suspend()
    try:
        expect(head).to_contain_text("does not answer in time")
        expect(monitor.locator("[data-testid=stMain]")).to_contain_text("What follows is from")
    finally:
        server.resume()
    expect(head).to_contain_text("machine online")
    running.wait(timeout=240)
    expect(head).to_contain_text("nothing under way")
    seen = monitor.evaluate("window.seen")
    assert seen["looks"] > 10
    assert (seen["faint"], seen["headless"]) == (1, 0)
