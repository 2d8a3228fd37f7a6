"""An empty LAB_HOME and a real Streamlit on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LAB_HOME."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    return tmp_path


@contextmanager
def streamlit(script: Path, home: Path) -> Iterator[str]:
    """The address of a Streamlit that runs `script` with this LAB_HOME, as long as the block runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"]
    with (home / "streamlit.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "LAB_HOME": str(home)}, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (home / "streamlit.log").read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, LAB_HOME) of a Streamlit that runs for the session; the tests publish into its LAB_HOME."""
    home = tmp_path_factory.mktemp("lab")
    with streamlit(ROOT / "app/home.py", home) as url:
        yield url, home


@pytest.fixture
def empty_page(tmp_path: Path) -> Iterator[str]:
    """The address of a Streamlit whose page is one sentence."""
    script = tmp_path / "empty.py"
    script.write_text("import streamlit as st\nst.html('<div class=\"lab-head\"><h1>empty</h1></div>')\n")
    with streamlit(script, tmp_path) as url:
        yield url


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A fresh page of the module's own `context`, whose profile and clock it chooses."""
    page = context.new_page()
    yield page
    page.close()
