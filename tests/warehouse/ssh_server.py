"""A real sshd on loopback with keys of its own, for the transports that go over ssh."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ports import free_port
from programs import found

PROGRAMS = ("sshd", "ssh", "ssh-keygen")
WAIT_S = 30.0


@dataclass
class Sshd:
    """An ssh server that lets this user in by one key; `config` is what a client needs to know of it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def start(self) -> None:
        sshd = found("sshd")
        assert sshd is not None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("sshd did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


def make(folder: Path) -> Sshd:
    """Keys, settings and a known_hosts of a server that is not started yet."""
    folder.mkdir(parents=True)
    for name in ("host_key", "user_key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    server = Sshd(folder, free_port())
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    server.config.write_text(
        f"Host lab-test\n  HostName 127.0.0.1\n  Port {server.port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder / 'user_key'}\n  IdentitiesOnly yes\n  UserKnownHostsFile {server.known_hosts}\n"
        "  GlobalKnownHostsFile /dev/null\n"
    )
    know(server, "host_key")
    return server


def know(server: Sshd, key: str) -> None:
    """Let clients take `key` for the server's host key."""
    kind, value, *_ = (server.folder / f"{key}.pub").read_text().split()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {value}\n")
