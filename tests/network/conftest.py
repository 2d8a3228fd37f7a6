"""Networks for the tests; skipped with the reason where the system allows none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import MACHINES, Laboratory, Machine
from namespaces import Network, NotPermitted


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three machines on a switch, gone after the module's tests whatever became of them."""
    made = Network(MACHINES)
    try:
        try:
            made.build()
        except NotPermitted as why:
            pytest.skip(f"no network namespaces here (root on Linux is needed): {why}")
        yield made
    finally:
        made.tear_down()


@pytest.fixture(scope="module")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a LAB_HOME; all share the converted weights, so that the first one converts them for all."""
    models = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        (home / "models").symlink_to(models)
        return home

    return make


@pytest.fixture(scope="module")
def laboratory(network: Network, new_home: Callable[[str], Path]) -> Iterator[Laboratory]:
    """A coordinator and two workers that joined it, stopped in the end.

    A worker's LAB_RESULTS_URL is a link to the coordinator's results folder, as a mount of it would be on other machines.
    """
    one = Machine(network, MACHINES[0], new_home(MACHINES[0]))
    workers = {name: Machine(network, name, new_home(name)) for name in MACHINES[1:]}
    (one.home / "results" / "inbox").mkdir(parents=True)  # who shares a folder has made it
    for worker in workers.values():
        worker.mount(one.home / "results")
    made = Laboratory(one, workers)
    try:
        made.up()
        yield made
    finally:
        made.down()
