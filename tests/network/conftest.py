"""Networks for the tests; skipped with the reason where the system allows none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import MACHINES, Laboratory, Machine, Models
from namespaces import Network, NotPermitted
from tiny_llama import make_for_any_text

from benchmarks.chaos.fake_models import embedders

PAUSE_S = 0.4  # of the embedder at each text: a machine is cut off long before it has done its part


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
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The models that all machines share, as they would have the same weights: the network is tested, not they."""
    home = tmp_path_factory.mktemp("models")
    return Models(embedders(home, PAUSE_S), f"hf/{make_for_any_text(home / 'llama')}")


@pytest.fixture(scope="module")
def laboratory(
    network: Network, models: Models, tmp_path_factory: pytest.TempPathFactory, prepared: Callable[[Path], None]
) -> Iterator[Laboratory]:
    """A coordinator and two workers that joined it, stopped in the end.

    A worker's LAB_RESULTS_URL is a link to the coordinator's results folder, as a mount of it would be on other machines.
    """
    one, *others = (
        Machine(network, name, tmp_path_factory.mktemp(name), dict(models.environment)) for name in MACHINES
    )
    workers = {machine.name: machine for machine in others}
    prepared(one.home)
    (one.home / "results" / "inbox").mkdir(parents=True, exist_ok=True)  # who shares a folder has made it
    for worker in workers.values():
        worker.mount(one.home / "results")
    made = Laboratory(one, workers)
    try:
        made.up()
        yield made
    finally:
        made.down()
