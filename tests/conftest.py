"""What tests of all folders share: one Chromium, and what is made once for all processes of a test run."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from checkout import ROOT
from filelock import FileLock
from groups import FIRST, GROUPS, group_of
from playwright.sync_api import Browser, sync_playwright
from ports import REBOUND, free_port
from programs import missing
from xdist.scheduler import LoadScopeScheduling

from docs.generate.screenshots import FLAGS, browser_path

# A model that is not here must be found missing at once, not after the hub's time-outs; set before its library loads.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
Once = Callable[[str, Callable[[Path], None]], Path]

# In a process of its own, where no library has printed its warnings or switched off its bars before.
FIRST_LOAD = """
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.lora import LoraSettings
backends = Backends(no_files)
backends.embedder("all-MiniLM-L6-v2")
lora = LoraSettings(rank=1, alpha=1, dropout=0, learning_rate=1e-4, epochs=1, batch_size=1)
content = backends.train("smollm2-135m", [("1 + 1 =", " 2")], [], lora, 42).adapter
Backends(lambda sha256: content).language_model("smollm2-135m", "any").generate(["One", "One two"], 2, stop="x")
"""


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each group of files to one process. `--dist loadgroup` does not: it needs an older pytest than 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup | None:
    """Schedule by groups where files are asked for."""
    return ByGroup(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups into the order in which they begin."""
    places = {name: i for names in GROUPS.values() for i, name in enumerate(names)}

    def order(item: pytest.Item) -> tuple[int, int]:
        group = group_of(item.path)
        return FIRST.index(group) if group in FIRST else len(FIRST), places.get(item.path.stem, 0)

    items.sort(key=order)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a Chromium of the test file; while it is open, playwright's event loop is the process's, and asyncio has none."""
    path = browser_path()
    if path is None:
        missing("chromium")
    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=path, args=[*FLAGS, f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]
        )
        yield found
        found.close()


@pytest.fixture
def any_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take in whatever trials a unit of these tests has: how they are checked has tests of its own."""
    monkeypatch.setattr("warehouse.ingest.arrival.wrong_trials", lambda unit, bundle: None)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return once(name, make): the folder of this name, which `make` has filled for all processes of the test run."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, making = root / name, root / f"{name}.making"
        with FileLock(root / f"{name}.lock"):
            if not folder.is_dir():
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(folder)
        return folder

    return made


class FirstLoad(NamedTuple):
    """SmolLM2, converted once."""

    models: Path  # a LAB_HOME's folder models
    printed: str  # while it was converted, loaded and trained


@pytest.fixture(scope="session")
def first_load(once: Once) -> FirstLoad:
    """Convert SmolLM2's weights in a process of its own."""

    def make(home: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", FIRST_LOAD],
            env={**os.environ, "LAB_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        (home / "printed").write_text(done.stdout + done.stderr)

    home = once("first-load", make)
    return FirstLoad(home / "models", (home / "printed").read_text())


@pytest.fixture(scope="session")
def prepared(once: Once) -> Callable[[Path], None]:
    """Return prepared(home): give a LAB_HOME what `lab up` made in another one.

    That is a Prefect database with pools and deployments, without workers, and the registered report of the host "test-host".
    """

    def make(home: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
        environment |= {"LAB_HOME": str(home), "LAB_HOST": "test-host"}
        for arguments in (["up", "--port", str(free_port()), "--no-page", "--quick"], ["down"]):
            done = subprocess.run(
                [sys.executable, "-m", "lab", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
                cwd=ROOT,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        with sqlite3.connect(home / "prefect" / "prefect.db") as database:
            database.execute("DELETE FROM worker")
        database.close()

    def prepare(home: Path) -> None:
        made = once("prepared", make)
        shutil.copytree(made / "prefect", home / "prefect")
        shutil.copytree(made / "results", home / "results", dirs_exist_ok=True)
        for report in made.glob("capability_report_*.json"):
            shutil.copy(report, home)

    return prepare
