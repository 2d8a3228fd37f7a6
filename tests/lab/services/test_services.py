"""What lab up decides before and while it starts things; no Prefect server is started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import psutil
import pytest
from made_up_host import made_up_report
from server_double import reply, run_row

from common.environment import host_name
from common.errors import LabError
from lab.network.lan import Listener
from lab.services import assessing, environments, processes, serving, up
from lab.services.processes import Service
from warehouse.database.connection import refuse_newer, writing
from warehouse.paths import Paths
from workpools.assess import assess


@pytest.fixture
def paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("LAB_HOME", str(home))
    for name in ("LAB_RESULTS_URL", "LAB_HOST", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return Paths(home)


def test_a_report_is_taken_only_while_it_is_fresh_and_whole(paths: Paths) -> None:
    """Memory and disk change: workers are started by today's report, and a torn or future one counts as none."""
    assert assessing.fresh_report(paths) is None
    report = assess(quick=True)
    path = paths.home / f"capability_report_{host_name()}.json"
    for age, fresh in ((0, True), (23, True), (25, False), (-0.1, True), (-23, False)):
        made = report.model_copy(update={"created_at": datetime.now(UTC) - timedelta(hours=age)})
        path.write_text(made.model_dump_json())
        assert (assessing.fresh_report(paths) is not None) is fresh
    whole = report.model_dump_json()
    path.write_text(whole[: len(whole) // 2])
    assert assessing.fresh_report(paths) is None
    path.write_text(whole.replace("Z", "", 1))
    assert assessing.fresh_report(paths) is None


def test_a_coordinator_serves_what_it_is_asked_to(paths: Paths) -> None:
    """A desktop that coordinates took the Raspberry Pi's work; asked for what it cannot do, it says so before it starts."""
    strong, weak = made_up_report("desk", 16), made_up_report("pi", 4)
    assert serving.pools_served(strong, ()) == ("strong", "medium", "weak")
    assert serving.pools_served(strong, ("strong", "weak")) == ("strong", "weak")
    assert serving.pools_served(strong, ("coordinator",)) == ()
    with pytest.raises(LabError, match="--serve strong: pi is weak") as refused:
        serving.pools_served(weak, ("strong",))
    assert refused.value.mend == "choose one of: weak, coordinator"
    with pytest.raises(LabError, match="there is no pool 'huge'"):
        up.up(1, 2, page=False, say=print, serve=("huge",))
    us = psutil.Process()
    processes.record(paths, [Service("worker-weak", us.pid, us.create_time(), None)])
    with pytest.raises(LabError, match="already running: worker-weak"):
        up.up(1, 2, page=False, say=print, serve=("strong",))


def test_a_server_that_runs_elsewhere_is_not_doubled(paths: Paths, closed_port: int) -> None:
    """Two servers over one database would lock each other; asked for another port, lab up names the one that runs."""
    ours = processes.psutil.Process()
    running = Service("server", ours.pid, ours.create_time(), 4300)
    processes.record(paths, [running])
    with pytest.raises(LabError, match="server already runs on port 4300") as refused:
        up.up(closed_port, 8501, page=False, say=print)
    assert refused.value.mend.startswith("lab down")
    assert processes.recorded(paths) == [running]


def test_an_older_version_does_not_start_on_a_newer_warehouse(paths: Paths, closed_port: int) -> None:
    """All would come up and look well, and each run fail at its first look into the warehouse."""
    with writing(paths, publish=True) as con:
        con.execute("INSERT INTO schema_migrations VALUES (99, '0099_x.sql', 'x', now())")
    with pytest.raises(LabError, match="has schema 99, this version knows"):
        up.up(closed_port, 8501, page=False, say=print)
    assert processes.recorded(paths) == []
    # What cannot be read is no reason to keep a laboratory from starting, which makes it anew.
    paths.snapshot.write_bytes(b"half a file")
    refuse_newer(paths)
    paths.snapshot.unlink()
    refuse_newer(paths)
    assert not paths.snapshot.exists()


def test_a_server_that_dies_is_told_at_once_with_its_log(
    paths: Paths, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that fails must not wait out its minute and a half, and says where to read why."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    started = time.monotonic()
    with pytest.raises(LabError, match="the Prefect server did not come up") as refused:
        up.up(closed_port, 8501, page=False, say=lambda text: None)
    assert time.monotonic() - started < 20
    assert refused.value.mend == f"see {paths.home / 'logs' / 'server.log'}"
    assert [row.alive for row in up.status()] == [False]


def test_a_free_port_is_proposed(busy_port: int) -> None:
    """The command that is proposed must work, so a port that is taken, or past the last one, is not in it."""
    assert up.free_port(busy_port) != busy_port
    assert up.free_port(65536 + 100) >= 1024
    with pytest.raises(LabError, match=r"in use by process \d+ \(") as refused:
        up.check_port({}, "server", busy_port, "lab up --port")
    # A child that was forked meanwhile holds the socket as well, and may be the one that is named.
    holders = {os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))}
    assert int(refused.value.what.split("process ")[1].split(" ")[0]) in holders
    assert str(busy_port) not in refused.value.mend


def test_own_services_are_asked_without_a_proxy(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lab up waited 300 s for a server that was there, and its workers would not have reached it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("no_proxy", "example.org")
    own = environments.prefect_environment(paths, 4200, Listener("127.0.0.2"))
    assert own["NO_PROXY"] == own["no_proxy"] == "example.org,127.0.0.2"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        found = up.answers(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()
    assert found


def test_what_answers_is_told_from_what_does_not(busy_port: int, closed_port: int) -> None:
    """Silence and refusal are no answer; neither ends in an error, since lab up asks until something answers."""
    assert not up.answers(f"http://127.0.0.1:{closed_port}/api/health")
    assert not up.answers(f"http://127.0.0.1:{busy_port}/api/health")


def test_only_a_postgresql_database_is_taken_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt address would let the server start on SQLite unseen, or print the password of the right one."""
    monkeypatch.delenv("LAB_DATABASE_URL", raising=False)
    assert environments.database() == {}
    url = "postgresql+asyncpg://lab:secret@db/prefect"
    monkeypatch.setenv("LAB_DATABASE_URL", url)
    assert environments.database() == {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
    # Its password is the server's alone: workers and flows run what others sent.
    assert url not in environments.prefect_environment(Paths.local(), 4200).values()
    assert url in environments.server_environment(4200, Listener()).values()
    monkeypatch.setenv("LAB_DATABASE_URL", "postgres://lab:secret@db/prefect")
    with pytest.raises(LabError) as caught:
        environments.database()
    assert "LAB_DATABASE_URL" in str(caught.value) and "secret" not in str(caught.value) + (caught.value.mend or "")


def test_a_deployment_that_does_not_end_is_told_in_a_line(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a very busy machine lab up ended with a page of traceback, and left open what to do."""
    monkeypatch.setattr(up, "START_S", 0.01)
    paths.home.mkdir()
    with pytest.raises(LabError, match="did not end within"):
        up.deploy(paths, dict(os.environ), print)
    assert not (paths.home / "prefect" / "deployed").exists()


class FakeRuns:
    """A server with open flow runs, which keeps what is set."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        self.runs = list(runs)
        self.ended: list[str] = []

    def request(self, method: str, path: str, json: Any) -> Any:
        assert (method, path) == ("POST", "/flow_runs/filter")
        return reply(self.runs)

    def set_flow_run_state(self, run_id: UUID, state: Any, force: bool) -> None:
        assert state.is_crashed() and force
        self.ended += [run["name"] for run in self.runs if run["id"] == str(run_id)]


def test_only_runs_whose_process_is_gone_are_ended_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that died alone comes back to pipelines that live on: ended, their units would be computed again, or never."""
    monkeypatch.setenv("LAB_HOST", "desk")
    living = subprocess.Popen([sys.executable, "-c", "input()", "prefect.engine"], stdin=subprocess.PIPE)
    gone = subprocess.Popen([sys.executable, "-c", "pass", "prefect.engine"])
    gone.wait()

    def run(name: str, pid: str | None, *tags: str, planned: bool = False) -> dict[str, Any]:
        return run_row(name, infrastructure_pid=pid, tags=list(tags), auto_scheduled=planned)

    server = FakeRuns(
        run("lives", str(living.pid)),
        run("lives, with a host", f"desk:{living.pid}", "host:desk"),
        run("gone", str(gone.pid)),
        run("gone here", str(gone.pid), "host:desk"),
        run("elsewhere", str(gone.pid), "host:pi"),
        run("never begun", None),
        run("planned", None, planned=True),
    )
    try:
        up.crash_orphaned_runs(server)
    finally:
        living.communicate(b"\n")
    assert server.ended == ["gone", "gone here", "never begun"]
