"""Laboratories for the tests of the flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from groups import group_of

from benchmarks.chaos.fake_models import embedders
from benchmarks.chaos.laboratory import Lab

MADE: list[Lab] = []


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop the laboratories after the last test of the group that shares them."""
    if nextitem is None or group_of(nextitem.path) != group_of(item.path):
        while MADE:
            MADE.pop().down()


@pytest.fixture(scope="session")
def new_lab(
    tmp_path_factory: pytest.TempPathFactory, prepared: Callable[[Path], None]
) -> Iterator[Callable[[str], Lab]]:
    """Return new_lab(name), which makes a laboratory; it is stopped in the end, or earlier by its user."""

    def make(name: str) -> Lab:
        MADE.append(Lab(tmp_path_factory.mktemp(name), prepare=prepared))
        return MADE[-1]

    yield make
    while MADE:
        MADE.pop().down()


@pytest.fixture(scope="session")
def light(new_lab: Callable[[str], Lab]) -> Lab:
    """One laboratory with fake embedders for tests that need real machines and no real model; each looks at its own run."""
    lab = new_lab("light")
    lab.more = embedders(lab.home)
    lab.up()
    return lab
