"""Capability reports that hosts leave in the store: find new ones, check and ingest them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from common.canonical_json import canonical
from common.environment import checked_host
from common.errors import LabError
from common.files import write_whole
from common.limits import MAX_REPORT_BYTES
from experiments.contract import Json
from warehouse.database.statements import insert, transaction
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.protocol import HOSTS, report_name
from warehouse.ingest.outcome import Collection, quarantine
from warehouse.paths import Paths

CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead
INVALID = (ValueError, KeyError, TypeError, RecursionError, OverflowError, LabError)
TIERS = ("weak", "medium", "strong", "unfit")


def new_reports(paths: Paths, store: Store) -> dict[str, bytes]:
    """Return host -> content of the reports in the store that are not known yet."""

    def known(host: str) -> bytes | None:
        path = paths.reports / report_name(host)
        return path.read_bytes() if path.is_file() else None

    return {host: content for host, content in store.fetched_reports().items() if known(host) != content}


def checked_report(host: str, content: bytes) -> Json:
    """Parse and check a report; raise one of INVALID if it is not valid."""
    if len(content) > MAX_REPORT_BYTES:
        raise ValueError(f"more than {MAX_REPORT_BYTES} bytes")
    report: Json = json.loads(content)
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
    return report


def take_reports(now: Collection, reports: Mapping[str, bytes]) -> None:
    """Insert reports into `hosts` in one transaction; the time at which a host was first seen stays."""
    good, rows = {}, []
    for host, content in reports.items():
        try:
            report = checked_report(host, content)
        except INVALID as error:
            path = now.store.root / HOSTS / report_name(host)
            with suppress(FileNotFoundError):
                quarantine(now, path, f"not a capability report: {str(error)[:200]}")
            continue
        good[host] = content
        seen = datetime.fromisoformat(report["created_at"]).astimezone(UTC)
        columns = {"tier": report["tier"], "report": report, "python": report["python"], "versions": report["versions"]}
        rows.append({"host": host, "first_seen": seen, "last_seen": seen, **columns})
    with transaction(now.con):
        changed = ", ".join(f"{c} = excluded.{c}" for c in ("last_seen", "tier", "report", "python", "versions"))
        insert(now.con, "hosts", rows, f"(host) DO UPDATE SET {changed}")
    # Last, since a report that has a file counts as known.
    for host, content in good.items():
        write_whole(now.paths.reports / report_name(host), content)
