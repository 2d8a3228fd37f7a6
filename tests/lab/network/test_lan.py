"""`lab up --lan`: keys, the address, the lines to paste, and the password of each process."""

from __future__ import annotations

import errno
import json
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab_process import Run

from common.environment import checkout
from common.errors import LabError
from lab.commands.invite import print_invitation
from lab.network import auth_proxy, lan, secrets
from lab.network.forwarding import Forwarding
from lab.services import environments, processes, up
from warehouse.paths import Paths


@pytest.fixture
def kept(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of secrets of a coordinator and of machines in these tests."""
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "secrets"))
    return tmp_path / "secrets"


def test_keys_are_made_once_and_only_their_user_can_read_them(kept: Path) -> None:
    """New keys at each start would lock out all machines; a file that others can read is no secret."""
    assert secrets.of_coordinator() is None
    keys = secrets.issued()
    assert secrets.issued() == keys == secrets.of_coordinator()
    assert len({keys.coordinator, keys.join, keys.page}) == 3
    path = kept / "coordinator.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert [p.name for p in kept.iterdir()] == ["coordinator.json"]
    shown = repr(keys) + str(lan.Listener("127.0.0.2", keys))
    assert not any(v in shown for v in (keys.coordinator, keys.join, keys.page))
    path.chmod(0o640)
    with pytest.raises(LabError, match="can be read by others") as refused:
        secrets.issued()
    assert refused.value.mend == f"chmod 600 {path}"
    path.chmod(0o600)
    path.write_text('{"coordinator": "", "join": "x", "page": null}')
    with pytest.raises(LabError, match="is damaged"):
        secrets.issued()


def test_a_joined_machine_keeps_the_key_of_each_server(kept: Path) -> None:
    """The next command asks the same server without the person; the newest key of a server is the one that counts."""
    first, second = secrets.derived("a", "b")[:43], secrets.derived("c", "d")[:43]
    api = "http://192.168.1.10:4200/api"
    assert secrets.saved_key(api) is None
    secrets.save_key(api, first)
    secrets.save_key(api, second)
    secrets.save_key("http://[fe80::1]:4200/api", first)
    assert secrets.saved_key("http://192.168.1.10:4200") == second
    assert secrets.saved_key("http://[fe80::1]:4200/api") == first
    files = list((kept / "joined").iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}
    assert up.auth_for(api) == secrets.worker_auth(second)
    assert second not in secrets.worker_auth(second) + secrets.inbox_token(second)
    assert secrets.inbox_token(second) not in secrets.worker_auth(second)


def test_secrets_do_not_lie_where_things_are_shared(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAB_HOME is mounted by others and the checkout is committed; a secret in either is given away."""
    root = checkout()
    assert root is not None
    for folder in (root / "secrets", paths.home, paths.home / "x"):
        monkeypatch.setenv("LAB_SECRETS", str(folder))
        with pytest.raises(LabError, match="copied or shared"):
            secrets.issued()
    monkeypatch.setenv("LAB_SECRETS", "relative")
    with pytest.raises(LabError, match="not an absolute path"):
        secrets.folder()
    monkeypatch.delenv("LAB_SECRETS")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert secrets.folder() == Path("/somewhere/llm-memory-experiments")


def test_only_one_address_of_this_machine_is_opened(kept: Path) -> None:
    """0.0.0.0 would open every network this machine is in, and no address but loopback is opened without keys."""
    for text, said in (
        ("0.0.0.0", "not the address of one network interface"),  # noqa: S104
        ("::", "not the address of one network interface"),
        ("192.0.2.7", "not an address of this machine"),
        ("desk", "not an IP address"),
        ("", "not an IP address"),
        ("224.0.0.1", "not the address of one network interface"),
    ):
        with pytest.raises(LabError, match=said):
            lan.lan_listener(text)
    assert not kept.exists()
    with pytest.raises(LabError, match="open to everybody"):
        lan.Listener("192.168.1.10")
    listener = lan.lan_listener("127.0.0.1")
    assert listener.keys == secrets.issued()
    assert lan.Listener("::1").url(4200) == "http://[::1]:4200"


def test_a_service_knows_whether_it_has_keys_and_not_by_its_address(kept: Path) -> None:
    """On loopback with keys, where users of one machine are kept apart, `lab up` asked its own server without a password."""
    paths, keys, ours = Paths.local(), secrets.issued(), psutil.Process()
    with_keys = lan.lan_listener("127.0.0.1")

    def record(address: str, keys: bool) -> None:
        row = {"name": "server", "pid": ours.pid, "created": ours.create_time(), "port": 4200, "address": address}
        # Records of earlier versions do not say whether there are keys.
        (paths.home / "services.json").write_text(json.dumps([row | ({"keys": True} if keys else {})]))

    paths.home.mkdir(exist_ok=True)
    for address, stated, needed in (("127.0.0.1", True, True), ("127.0.0.1", False, False), ("127.0.0.2", False, True)):
        record(address, stated)
        wanted = secrets.coordinator_auth(keys) if needed else None
        assert up.auth_for(f"http://{address}:4200/api") == wanted
        alive = {s.name: s for s in processes.recorded(paths)}
        other, word = (lan.Listener(), "with") if needed else (with_keys, "without")
        if address == "127.0.0.1":
            up.check_port(alive, "server", 4200, "lab up --port", with_keys if needed else lan.Listener())
            with pytest.raises(LabError, match=f"already runs {word} keys"):
                up.check_port(alive, "server", 4200, "lab up --port", other)
    child = [sys.executable, "-c", "pass"]
    assert processes.start(paths, "server", child, {}, 4200, with_keys).needs_keys
    assert not processes.start(paths, "server", child, {}, 4200).needs_keys


def test_lines_for_other_users_are_printed_on_loopback_too(
    kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lab up --lan --address 127.0.0.1` ended with an error after all had been started."""
    paths, ours = Paths.local(), psutil.Process()
    monkeypatch.setenv("LAB_RESULTS_URL", "/shared")
    processes.record(paths, [processes.Service("server", ours.pid, ours.create_time(), 4200, "127.0.0.1", True)])
    print_invitation()
    assert "lab join http://127.0.0.1:4200" in capsys.readouterr().out
    processes.record(paths, [processes.Service("server", ours.pid, ours.create_time(), 4200, "127.0.0.1")])
    with pytest.raises(LabError, match="does not listen in the LAN"):
        print_invitation()


def test_each_tier_has_its_line_and_no_line_a_secret() -> None:
    """They are pasted into shells, whose arguments and history others may read."""
    lines = dict(lan.join_lines("http://10.0.0.5:4200", None))
    assert lines["weak"] == "LAB_RESULTS_URL=/PATH lab join http://10.0.0.5:4200"
    assert lines["strong"].endswith("lab join http://10.0.0.5:4200 --also medium --also weak")
    assert dict(lan.join_lines("http://a:1", "quack:a b"))["weak"].startswith("LAB_RESULTS_URL='quack:a b' lab join")


def test_secrets_go_to_servers_by_their_environment_alone(kept: Path) -> None:
    """A list of processes shows arguments to everybody. The server has both passwords, workers their own only."""
    paths, keys = Paths.local(), secrets.issued()
    listener = lan.Listener("127.0.0.2", keys)
    own, workers = secrets.coordinator_auth(keys), secrets.worker_auth(keys.join)
    assert environments.server_environment(4200, listener)[auth_proxy.COORDINATOR_AUTH] == own
    assert environments.server_environment(4200, listener)[auth_proxy.WORKER_AUTH] == workers
    environment = environments.prefect_environment(paths, 4200, listener)
    assert environment["PREFECT_API_URL"] == "http://127.0.0.2:4200/api"
    assert environment["PREFECT_API_AUTH_STRING"] == own
    assert not {auth_proxy.COORDINATOR_AUTH, auth_proxy.WORKER_AUTH} & set(environment)
    command = " ".join(up.server_command(4200, listener) + up.worker_command("weak"))
    assert not any(s in command for s in (keys.coordinator, keys.join, own, workers))


def test_the_users_own_password_reaches_server_and_workers(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropped, as it once was, the server would be open although its user had set a password."""
    assert auth_proxy.COORDINATOR_AUTH not in environments.server_environment(4200, lan.Listener())
    assert environments.server_environment(4200, lan.Listener())["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:secret")
    assert environments.server_environment(4200, lan.Listener())[auth_proxy.COORDINATOR_AUTH] == "me:secret"
    assert environments.prefect_environment(paths, 4200)["PREFECT_API_AUTH_STRING"] == "me:secret"
    assert up.auth_for("http://127.0.0.1:4200/api") == "me:secret"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:other")
    assert environments.prefect_environment(paths, 4200)["PREFECT_API_AUTH_STRING"] == "me:other"
    assert "PREFECT_SERVER_API_AUTH_STRING" not in environments.prefect_environment(paths, 4200)


def test_invite_shows_one_secret_when_it_is_asked_for(called: Run, kept: Path) -> None:
    """Lines are pasted and logged; a secret is shown to who asks for it by name, and to nobody before there is one."""
    with_secrets = {"LAB_SECRETS": str(kept)}
    nobody = called("invite", "--key", **with_secrets)
    assert (nobody.returncode, nobody.stderr) == (2, "other machines cannot connect yet. lab up --lan\n")
    keys = secrets.issued()
    assert called("invite", "--key", **with_secrets).stdout == f"{keys.join}\n"
    assert called("invite", "--server", **with_secrets).stdout == f"coordinator:{keys.coordinator}\n"
    for arguments, said in (
        (["--key", "--page"], "only one secret is shown at a time"),
        ([], "does not listen in the LAN"),
    ):
        refused = called("invite", *arguments, **with_secrets)
        assert (refused.returncode, refused.stdout) == (2, "") and said in refused.stderr
    stray = called("up", "--address", "127.0.0.2", **with_secrets)
    assert stray.returncode == 2 and "lab up --lan --address 127.0.0.2" in stray.stderr


def test_a_password_in_an_address_is_refused_and_not_shown(called: Run, home: Path) -> None:
    """It would be in the list of processes and in the shell's history; the message must not repeat it."""
    refused = called("join", "http://me:hunter2@192.0.2.7:4200")
    assert refused.returncode == 2 and "asks for the key" in refused.stderr
    assert "hunter2" not in refused.stderr
    assert not home.exists()


def test_a_machine_with_ipv6_alone_serves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 cannot be listened on there, so nothing came up; without keys it is as closed as any loopback."""

    class Ipv6Alone(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    assert lan.Listener().url(4200) == "http://127.0.0.1:4200"
    monkeypatch.setattr(socket, "socket", Ipv6Alone)
    listener = lan.Listener()
    assert (listener.url(4200), listener.keys) == ("http://[::1]:4200", None)
    assert not processes.Service("server", 1, 0.0, 4200, listener.address).needs_keys
    assert Forwarding(9).url == "http://[::1]:9"
