"""A pipeline whose machine loses power in E2 and goes on: every number is that of an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from small_chain import SMALL, TRIALS, VERDICTS, WHY, pipeline
from tiny_llama import make_for_any_text

from benchmarks.chaos.fake_models import embedders
from benchmarks.chaos.laboratory import METRICS, Lab, kill

BACKUP = "before-e2.tar"
COUNTED = "SELECT count(*), count(DISTINCT unit_id) FROM bundles JOIN units USING (unit_id) WHERE run_id = ? AND replicate = 0"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The pipeline with a model of half a million parameters: machines are tested here, not models."""
    model = f"model=hf/{make_for_any_text(tmp_path_factory.mktemp('llama'))}"
    fake = {phase: {"embedders": ["fake-0"]} for phase in ("p1", "e0")}
    return pipeline(SMALL | fake, "--set", model, "--override", WHY)


@pytest.fixture(scope="module")
def undisturbed(new_lab: Callable[[str], Lab], command: list[str]) -> Lab:
    """A pipeline from start to end; a backup is taken while E2 begins."""
    lab = new_lab("steady")
    lab.more = embedders(lab.home)
    lab.up()
    running = lab.start(*command)
    lab.wait_for("SELECT 1 FROM verdicts WHERE phase = 'e1'", running)
    saved = lab.lab("backup", str(lab.home / BACKUP))
    assert saved.returncode == 0, saved.stderr
    assert running.wait(600) in (0, 3), lab.logs()
    return lab


@pytest.fixture(scope="module")
def cut_off(undisturbed: Lab, new_lab: Callable[[str], Lab], command: list[str]) -> Iterator[Lab]:
    """One that went on from the backup, lost power with an adapter made and the other not, and was started again."""
    lab = new_lab("cut-off")
    lab.more = undisturbed.more
    restored = lab.lab("restore", str(undisturbed.home / BACKUP))
    assert restored.returncode == 0, restored.stdout + restored.stderr
    lab.up()
    running = lab.start(*command)
    lab.wait_for(
        "SELECT 1 FROM bundles JOIN units USING (unit_id) WHERE units.phase = 'e2' HAVING count(*) >= 2", running
    )
    lab.kill_everything()
    kill([psutil.Process(running.pid)])
    running.wait()
    lab.up()
    lab.lab(*command)
    yield lab
    lab.down()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_run_gives_the_same_numbers_to_the_last_digit(undisturbed: Lab, cut_off: Lab) -> None:
    """Machines die in the middle, and others go on from a backup; what comes out must not depend on it."""
    ((run_id,),) = undisturbed.query("SELECT run_id FROM runs")
    run = [run_id]
    assert cut_off.query("SELECT run_id FROM runs") == [(run_id,)]
    assert len(undisturbed.query(VERDICTS, run)) == 6
    for sql in (VERDICTS, METRICS, TRIALS, COUNTED):
        assert cut_off.query(sql, run) == undisturbed.query(sql, run), cut_off.logs()
    assert cut_off.query("SELECT count(*) FROM quarantine") == [(0,)]
    assert not Path(cut_off.home / "reading").exists()
