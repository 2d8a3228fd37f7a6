"""The spool: bundles of this host that wait for delivery, since when, and the last error."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.files import file_sha256, move, write_whole
from experiments.contract import Json
from warehouse.delivery.bundles import NAME
from warehouse.delivery.transports.protocol import bundles_in
from warehouse.paths import Paths


@dataclass(frozen=True)
class Waiting:
    """One bundle of the spool."""

    name: str
    size_bytes: int
    since: datetime


@dataclass(frozen=True)
class LastAttempt:
    """The last delivery that did not deliver everything."""

    at: str  # ISO 8601, UTC
    where: str
    reason: str


@dataclass(frozen=True)
class Spool:
    """Bundles that wait, the oldest first, and the last error, if there is one."""

    waiting: tuple[Waiting, ...]
    last_attempt: LastAttempt | None

    @property
    def size_bytes(self) -> int:
        return sum(w.size_bytes for w in self.waiting)

    def to_json(self) -> Json:
        """Return plain values, times as ISO 8601."""
        return {
            "waiting": [{**vars(w), "since": w.since.isoformat()} for w in self.waiting],
            "size_bytes": self.size_bytes,
            "last_attempt": asdict(self.last_attempt) if self.last_attempt else None,
        }


def look(paths: Paths) -> Spool:
    """Return the present state of this host's spool."""
    found = []
    for path in bundles_in(paths.spool):
        with suppress(FileNotFoundError):  # delivered meanwhile
            status = path.stat()
            found.append(Waiting(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)))
    found.sort(key=lambda w: (w.since, w.name))
    return Spool(tuple(found), _last_attempt(paths) if found else None)


def save_reason(paths: Paths, where: str, reason: str | None) -> None:
    """Save beside the spool why a delivery left bundles there; None: remove the last reason."""
    if reason is None:
        paths.spool_reason.unlink(missing_ok=True)
    else:
        last = LastAttempt(datetime.now(UTC).isoformat(timespec="seconds"), where, reason)
        write_whole(paths.spool_reason, json.dumps(asdict(last)).encode())


def set_aside_damaged(paths: Paths, path: Path) -> str | None:
    """Move a bundle that is not what its name promises out of the spool, so that its unit is computed again.

    Returns:
        What is wrong with it; None if it is whole.

    Raises:
        OSError: it cannot be read or moved now.
    """
    named = NAME.fullmatch(path.name)
    if named is None or file_sha256(path) == named[2]:
        return None
    target, reason = (
        paths.refused(path.name),
        "damaged in the spool: the content does not match the SHA-256 in the name",
    )
    write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n".encode())
    move(path, target)
    return f"{path.name}: {reason}; it is in {target.parent}, and its unit is computed again"


def _last_attempt(paths: Paths) -> LastAttempt | None:
    try:
        found = json.loads(paths.spool_reason.read_bytes())
        return LastAttempt(str(found["at"]), str(found["where"]), str(found["reason"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
