"""The pipeline with the real models on a real server with real workers."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import small_chain
from emulated_windows import refused_names
from small_chain import TRIALS, VERDICTS, WHY

from benchmarks.chaos.laboratory import BUNDLES, HOST, METRICS, Lab
from flows.plan import plan

PHASES = ("p1", "p2", "p3", "e0", "e1", "e2")
# The controls of E1 have tests of their own.
SMALL = small_chain.SMALL | {"e1": small_chain.SMALL["e1"] | {"controls": []}}


def pipeline() -> list[str]:
    return small_chain.pipeline(SMALL, "--override", WHY)


@cache
def run_id() -> list[str]:
    """[id of the run that `pipeline` starts]"""
    return [plan("smoke", SMALL).run.run_id]


@pytest.fixture(scope="module")
def undisturbed(new_lab: Callable[[str], Lab], first_load: Any) -> tuple[Lab, subprocess.CompletedProcess[str]]:
    """A pipeline that ran from start to end, with gates overridden."""
    lab = new_lab("real")
    (lab.home / "models").symlink_to(first_load.models)
    lab.up()
    command = lab.start(*pipeline(), log="undisturbed")
    ended = command.wait(900)
    return lab, subprocess.CompletedProcess([], ended, (lab.home / "logs" / "undisturbed.log").read_text(), "")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_six_phases_come_to_a_verdict(undisturbed: tuple[Lab, subprocess.CompletedProcess[str]]) -> None:
    """The product's one promise: each phase is computed for real and decided, and the command says so."""
    lab, done = undisturbed
    verdicts = {row[0]: row[1] for row in lab.query("SELECT phase, status FROM verdicts WHERE run_id = ?", run_id())}
    assert set(verdicts) == set(PHASES), done.stdout + done.stderr + lab.logs()
    assert done.returncode == (3 if "FAIL" in verdicts.values() else 0), done.stdout + done.stderr
    for phase in PHASES:
        assert phase.upper() in done.stdout
    # Read once a second, so that not every count is seen.
    assert re.search(r"E1  \d of 5 units   elapsed .* left", done.stdout), done.stdout
    assert lab.query("SELECT count(*) FROM quarantine") == [(0,)]
    ((units, bundles),) = lab.query(
        "SELECT count(DISTINCT u.unit_id), count(DISTINCT b.unit_id) FROM units u LEFT JOIN bundles b USING (unit_id) "
        "WHERE run_id = ?",
        run_id(),
    )
    assert units == bundles > 12
    assert [error for *_, error in lab.query(TRIALS, run_id()) if error is not None] == []


@pytest.mark.slow
def test_findings_are_data_in_the_warehouse(undisturbed: tuple[Lab, subprocess.CompletedProcess[str]]) -> None:
    """P1's embedder, E0's configuration and E1's hypothesis reach the next phase through the warehouse and nothing else."""
    lab, _ = undisturbed
    findings = {
        phase: json.loads(text)
        for phase, text in lab.query("SELECT phase, findings FROM verdicts WHERE run_id = ?", run_id())
    }
    specs: dict[str, list[dict[str, Any]]] = {}
    for phase, unit in lab.query("SELECT phase, spec FROM units WHERE run_id = ? ORDER BY position", run_id()):
        if (spec := json.loads(unit)["spec"]).get("role") != "leakage":
            specs.setdefault(phase, []).append(spec)
    assert {s["retrieval"]["embedder"] for s in specs["p2"]} == {findings["p1"]["embedder"]}
    assert {s["retrieval"]["text_weight"] for s in specs["p2"]} == {findings["p1"]["text_weight"]}
    assert {s["retrieval"]["distance"] for s in specs["p2"]} == {findings["p1"]["distance"]}
    chosen = findings["e0"]["retrieval"] | {"k": 2}  # E1's own k at this scale
    assert [s["retrieval"] for s in specs["e1"] if s["role"] == "evaluate"] == [chosen, chosen]
    assert {s["hypothesis"] for s in specs["e2"]} == {findings["e1"]["hypothesis"]}
    adapters = [s["adapter"] for s in specs["e2"] if s["role"] == "evaluate" and s["adapter"]]
    stored = {sha256 for (sha256,) in lab.query("SELECT sha256 FROM files")}
    assert adapters and set(adapters) <= stored


@pytest.mark.slow
def test_an_override_is_on_record_where_it_was_needed(
    undisturbed: tuple[Lab, subprocess.CompletedProcess[str]],
) -> None:
    """Going on past a gate is allowed, silently doing so is not."""
    lab, done = undisturbed
    rows = lab.query("SELECT phase, status, overridden_by, why FROM verdicts WHERE run_id = ?", run_id())
    for phase, status, by, why in rows:
        needed = phase in ("p1", "p2", "p3") and status != "PASS"
        assert (by, why) == ((HOST, WHY) if needed else (None, None)), phase
    assert any(by for _, _, by, _ in rows) == (f"Overridden: {WHY}" in done.stdout)


