"""What waits on this host to be delivered: how much, since when, and what the last try said."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.files import write_whole
from experiments.contract import Json
from warehouse.delivery.transports.protocol import bundles_in
from warehouse.paths import Paths


@dataclass(frozen=True)
class Waiting:
    """One bundle of the spool."""

    name: str
    size_bytes: int
    since: datetime


@dataclass(frozen=True)
class LastTry:
    """The last delivery that left something behind."""

    at: str  # ISO 8601, UTC
    where: str
    reason: str


@dataclass(frozen=True)
class Spool:
    """What waits, the oldest first, and why as far as it is known."""

    waiting: tuple[Waiting, ...]
    last_try: LastTry | None

    @property
    def size_bytes(self) -> int:
        return sum(w.size_bytes for w in self.waiting)

    def to_json(self) -> Json:
        """Plain values, times as ISO 8601."""
        rows = [{"name": w.name, "size_bytes": w.size_bytes, "since": w.since.isoformat()} for w in self.waiting]
        return {
            "waiting": rows,
            "size_bytes": self.size_bytes,
            "last_try": asdict(self.last_try) if self.last_try else None,
        }


def look(paths: Paths) -> Spool:
    """This host's spool as it is now."""
    found = []
    for path in bundles_in(paths.spool):
        with suppress(FileNotFoundError):  # delivered meanwhile
            status = path.stat()
            found.append(Waiting(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)))
    found.sort(key=lambda w: (w.since, w.name))
    return Spool(tuple(found), _last_try(paths) if found else None)


def keep_reason(paths: Paths, where: str, reason: str | None) -> None:
    """Keep why a delivery left something, beside the spool, or forget it when nothing is left."""
    if reason is None:
        paths.spool_reason.unlink(missing_ok=True)
    else:
        said = LastTry(datetime.now(UTC).isoformat(timespec="seconds"), where, reason)
        write_whole(paths.spool_reason, json.dumps(asdict(said)).encode())


def _last_try(paths: Paths) -> LastTry | None:
    try:
        found = json.loads(paths.spool_reason.read_bytes())
        return LastTry(str(found["at"]), str(found["where"]), str(found["reason"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def moved(spool: Path, sizes: dict[str, int], failed: dict[str, str]) -> tuple[int, int]:
    """Drop what was delivered from the spool; how many bundles that were and how many bytes."""
    done = [name for name in sizes if name not in failed]
    for name in done:
        # Another process of this host may have delivered it too.
        (spool / name).unlink(missing_ok=True)
    return len(done), sum(sizes[name] for name in done)
