"""Capability reports that hosts leave in the store: find new ones, check and ingest them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from common.errors import LabError
from common.files import write_whole
from common.limits import MAX_REPORT_BYTES
from common.text import duration
from warehouse.database.statements import insert, transaction
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.protocol import HOSTS, report_name
from warehouse.ingest.outcome import Collection, Refused, noting_what_stays, quarantine
from warehouse.paths import Paths
from workpools.report import CapabilityReport, validated

CLOCK_SLACK = timedelta(minutes=10)  # a host's clock may be this much ahead


def new_reports(paths: Paths, store: Store, left: list[Refused]) -> dict[str, bytes]:
    """Return host -> content of the reports in the store that are not known yet.

    One that was made in the future, since a clock is wrong, waits until it is due; it is noted in `left`.
    """

    def known(host: str) -> bytes | None:
        with suppress(OSError):  # not there, or not to be read: then it is stored again
            return (paths.reports / report_name(host)).read_bytes()
        return None

    found = {}
    for host, content in store.fetched_reports().items():
        if known(host) == content:
            continue
        if (early := _early(host, content)) > timedelta():
            left.append(
                Refused(report_name(host), f"it is early by {duration(early.total_seconds())}: set the clock of {host}")
            )
        else:
            found[host] = content
    return found


def _early(host: str, content: bytes) -> timedelta:
    """Return how far a report lies in the future, by more than the slack; nothing if it is no report."""
    try:
        ahead = checked_report(host, content).created_at - datetime.now(UTC)
    except (LabError, ValueError):
        return timedelta()
    return ahead if ahead > CLOCK_SLACK else timedelta()


def checked_report(host: str, content: bytes) -> CapabilityReport:
    """Parse and check a report; raise LabError or ValueError if it is not valid."""
    if len(content) > MAX_REPORT_BYTES:
        raise ValueError(f"more than {MAX_REPORT_BYTES} bytes")
    report = validated(CapabilityReport, content)
    if report.host != host:
        raise ValueError("the report names another host than its file")
    return report


def take_reports(now: Collection, reports: Mapping[str, bytes]) -> None:
    """Insert reports into `hosts` in one transaction; the time at which a host was first seen stays."""
    good, rows = {}, []
    for host, content in reports.items():
        try:
            report = checked_report(host, content)
        except (LabError, ValueError) as error:
            path = now.store.root / HOSTS / report_name(host)
            with noting_what_stays(path, now.taken):
                quarantine(now, path, f"not a capability report: {str(error)[:200]}")
            continue
        good[host] = content
        seen, fields = report.created_at, report.model_dump(mode="json")
        columns = {"report": fields} | {name: fields[name] for name in ("tier", "python", "versions")}
        rows.append({"host": host, "first_seen": seen, "last_seen": seen, **columns})
    with transaction(now.con):
        changed = ", ".join(f"{c} = excluded.{c}" for c in ("last_seen", "tier", "report", "python", "versions"))
        insert(now.con, "hosts", rows, f"(host) DO UPDATE SET {changed}")
    # Last, since a report that has a file counts as known.
    for host, content in good.items():
        path = now.paths.reports / report_name(host)
        with noting_what_stays(path, now.taken):
            write_whole(path, content)
