"""The capability reports of the registered hosts."""

from __future__ import annotations

from typing import NamedTuple

from common.errors import LabError
from warehouse.delivery.results_store import Store
from workpools.assess import CapabilityReport, parse_report


class Registered(NamedTuple):
    """Reports of the registered hosts, by name, and a line for each report that is not valid."""

    reports: list[CapabilityReport]
    problems: list[str]


def registered(store: Store) -> Registered:
    """Read the reports of all registered hosts."""
    found, wrong = [], []
    for host, content in store.reports().items():
        try:
            report = parse_report(content)
        except LabError as error:
            wrong.append(f"{host}: {error}")
            continue
        if report.host == host:
            found.append(report)
        else:
            wrong.append(f"{host}: its report names another host, {report.host}")
    return Registered(found, wrong)
