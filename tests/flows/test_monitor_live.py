"""The pages Monitor and Runs in a real browser, over a real Prefect server whose machines work, and that stops answering."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from ports import free_port

from app.commands import USER_HOME
from benchmarks.chaos.fake_models import EMBEDDERS
from benchmarks.chaos.laboratory import HOST, ROOT, Lab, environment, given
from lab.network.lan import Listener
from lab.services.environments import prefect_environment
from lab.services.up import page_command
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


@pytest.fixture(scope="module")
def served(light: Lab) -> Iterator[str]:
    """The page's address, served from the laboratory's home as `lab up` serves it."""
    port = free_port()
    ours = prefect_environment(Paths(light.home), light.port)
    own = {k: v for k, v in ours.items() if k.startswith("PREFECT_")} | {USER_HOME: str(Path.home())}
    told = environment(light.home, **light.more, **own)
    with (light.home / "logs" / "page.log").open("wb") as log:
        command = page_command(port, Listener())
        process = subprocess.Popen(command, cwd=ROOT, env=told, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, light.logs()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def page(served: str, browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 1600}, base_url=served)
    expect.set_options(timeout=WAIT_MS)
    yield page
    page.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_is_started_stopped_and_started_again_from_the_page(light: Lab, page: Page) -> None:
    """The flow of a reader without a terminal: a wrong value is named, work ends on all machines, and goes on changed."""
    page.goto("/runs")
    values, said = page.get_by_role("textbox", name="Other values, one a line"), page.get_by_test_id("stAlert")
    start = page.get_by_role("button", name="Start", exact=True)
    page.get_by_role("combobox", name="Scale").click()
    page.get_by_role("option", name="smoke").click()
    values.fill("p1.embeddings=2")
    start.click()
    expect(said).to_contain_text("embeddings")
    values.fill(f"p1.n_memory=12\np1.embedders={json.dumps(EMBEDDERS)}")
    start.click()
    expect(said).to_contain_text("is started")
    run_id = said.inner_text().split()[1]
    expect(page.get_by_text(re.compile(f"{run_id} · running"))).to_be_visible()
    expect(page.get_by_role("combobox", name="Run again with changes")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name="Stop this run").click()
    expect(page.get_by_text(f"stopped {run_id}")).to_be_visible()
    assert {shard.state.name for shard in light.shards(run_id)} <= {"Completed", "Cancelled"}
    page.get_by_role("combobox", name="Run again with changes").click()
    page.get_by_role("option").filter(has_text=run_id).click()
    expect(values).to_have_value(re.compile(r"n_memory=12$"))
    values.fill(f"p1.n_memory=11\np1.embedders={json.dumps(EMBEDDERS[:1])}")
    start.click()
    started = said.filter(has_text="is started")
    expect(started).not_to_contain_text(run_id)
    again = started.inner_text().split()[1]
    expect(page.get_by_text(re.compile(f"{again} · completed"))).to_be_visible()
    assert light.query("SELECT phase FROM verdicts WHERE run_id = ?", [again]) == [("p1",)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_follows_a_pipeline_by_itself_and_says_when_the_server_is_away(light: Lab, page: Page) -> None:
    """Who watches a run must see it begin, and must not take an old picture for the present when the server is away."""
    page.goto("/monitor")
    head = page.locator(".lab-head h1")
    expect(head).to_contain_text("machine online")
    expect(head).to_contain_text("nothing under way")
    page.evaluate(WATCH)
    running = light.start("pipeline", *given(2, 20))
    expect(head).to_contain_text("under way")
    expect(head).not_to_contain_text("nothing under way")
    expect(page.locator("[data-testid=stMain]")).to_contain_text(HOST)  # the table's own text, for screen readers
    server = psutil.Process(light.services()["server"])
    server.suspend()
    try:
        expect(head).to_contain_text("does not answer in time")
        expect(page.locator("[data-testid=stMain]")).to_contain_text("What follows is from")
    finally:
        server.resume()
    expect(head).to_contain_text("machine online")
    running.wait(timeout=240)
    expect(head).to_contain_text("nothing under way")
    seen = page.evaluate("window.seen")
    assert seen["looks"] > 10
    assert (seen["faint"], seen["headless"]) == (1, 0)