@pytest.mark.slow
def test_every_file_has_a_name_that_windows_takes(undisturbed: tuple[Lab, subprocess.CompletedProcess[str]]) -> None:
    """A colon in a name, as of a time, is a stream of another file there; two names that differ by case are one."""
    lab, _ = undisturbed
    for folder in ("bundles", "hosts", "logs", "records", "results", "spool"):
        assert refused_names(lab.home / folder) == []


@pytest.mark.slow
def test_a_run_says_where_it_came_from(undisturbed: tuple[Lab, subprocess.CompletedProcess[str]]) -> None:
    """Without commit, versions, digests and arguments nobody can get the same numbers again."""
    lab, _ = undisturbed
    ((commit, versions, given, defaulted, host, finished, content),) = lab.query(
        "SELECT code_commit, versions, arguments_given, arguments_defaulted, r.host, finished_at, content "
        "FROM runs r JOIN plans USING (plan_id) WHERE run_id = ?",
        run_id(),
    )
    assert len(commit) == 40 or commit.startswith("wheel-")
    assert {"torch", "transformers", "prefect", "duckdb"} <= set(json.loads(versions))
    assert json.loads(given)["config"] == SMALL
    assert "n_test" not in json.loads(defaulted)["p2"] and json.loads(defaulted)["p2"]["n_memory"] > 0
    assert host == HOST and finished is not None
    digests = json.loads(content)["digests"]
    assert all(len(d) == 64 for d in digests.values()) and {"smollm2-135m", "all-MiniLM-L6-v2"} <= set(digests)


@pytest.mark.slow
def test_prefect_shows_flows_shards_tasks_and_a_verdict_table_each(
    undisturbed: tuple[Lab, subprocess.CompletedProcess[str]],
) -> None:
    """Who looks into Prefect's pages finds what ran where, and each phase's table."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    lab, _ = undisturbed
    client, found = lab.client(), lab.shards(*run_id())
    assert {r.name.split(" · ")[0] for r in found} == set(PHASES)
    assert all(r.name.endswith(f" · {HOST}") and r.state.is_completed() for r in found), [r.name for r in found]
    assert all(r.parent_task_run_id is not None for r in found)
    assert len(client.read_task_runs(limit=200)) > len(found)
    named = ArtifactFilter(key=ArtifactFilterKey(like_=f"verdict-{run_id()[0]}-%"))
    keys = {a.key for a in client.read_artifacts(artifact_filter=named)}
    assert {k.rsplit("-", 1)[1] for k in keys} == set(PHASES)


@pytest.mark.slow
def test_the_hourly_sync_is_scheduled(undisturbed: tuple[Lab, subprocess.CompletedProcess[str]]) -> None:
    """What could not be delivered goes out unasked only if the server's scheduler works, which a library broke before."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    client = undisturbed[0].client()
    sync = client.read_deployment_by_name("sync/coordinator")
    deadline = time.monotonic() + 120
    while not (
        runs := client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[sync.id])))
    ):
        assert time.monotonic() < deadline, undisturbed[0].logs()
        time.sleep(1)
    assert all(r.auto_scheduled for r in runs)


@pytest.mark.slow
def test_a_second_run_followed_from_another_machine_computes_nothing(
    undisturbed: tuple[Lab, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Results stay: the same command again only reads them. A user whose machine has no warehouse of the run sees
    progress, verdicts and the exit code all the same."""
    lab, done = undisturbed
    before = [lab.query(sql, run_id()) for sql in (BUNDLES, METRICS, VERDICTS)]
    submitted = len(lab.shards(*run_id()))
    elsewhere = {"LAB_HOME": str(tmp_path), "PREFECT_API_URL": f"http://127.0.0.1:{lab.port}/api"}
    again = lab.lab(*pipeline(), **elsewhere)
    assert again.returncode == done.returncode, again.stdout + again.stderr
    assert [lab.query(sql, run_id()) for sql in (BUNDLES, METRICS, VERDICTS)] == before
    assert len(lab.shards(*run_id())) == submitted
    for phase, status in lab.query("SELECT phase, status FROM verdicts WHERE run_id = ?", run_id()):
        assert f"{phase.upper()}  {status}  " in again.stdout
    assert "p1  7 of 7 units reused" in again.stdout
    assert not (tmp_path / "warehouse.duckdb").exists()
