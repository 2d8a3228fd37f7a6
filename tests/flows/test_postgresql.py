"""Prefect on PostgreSQL: one setting, and a pipeline runs; more than a few hosts want it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from benchmarks.chaos.fake_models import embedders
from benchmarks.chaos.laboratory import Lab, given
from benchmarks.postgresql import NoPostgresqlError, database


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """A real PostgreSQL of the test's own on a free port of loopback."""
    with ExitStack() as opened:
        try:
            url = opened.enter_context(database())
        except NoPostgresqlError as error:
            pytest.skip(str(error))
        yield url


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pipeline_runs_on_postgresql(database_url: str, new_lab: Callable[[str], Lab]) -> None:
    """The setting reaches the server and nothing else; the chain does not know which database stands behind Prefect."""
    lab = new_lab("postgresql")
    lab.more = embedders(lab.home)
    up = lab.lab("up", "--port", str(lab.port), "--no-page", "--quick", LAB_DATABASE_URL=database_url)
    assert up.returncode == 0, up.stdout + up.stderr + lab.logs()
    done = lab.lab("pipeline", *given(2, 20))
    assert done.returncode in (0, 3), done.stdout + done.stderr + lab.logs()
    assert lab.query("SELECT DISTINCT phase FROM verdicts")[0] == ("p1",)
    runs = lab.client().read_flow_runs(limit=50)
    assert {r.name.split(" · ")[0] for r in runs} >= {"pipeline", "p1"}
    assert not (lab.home / "prefect" / "prefect.db").exists()
    lab.down()
