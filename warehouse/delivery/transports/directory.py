"""A results store in a directory: this machine's own, or a mount (NFS, SMB). It needs no locks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.files import copy_whole, plain_file, write_whole
from common.limits import MAX_REPORT_BYTES
from warehouse.delivery.transports.protocol import HOSTS, INBOX, UnreachableError, has_bundle_of


class Directory:
    """The folder that the collector reads, as a path.

    Args:
        own: True if it belongs to this LAB_HOME: it is made when missing. A folder that the user names is not: results would
            be lost in an empty folder where a mount should be.
    """

    kind = "directory"

    def __init__(self, root: Path, own: bool) -> None:
        self.root, self.own, self.where = root, own, str(root)

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        self.ready()
        inbox, failed = self.root / INBOX, {}
        for path in bundles:
            try:
                # A copy, since a rename is not atomic between two devices.
                copy_whole(path, inbox / path.name)
            except OSError as error:
                failed[path.name] = error.strerror or str(error)
        return failed

    def ready(self) -> None:
        """Make this machine's own store, or check that a named one exists.

        Raises:
            UnreachableError: it has no inbox.
        """
        inbox = self.root / INBOX
        if self.own:
            inbox.mkdir(parents=True, exist_ok=True)
        elif not inbox.is_dir():
            raise UnreachableError(
                f"{self.root} has no folder inbox, so it is not a results store, or not mounted",
                f"mount it; for a new store: mkdir -p {inbox}",
            )

    def has(self, unit_id: str) -> bool:
        return has_bundle_of(unit_id, self.root / INBOX)

    def fetch(self, inbox: Path) -> list[str]:
        return []

    def put(self, folder: str, name: str, content: bytes) -> None:
        self.ready()
        target = self.root / folder / name
        if not target.is_file() or target.stat().st_size != len(content) or target.read_bytes() != content:
            write_whole(target, content)

    def get(self, folder: str, name: str) -> bytes | None:
        path = self.root / folder / name
        if path.is_file():
            return path.read_bytes()
        if not self.own:
            self.ready()  # a missing mount is an error, a missing file is not
        return None

    def reports(self) -> dict[str, bytes]:
        return reports_in(self.root / HOSTS)


def reports_in(folder: Path) -> dict[str, bytes]:
    """Return host -> content of the reports in a folder; the host is the one in the file's name. Links are not followed."""
    found = {}
    for path in sorted(folder.glob("capability_report_*.json")):
        with suppress(OSError), plain_file(path) as file:
            found[path.stem.removeprefix("capability_report_")] = file.read(MAX_REPORT_BYTES + 1)
    return found
