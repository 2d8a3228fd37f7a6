"""A results store on another machine, by rsync over ssh: an interrupted transfer is resumed.

Both sides need rsync 3.2.4 or later (--fsync, --mkpath).
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path

from common.files import STALE_S, finish
from warehouse.delivery.transports import ssh
from warehouse.delivery.transports.directory import reports_in
from warehouse.delivery.transports.protocol import HOSTS, INBOX, NAME, REPORT, SWEEP_S, Transport, UnreachableError

TRANSFER_S = 1800.0  # half a gigabyte at 300 kB/s
IO_S = 60  # without a byte, after which rsync gives up by itself
# Both begin like a temporary file, which the collector ignores. Files arrive in ARRIVING and are renamed; interrupted ones
# are in PARTIAL until the next attempt.
ARRIVING, PARTIAL = ".part-arriving", ".part-rsync"
ADDED = re.compile(r"rsync error:|rsync: connection unexpectedly closed|rsync: \[\w+\] (read|write) error")
HALF = re.compile(r"\.part-[a-z]+/[A-Za-z0-9._-]+")  # a part of a file
GONE = 24  # rsync's exit code when a file vanished before it was sent


class Rsync(Transport):
    """inbox/, files/ and hosts/ below a folder of another machine."""

    kind = "rsync"

    def __init__(self, host: str, port: int | None, user: str | None, path: str, state: Path, url: str) -> None:
        self.where, self.host, self.root = url, host, path
        self._port, self._state = port, state
        self._swept_at = -SWEEP_S
        # IPv6 in brackets, or its colons would separate host and path.
        at = f"[{host}]" if ":" in host else host
        self._target = f"{user}@{at}" if user else at

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        if not bundles:
            return {}
        folder = bundles[0].parent
        if self._send(folder, [p.name for p in bundles], INBOX) in (0, GONE):
            return {}
        # One by one, since a file that cannot be read stops the others.
        failed = {}
        for path in bundles:
            if not path.is_file() or not os.access(path, os.R_OK):
                failed[path.name] = "not a plain file that can be read"
            elif (code := self._send(folder, [path.name], INBOX)) not in (0, GONE):
                failed[path.name] = f"rsync ended with code {code}"
        return failed

    def has(self, unit_id: str) -> bool:
        return any(name.startswith(f"{unit_id}.") for name in self._names(INBOX, f"{unit_id}.*.parquet"))

    def fetch(self, inbox: Path) -> list[str]:
        self._sweep()
        names = [n for n in self._names(INBOX, "*.parquet") if NAME.fullmatch(n)]
        if not names:
            return []
        with tempfile.TemporaryDirectory(dir=inbox, prefix=".part-") as folder:
            self._get(INBOX, names, Path(folder))
            brought = [n for n in names if (Path(folder) / n).is_file()]
            for name in brought:
                finish(Path(folder) / name, inbox / name)
        self._remove(brought)
        return []

    def put(self, folder: str, name: str, content: bytes) -> None:
        with self._scratch() as scratch:
            (Path(scratch) / name).write_bytes(content)
            if code := self._send(Path(scratch), [name], folder):
                raise UnreachableError(f"{self.where}: rsync ended with code {code}", "lab sync")

    def get(self, folder: str, name: str) -> bytes | None:
        with self._scratch() as scratch:
            self._get(folder, [name], Path(scratch))
            found = Path(scratch) / name
            return found.read_bytes() if found.is_file() else None

    def reports(self) -> dict[str, bytes]:
        with self._scratch() as folder:
            names = [n for n in self._names(HOSTS, "capability_report_*.json") if REPORT.fullmatch(n)]
            if names:
                self._get(HOSTS, names, Path(folder))
            return reports_in(Path(folder))

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        self._state.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=self._state)

    def _send(self, source: Path, names: Sequence[str], folder: str) -> int:
        """Send files; return rsync's exit code: 0, GONE, or 23 if single files failed.

        Raises:
            UnreachableError: the store as a whole cannot be used.
        """
        options = f"--checksum --times --fsync --temp-dir={ARRIVING} --partial --partial-dir={PARTIAL}".split()
        transfer = partial(self._rsync, options, names, f"{source}/", self._remote(folder))
        code = transfer(accepted=None).returncode
        if code not in (0, GONE):
            # ARRIVING has to exist; it is made after a check that the store is there.
            self._prepare(folder)
            code = transfer(accepted=(0, 23, GONE)).returncode
        return code

    def _prepare(self, folder: str) -> None:
        """Make the folders that a transfer needs, in an existing store.

        Raises:
            UnreachableError: it does not answer, or has no inbox.
        """
        listed = self._list("", "/inbox")
        if listed.returncode == 23 or INBOX not in listed.stdout.decode(errors="replace"):
            raise UnreachableError(
                f"{self.where} has no folder inbox, so it is not a results store, or not mounted",
                f"for a new one, on {self.host}: mkdir -p {self.root}/{INBOX}",
            )
        with self._scratch() as scratch:
            (Path(scratch) / folder / ARRIVING).mkdir(parents=True)
            self._rsync(["--recursive"], None, f"{scratch}/", self._remote(""))

    def _get(self, folder: str, names: Sequence[str], into: Path) -> None:
        options = ["--checksum", "--fsync", "--ignore-missing-args"]
        self._rsync(options, names, self._remote(folder), f"{into}/", accepted=(0, 23, GONE))

    def _names(self, folder: str, pattern: str) -> list[str]:
        done = self._list(folder, f"/{pattern}")
        if done.returncode == 23:  # the folder does not exist
            return []
        # -rw-r--r--  1,234 2026/11/24 12:00:00 name
        lines = [line.split(maxsplit=4) for line in done.stdout.decode(errors="replace").splitlines()]
        return sorted(line[4] for line in lines if len(line) == 5 and line[0].startswith("-"))

    def _sweep(self) -> None:
        """Remove half-written files of deliveries that were interrupted a day ago and not resumed."""
        if time.monotonic() - self._swept_at < SWEEP_S:
            return
        self._swept_at = time.monotonic()
        options = ["--list-only", "--recursive", "--include=/.part-*/", "--include=/.part-*/*", "--exclude=*"]
        done = self._rsync(options, None, self._remote(INBOX), accepted=None)
        if done.returncode:
            return  # the next step has the same error and reports it
        lines = [line.split(maxsplit=4) for line in done.stdout.decode(errors="replace").splitlines()]
        before = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() - STALE_S))
        files = [(x[4], f"{x[2]} {x[3]}") for x in lines if len(x) == 5 and x[0].startswith("-")]
        old = [name for name, changed in files if changed < before and HALF.fullmatch(name)]
        if old:
            self._remove(old)

    def _list(self, folder: str, pattern: str) -> ssh.Done:
        options = ["--list-only", "--dirs", f"--include={pattern}", "--exclude=*"]
        return self._rsync(options, None, self._remote(folder), accepted=(0, 23))

    def _remove(self, names: Sequence[str]) -> None:
        """Remove bundles from the store: sync an empty folder to its inbox, for these names only."""
        with self._scratch() as empty:
            folders = {name.rpartition("/")[0] for name in names} - {""}
            for within in folders:
                (Path(empty) / within).mkdir()  # so that the folder itself stays
            included = [f"/{n}" for n in (*names, *(f"{w}/" for w in folders))]
            options = ["--recursive", "--delete", "--include-from=-", "--exclude=*"]
            self._rsync(options, None, f"{empty}/", self._remote(INBOX), stdin="\n".join(included))

    def _remote(self, folder: str) -> str:
        return f"{self._target}:{self.root}/{folder}/" if folder else f"{self._target}:{self.root}/"

    def _rsync(
        self,
        options: Sequence[str],
        names: Sequence[str] | None,
        *paths: str,
        stdin: str = "",
        accepted: Container[int] | None = (0,),
    ) -> ssh.Done:
        """Run rsync; names go to standard input, so that none is read as an option or a pattern.

        Raises:
            UnreachableError: the exit code is not one of `accepted` (None: all are).
        """
        shell = " ".join(ssh.command(self._port))  # rsync splits it at blanks; no part contains one
        listed = ["--files-from=-", "--from0"] if names is not None else []
        common = ["--no-motd", "-s", f"--rsh={shell}", f"--timeout={IO_S}"]
        command = [ssh.needed("rsync"), *common, *options, *listed, "--", *paths]
        fed = stdin or "".join(f"{n}\0" for n in names or ())
        done = ssh.run(command, timeout_s=TRANSFER_S, stdin=fed.encode(), environment=os.environ | {"LC_ALL": "C"})
        if accepted is None or done.returncode in accepted:
            return done
        # The lines that rsync adds to every failure say nothing.
        lines = done.stderr.decode(errors="replace").splitlines()
        own = [line for line in lines if line.strip() and not ADDED.match(line)]
        raise ssh.unreachable(self.where, self.host, "\n".join(own or lines))
