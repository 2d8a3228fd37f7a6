"""A laboratory that really listens: 127.0.0.2 stands for the address in the LAN, and a second home for another machine."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import psutil
import pytest
from lab_process import bare_environment
from ports import free_port
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect as open_socket

from app import commands
from app.prefect_api import look
from lab.network import secrets
from lab.services.processes import wait_until
from warehouse.delivery.transports.quack import reading, with_extensions
from workpools.pools import connect, queue_of

ADDRESS = "127.0.0.2"


def can_bind() -> bool:
    try:
        with socket.create_server((ADDRESS, 0)):
            return True
    except OSError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not can_bind(), reason=f"{ADDRESS} is not an address of this machine"),
]


@dataclass
class Machine:
    """A LAB_HOME with secrets of its own, and all that its commands said."""

    home: Path
    name: str
    said: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return bare_environment(self.home) | {
            "LAB_HOST": self.name,
            "LAB_SECRETS": str(self.home.with_name(f"secrets-{self.name}")),
        }

    def lab(self, *arguments: str, keyboard: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "lab", *arguments],
            env=self.environment | more,
            input=keyboard,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            cwd=self.home,
        )
        if arguments[0] != "invite":
            self.said += done.stdout + done.stderr
        return done

    def family(self) -> list[psutil.Process]:
        rows = json.loads((self.home / "services.json").read_text())
        started = [psutil.Process(row["pid"]) for row in rows]
        return [p for s in started for p in (s, *s.children(recursive=True))]

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.read_text()[-2000:]}" for p in (self.home / "logs").glob("*.log"))


@dataclass
class Laboratory:
    """The coordinator, a machine that joined, and where they listen."""

    coordinator: Machine
    desk: Machine
    port: int
    app_port: int
    inbox_port: int
    keys: secrets.Keys

    def url(self, port: int) -> str:
        return f"http://{ADDRESS}:{port}"

    def secrets(self) -> list[str]:
        """Every secret and what is made from it, also as HTTP carries them."""
        k = self.keys
        plain = [k.coordinator, k.join, k.page, secrets.worker_auth(k.join), secrets.inbox_token(k.join)]
        plain.append(secrets.page_auth(k).partition(":")[2])
        users = [secrets.coordinator_auth(k), secrets.worker_auth(k.join), secrets.page_auth(k), f"page:{k.page}"]
        return [*plain, *(base64.b64encode(u.encode()).decode() for u in users)]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    root = tmp_path_factory.mktemp("lan")
    one, desk = Machine(root / "coordinator", "coordinator"), Machine(root / "desk", "desk")
    for machine in (one, desk):
        machine.home.mkdir()
    port, app_port, inbox_port = (free_port(ADDRESS) for _ in range(3))
    ports = ["--port", str(port), "--app-port", str(app_port), "--inbox-port", str(inbox_port)]
    try:
        up = one.lab("up", "--quick", "--lan", "--address", ADDRESS, *ports)
        assert up.returncode == 0, up.stdout + up.stderr + one.logs()
        key = one.lab("invite", "--key").stdout
        assert (
            f"strong   LAB_RESULTS_URL=quack://{ADDRESS}:{inbox_port} lab join http://{ADDRESS}:{port} --also"
            in up.stdout
        )
        results = {"LAB_RESULTS_URL": f"quack://{ADDRESS}:{inbox_port}"}
        joined = desk.lab("join", f"http://{ADDRESS}:{port}", "--quick", "--key-file", "-", keyboard=key, **results)
        assert joined.returncode == 0, joined.stdout + joined.stderr + desk.logs() + one.logs()
        kept = json.loads((root / "secrets-coordinator" / "coordinator.json").read_text())
        yield Laboratory(one, desk, port, app_port, inbox_port, secrets.Keys(**kept))
    finally:
        for machine in (desk, one):
            machine.lab("down")


def status(url: str, user: str | None = None, body: bytes | None = None) -> int:
    """HTTP status of a request; a POST of JSON where there is a body, with Prefect's token if it gives this user one."""
    headers = {"Content-Type": "application/json", "Prefect-Csrf-Client": "test"} if body is not None else {}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    try:
        if body is not None:
            place = url.partition("/api/")[0] + "/api/csrf-token?client=test"
            with urllib.request.urlopen(urllib.request.Request(place, headers=headers), timeout=60) as reply:
                headers["Prefect-Csrf-Token"] = json.loads(reply.read())["token"]
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nothing_listens_but_server_page_and_inbox_on_the_one_address(laboratory: Laboratory) -> None:
    """A port that was forgotten, or one on all interfaces, is what strangers would use."""
    listening = {
        (c.laddr.ip, c.laddr.port)
        for machine in (laboratory.coordinator, laboratory.desk)
        for process in machine.family()
        for c in process.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    # Prefect's workers talk to their own flows over a port of loopback each.
    outside = {(ip, port) for ip, port in listening if ip != "127.0.0.1"}
    assert outside == {(ADDRESS, p) for p in (laboratory.port, laboratory.app_port, laboratory.inbox_port)}


def test_one_process_serves_all_pools_of_a_machine(laboratory: Laboratory) -> None:
    """Each further one takes 100 MB, and a Raspberry Pi has four."""
    services = json.loads((laboratory.coordinator.home / "services.json").read_text())
    assert len({s["pid"] for s in services if s["name"].startswith("worker-")}) == 1


def deliver(laboratory: Laboratory, query: str, token: str) -> list[tuple[object, ...]]:
    """What the inbox answers to a statement."""
    with duckdb.connect() as con:
        asked = [f"quack:{ADDRESS}:{laboratory.inbox_port}", query, token]
        return with_extensions(con).execute("FROM quack_query(?, ?, token := ?, disable_ssl := true)", asked).fetchall()


def test_each_service_accepts_only_its_own_key(laboratory: Laboratory) -> None:
    """Without, with a wrong and with the right credentials, at all that answers."""
    keys, pools = laboratory.keys, f"{laboratory.url(laboratory.port)}/api/work_pools"
    own, worker, page = secrets.coordinator_auth(keys), secrets.worker_auth(keys.join), secrets.page_auth(keys)
    wrong = (None, "coordinator:wrong", f"page:{keys.page}", f"worker:{keys.join}", "coordinator:ü")
    for user in wrong:
        assert status(f"{pools}/filter", user, b"{}") == 401
    assert status(f"{pools}/filter", own, b"{}") == 200
    assert status(f"{pools}/filter", worker, b"{}") == 200
    assert status(f"{pools}/filter", page, b"{}") == 200
    assert status(f"{laboratory.url(laboratory.port)}/api/admin/version", None) == 401
    new = json.dumps({"name": "mine", "type": "process"}).encode()
    assert status(f"{pools}/", worker, new) == 403 and status(f"{pools}/", page, new) == 403
    assert status(f"{pools}/", own, new) == 201
    query = reading("0" * 32)
    began = time.monotonic()
    for token in ("", "wrong", keys.page, secrets.worker_auth(keys.join), "x" * 64, "ü"):
        with pytest.raises(duckdb.Error):
            deliver(laboratory, query, token)
    # Quack's words for a wrong token may change: then it is not slowed down any more. The client itself refuses the empty one.
    log = (laboratory.coordinator.home / "logs" / "inbox.log").read_text()
    assert log.count("wrong token from") == 5 and time.monotonic() - began > 0.1 + 0.2 + 0.4 + 0.8 + 1
    assert deliver(laboratory, query, secrets.inbox_token(keys.join)) == []
    with pytest.raises(duckdb.Error):
        deliver(laboratory, "SELECT * FROM sent", secrets.inbox_token(keys.join))
    for path in ("/", "/_stcore/health", "/_stcore/host-config"):
        for user in (None, "page:wrong", own, worker):
            assert status(laboratory.url(laboratory.app_port) + path, user) == 401
        assert status(laboratory.url(laboratory.app_port) + path, f"page:{keys.page}") == 200


def test_the_pages_process_has_only_the_password_that_reads(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit and its libraries answer strangers; with the coordinator's password they could start any command anywhere."""
    rows = json.loads((laboratory.coordinator.home / "services.json").read_text())
    page = psutil.Process(next(row["pid"] for row in rows if row["name"] == "page"))
    given = page.environ()
    assert given[commands.PAGE_AUTH] == secrets.page_auth(laboratory.keys)
    assert secrets.coordinator_auth(laboratory.keys) not in given.values() and "PREFECT_API_AUTH_STRING" not in given
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert {m.name for m in look(given["PREFECT_API_URL"]).machines} >= {"coordinator", "desk"}
    # Only the commands that it starts read the coordinator's key, as in the user's own terminal.
    assert commands.lab("stop", "demo-00000000").text.startswith("no pipeline is under way")


def entered(url: str, token: str | None, subprotocol: bool = True) -> bool:
    """Whether a socket of Prefect's server lets in with this token as the first message."""
    try:
        with open_socket(url, subprotocols=["prefect"] if subprotocol else None, open_timeout=60) as ws:  # type: ignore[list-item]
            ws.send(json.dumps({"type": "auth", "token": token}))
            return bool(json.loads(ws.recv(timeout=60))["type"] == "auth_success")
    except (WebSocketException, OSError, EOFError):
        return False


def test_sockets_ask_for_the_key_too(laboratory: Laboratory) -> None:
    """Events and work are pushed over them; Prefect's HTTP check does not see them."""
    base = f"ws://{ADDRESS}:{laboratory.port}/api"
    own, worker = secrets.coordinator_auth(laboratory.keys), secrets.worker_auth(laboratory.keys.join)
    for path in ("events/in", "events/out", "logs/out", "work_pools/coordinator/workers/connect"):
        assert not entered(f"{base}/{path}", None), path
        assert not entered(f"{base}/{path}", "wrong"), path
        assert not entered(f"{base}/{path}", worker, subprotocol=False), path
        assert entered(f"{base}/{path}", own), path
        assert entered(f"{base}/{path}", worker) is not path.startswith("work_pools"), path
    with pytest.raises((WebSocketException, OSError)):
        open_socket(f"ws://{ADDRESS}:{laboratory.app_port}/_stcore/stream", open_timeout=60)


def test_a_machine_without_the_right_key_does_not_join(laboratory: Laboratory, tmp_path: Path) -> None:
    """It says in one line what to do, and starts nothing."""
    shed = Machine(tmp_path / "shed", "shed")
    shed.home.mkdir()
    url = laboratory.url(laboratory.port)
    for arguments, keyboard, said in (
        ([], "", "requires a key"),
        (["--key-file", "-"], "no key\n", "that is not a join key"),
        (["--key-file", "-"], "x" * 43 + "\n", "does not accept this key"),
    ):
        done = shed.lab("join", url, "--quick", *arguments, keyboard=keyboard)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert list(shed.home.iterdir()) == []
    assert not shed.home.with_name("secrets-shed").exists()


def test_an_inbox_that_died_is_started_again(laboratory: Laboratory) -> None:
    """Without memory the system kills it; until somebody noticed, no machine could get its work or deliver."""
    inbox = next(p for p in laboratory.coordinator.family() if "lab.services.restarting" in p.cmdline())
    (serving,) = inbox.children()
    serving.kill()
    query, token = reading("0" * 32), secrets.inbox_token(laboratory.keys.join)

    def answers() -> bool:
        with suppress(duckdb.Error):
            return inbox.children() != [serving] and deliver(laboratory, query, token) == []
        return False

    assert wait_until(answers, 120), laboratory.coordinator.logs()
    log = (laboratory.coordinator.home / "logs" / "inbox.log").read_text()
    assert len([line for line in log.splitlines() if "ended with signal 9 and is started again (1 of 5" in line]) == 1


def test_a_joined_machine_breaks_no_command_of_the_coordinator(laboratory: Laboratory) -> None:
    """One state with such a result ended lab up, hosts and drain in tracebacks, for good."""
    client = connect(f"{laboratory.url(laboratory.port)}/api", secrets.coordinator_auth(laboratory.keys))
    deployment = client.read_deployment_by_name("sync/weak")
    run = client.create_flow_run_from_deployment(deployment.id, work_queue_name=queue_of("nobody"))
    api, worker = f"{laboratory.url(laboratory.port)}/api", secrets.worker_auth(laboratory.keys.join)
    state = {"type": "RUNNING", "data": {"storage_key": {"a": 1}}}
    bodies = {
        f"flow_runs/{run.id}/set_state": {"state": state, "force": True},
        "artifacts/": {"key": "verdict-r1-p1", "type": "markdown", "data": "mine"},
    }
    for path, body in bodies.items():
        assert status(f"{api}/{path}", worker, json.dumps(body).encode()) == 403
    # Stored before this was refused, or by whoever has the coordinator's password.
    own = secrets.coordinator_auth(laboratory.keys)
    body = json.dumps({"state": state, "force": True}).encode()
    assert status(f"{api}/flow_runs/{run.id}/set_state", own, body) == 201
    for command in (["hosts"], ["drain", "desk"], ["undrain", "desk"]):
        done = laboratory.coordinator.lab(*command)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    client.request("DELETE", f"/flow_runs/{run.id}")


def test_a_joined_machine_works_with_its_own_key(laboratory: Laboratory) -> None:
    """A proxy that refuses what a worker needs shows only here, as a run that never ends or fails."""
    client = connect(f"{laboratory.url(laboratory.port)}/api", secrets.coordinator_auth(laboratory.keys))
    tier = json.loads((laboratory.desk.home / "capability_report_desk.json").read_text())["tier"]
    deployment = client.read_deployment_by_name(f"assess-host/{tier}")
    run = client.create_flow_run_from_deployment(
        deployment.id, parameters={"quick": True}, work_queue_name=queue_of("desk")
    )
    ended = wait_until(lambda: client.read_flow_run(run.id).state.is_final(), 300)
    state = client.read_flow_run(run.id).state
    assert ended and state.is_completed(), f"{state}\n{laboratory.desk.logs()}{laboratory.coordinator.logs()}"
    log = (laboratory.coordinator.home / "logs" / "server.log").read_text()
    refused = [line for line in log.splitlines() if "refused a worker" in line]
    # All were asked by the tests above.
    asked = ("'POST /api/work_pools/'", "'/api/work_pools/coordinator/", "'POST /api/artifacts/'", "a result that is")
    assert [x for x in refused if not any(a in x for a in asked)] == []
    shown = laboratory.desk.lab("hosts", PREFECT_API_URL=f"{laboratory.url(laboratory.port)}/api")
    assert "desk" in shown.stdout and "coordinator" in shown.stdout, shown.stderr


def test_no_secret_is_in_a_file_an_argument_or_what_was_said(laboratory: Laboratory) -> None:
    """Logs, results, Prefect's database and lists of processes are copied, shown and sent to others."""
    found = laboratory.secrets()
    for machine in (laboratory.coordinator, laboratory.desk):
        for path in machine.home.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [s[:3] for s in found if s.encode() in content], path
        for process in machine.family():
            assert not [s[:3] for s in found if s in " ".join(process.cmdline())]
        assert not [s[:3] for s in found if s in machine.said]


def test_revoked_cookies_and_links_open_nothing(laboratory: Laboratory) -> None:
    """Who was shown the page once could see it for ever. Runs late, since the page's password is another one then."""
    link = laboratory.coordinator.lab("invite", "--page").stdout.split()[-1]
    with pytest.raises(urllib.error.HTTPError) as entered:
        urllib.request.build_opener(NoRedirect).open(link, timeout=60)
    cookie = {"Cookie": entered.value.headers["Set-Cookie"].partition(";")[0]}
    page = urllib.request.Request(laboratory.url(laboratory.app_port), headers=cookie)
    assert entered.value.code == 303 and urllib.request.urlopen(page, timeout=60).status == 200
    assert status(link) == 401
    done = laboratory.coordinator.lab("invite", "--page", "--revoke")
    assert done.returncode == 0, done.stderr + laboratory.coordinator.logs()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(page, timeout=60)
    new = json.loads((laboratory.coordinator.home.with_name("secrets-coordinator") / "coordinator.json").read_text())
    assert new["page"] != laboratory.keys.page and new | {"page": laboratory.keys.page} == asdict(laboratory.keys)
    assert status(page.full_url, f"page:{laboratory.keys.page}") == 401
    assert status(page.full_url, f"page:{new['page']}") == 200
    laboratory.keys = secrets.Keys(**new)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Shows an answer that redirects, with its cookie."""

    def redirect_request(self, *arguments: object) -> None:
        """Follow none."""


def test_nothing_is_left_after_lab_down(laboratory: Laboratory) -> None:
    """What goes on listening after its user stopped it is watched by nobody. Runs last, since it ends the laboratory."""
    family = [p for m in (laboratory.coordinator, laboratory.desk) for p in m.family()]
    for machine in (laboratory.desk, laboratory.coordinator):
        assert machine.lab("down").returncode == 0
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [p.cmdline() for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    for port in (laboratory.port, laboratory.app_port, laboratory.inbox_port):
        with socket.create_server((ADDRESS, port)):
            pass
