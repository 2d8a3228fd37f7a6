"""The command `audit` for real: units of P1 run again in another process, and a result that somebody changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_process import Run

from warehouse.database.connection import writing
from warehouse.paths import Paths

SMALL = ("run", "p1", "--scale", "smoke", "--set", 'embedders=["all-MiniLM-L6-v2"]')
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_changed_result_is_found_by_running_it_again(called: Run, home: Path, closed_port: int) -> None:
    """The one thing an audit is for: agreement is said to be there, and a number that was tampered with is named."""
    done = called(*SMALL, LAB_HOST="laptop", **OFFLINE)
    assert done.returncode in (0, 3), done.stderr
    with writing(Paths(home)) as con:
        ((unit_id, problem),) = con.execute(
            "SELECT t.unit_id, problem_id FROM counted_trials t JOIN units u USING (unit_id) WHERE truth IS NOT NULL LIMIT 1"
        ).fetchall()
        con.execute("UPDATE trials SET truth = 'O(lies)' WHERE unit_id = ? AND problem_id = ?", [unit_id, problem])
    done = called("audit", "--fraction", "1", "--seed", "7", "--json", LAB_HOST="desktop", **OFFLINE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "seed 7" in done.stderr and "2 of 2 units run again in another process" in done.stderr
    found = json.loads(done.stdout)
    (pair,) = found["pairs"]
    assert (pair["host"], pair["other"], pair["units"], pair["agreeing"]) == ("laptop", "desktop", 2, 1)
    assert pair["deviating_trials"] == 1 and pair["trials"] == 13  # 12 queries, and the search for leaks
    (wrong,) = found["disagreeing"]
    assert wrong["unit_id"] == unit_id and ".truth: 'O(lies)'" in wrong["deviation"]
    with writing(Paths(home)) as con:
        assert con.execute("SELECT count(*) FROM bundles WHERE replicate = 1").fetchone() == (2,)
    shown = called("audit", "--stored")
    assert shown.returncode == 0 and f"p1 unit {unit_id}, laptop and desktop: 1 of " in shown.stdout
    done = called("audit", "--host", "other", PREFECT_API_URL=f"http://127.0.0.1:{closed_port}/api")
    assert done.returncode == 2 and "no Prefect server answers" in done.stderr, done.stderr
