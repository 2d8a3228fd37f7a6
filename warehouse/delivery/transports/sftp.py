"""fsspec's sftp with the host's key checked; by itself it accepts any key."""

from __future__ import annotations

from typing import Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from common.environment import expanded, home_folder
from warehouse.delivery.transports.protocol import CONNECT_S
from warehouse.delivery.transports.ssh import config_file, unreachable


class CheckedSFTP(SFTPFileSystem):
    """SFTPFileSystem that accepts only hosts in known_hosts, and reads ssh_config."""

    cachable = False  # a cached one would hold a broken connection

    def _connect(self) -> None:
        wanted = dict(self.ssh_kwargs)
        config = config_file() or home_folder() / ".ssh" / "config"
        found: dict[str, Any] = (
            dict(paramiko.SSHConfig.from_path(str(config)).lookup(self.host)) if config.is_file() else {}
        )
        self.client = paramiko.SSHClient()
        for path in (found.get("userknownhostsfile") or str(home_folder() / ".ssh" / "known_hosts")).split():
            if expanded(path).is_file():
                self.client.load_host_keys(str(expanded(path)))
        self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        keys = [str(expanded(k)) for k in found.get("identityfile", [])]
        self.client.connect(
            found.get("hostname", self.host),
            port=wanted.get("port") or int(found.get("port", 22)),
            username=wanted.get("username") or found.get("user"),
            key_filename=keys or None,
            **dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), CONNECT_S),
        )
        self.ftp = self.client.open_sftp()
        self.ftp.get_channel().settimeout(3 * CONNECT_S)


def connect(host: str, port: int | None, user: str | None) -> CheckedSFTP:
    """Connect to a host whose key is known.

    Raises:
        UnreachableError: its key is unknown, or it does not answer or refuses.
    """
    try:
        return CheckedSFTP(host, port=port, username=user)
    except (OSError, EOFError, paramiko.SSHException) as error:
        reason = str(error).removeprefix("[Errno None] ") or type(error).__name__
        if isinstance(error, paramiko.BadHostKeyException) or "not found in known_hosts" in reason:
            reason = "host key verification failed"
        raise unreachable(f"sftp://{host}", host, reason) from None
