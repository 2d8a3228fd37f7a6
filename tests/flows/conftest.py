"""Laboratories for the tests of the flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from laboratory import Lab


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for converted weights that all laboratories of the session share, so that they are converted once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def new_lab(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Callable[[str], Lab]]:
    """Makes laboratories; what they started is stopped at the end of the session, and earlier by whoever is done."""
    made: list[Lab] = []

    def make(name: str) -> Lab:
        home = tmp_path_factory.mktemp(name)
        (home / "models").symlink_to(models)
        made.append(Lab(home))
        return made[-1]

    yield make
    for lab in made:
        lab.down()


@pytest.fixture(scope="session")
def shared(new_lab: Callable[[str], Lab]) -> Lab:
    """One laboratory for all tests that leave its machines alone; each looks only at its own run."""
    lab = new_lab("shared")
    lab.up()
    return lab
