"""A pipeline whose machine loses power in E2 and goes on: every number is that of an undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_llama import make_for_any_text

from benchmarks.chaos.fake_models import embedders
from benchmarks.chaos.laboratory import METRICS, Lab, kill

WHY = "a test looks at every phase"
BACKUP = "before-e2.tar"
LITTLE: dict[str, Any] = {"max_guesses": 2, "run_seeds": [100, 200]}
# E2's findings name the success criteria, which rest on a clock.
VERDICTS = (
    "SELECT phase, status, main_metric, value, low, high, n, CASE WHEN phase <> 'e2' THEN findings END FROM verdicts "
    "WHERE run_id = ? ORDER BY phase"
)
TRIALS = (
    "SELECT problem_id, condition, seed, attempts, answer, tokens_in, tokens_out, error FROM counted_trials JOIN units "
    "USING (unit_id) WHERE run_id = ? ORDER BY unit_id, ordinal"
)
COUNTED = "SELECT count(*), count(DISTINCT unit_id) FROM bundles JOIN units USING (unit_id) WHERE run_id = ? AND replicate = 0"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Values for which a model of half a million parameters does the work: machines are tested here, not models."""
    model = f"hf/{make_for_any_text(tmp_path_factory.mktemp('llama'))}"
    return {
        "model": model,
        "p1": {"embedders": ["fake-0"]},
        "p2": {"per_unit": 1, "n_test": 2} | LITTLE,
        "e0": {"embedders": ["fake-0"]},
        "e1": {"n_memory": 4, "memos_per_unit": 2, "n_test": 3} | LITTLE,
        "e2": {"n_test": 2} | LITTLE,
    }


def pipeline(small: dict[str, Any]) -> list[str]:
    flat = {"model": small["model"]} | {
        f"{p}.{k}": v for p, own in small.items() if p != "model" for k, v in own.items()
    }
    given = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in flat.items()]
    return ["pipeline", "--scale", "smoke", *(part for g in given for part in ("--set", g)), "--override", WHY]


@pytest.fixture(scope="module")
def undisturbed(new_lab: Callable[[str], Lab], small: dict[str, Any]) -> Lab:
    """A pipeline from start to end; a backup is taken while E2 begins."""
    lab = new_lab("steady")
    lab.more = embedders(lab.home)
    lab.up()
    command = lab.start(*pipeline(small))
    lab.wait_for("SELECT 1 FROM verdicts WHERE phase = 'e1'", command)
    saved = lab.lab("backup", str(lab.home / BACKUP))
    assert saved.returncode == 0, saved.stderr
    assert command.wait(600) in (0, 3), lab.logs()
    return lab


@pytest.fixture(scope="module")
def cut_off(undisturbed: Lab, new_lab: Callable[[str], Lab], small: dict[str, Any]) -> Iterator[Lab]:
    """One that went on from the backup, lost power with an adapter made and the other not, and was started again."""
    lab = new_lab("cut-off")
    lab.more = undisturbed.more
    restored = lab.lab("restore", str(undisturbed.home / BACKUP))
    assert restored.returncode == 0, restored.stdout + restored.stderr
    lab.up()
    command = lab.start(*pipeline(small))
    lab.wait_for(
        "SELECT 1 FROM bundles JOIN units USING (unit_id) WHERE units.phase = 'e2' HAVING count(*) >= 2", command
    )
    lab.kill_everything()
    kill([psutil.Process(command.pid)])
    command.wait()
    lab.up()
    lab.lab(*pipeline(small))
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
