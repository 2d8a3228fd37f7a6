"""Capability reports that hosts leave in the store: which are new, and whether one is what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import duckdb

from common.canonical_json import canonical
from common.environment import checked_host
from common.errors import LabError
from common.files import write_whole
from experiments.contract import Json
from warehouse.database.statements import insert, transaction
from warehouse.delivery.results_store import MAX_REPORT_BYTES, Store
from warehouse.ingest.outcome import Collected, quarantine
from warehouse.paths import Paths

CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead
TIERS = ("weak", "medium", "strong", "unfit")  # docs/design.md, "The path of the data", 1


def new_reports(paths: Paths, store: Store) -> list[tuple[str, bytes]]:
    """(host, content) of the reports in the store that are not those known here."""

    def known(host: str) -> bytes | None:
        path = paths.reports / f"capability_report_{host}.json"
        return path.read_bytes() if path.is_file() else None

    return [(host, content) for host, content in store.reports_here() if known(host) != content]


def checked_report(host: str, content: bytes) -> tuple[Json, datetime]:
    """The report and when it was made.

    Raises:
        ValueError, KeyError, TypeError, RecursionError, OverflowError, LabError: it is none.
    """
    if len(content) > MAX_REPORT_BYTES:
        raise ValueError(f"more than {MAX_REPORT_BYTES} bytes")
    report = json.loads(content)
    if not isinstance(report, dict):
        raise TypeError("not an object")
    canonical(report).encode()  # refuses NaN and half surrogate pairs
    if report["host"] != checked_host(host):
        raise ValueError("the report names another host than its file")
    seen = datetime.fromisoformat(report["created_at"])
    if seen.tzinfo is None or seen > datetime.now(UTC) + CLOCK_SLACK:
        raise ValueError("created_at has no time zone or lies in the future")
    if report["tier"] not in TIERS:
        raise ValueError(f"tier is none of {', '.join(TIERS)}")
    if not isinstance(report["python"], str) or not isinstance(report["versions"], dict):
        raise TypeError("python is no text, or versions is no object")
    return report, seen.astimezone(UTC)


def take_reports(
    con: duckdb.DuckDBPyConnection, paths: Paths, store: Store, reports: Sequence[tuple[str, bytes]], taken: Collected
) -> None:
    """Hosts' reports into `hosts`, all in one transaction, keeping when each host was first seen."""
    good, rows = [], []
    for host, content in reports:
        try:
            report, seen = checked_report(host, content)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError, LabError) as error:
            path = store.root / "hosts" / f"capability_report_{host}.json"
            with suppress(FileNotFoundError):
                quarantine(con, paths, store, path, f"not a capability report: {str(error)[:200]}", taken)
            continue
        good.append((host, content))
        columns = {"tier": report["tier"], "report": report, "python": report["python"], "versions": report["versions"]}
        rows.append({"host": host, "first_seen": seen, "last_seen": seen, **columns})
    with transaction(con):
        changed = ", ".join(f"{c} = excluded.{c}" for c in ("last_seen", "tier", "report", "python", "versions"))
        insert(con, "hosts", rows, f"(host) DO UPDATE SET {changed}")
    # Last, since a report whose file is here counts as known.
    for host, content in good:
        write_whole(paths.reports / f"capability_report_{host}.json", content)
