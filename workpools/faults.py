"""Faults of machines: what a shard's last message says of the machine that gave it back, and since when."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from workpools.server_rows import SHOWN, RunRow, flow_runs

GIVEN_BACK = "given back"  # begins the message of a shard that ended without work, since its machine is the wrong one
RUN = "this run"  # what a machine is left out of, unless it is one phase
SHOWN_FOR = timedelta(days=1)  # by lab hosts, from the machine's last shard of that kind
FOUND = re.compile(
    rf"{GIVEN_BACK} by ([a-z0-9-]{{1,63}}), which is left out of ({RUN}|[a-z0-9]{{1,8}}): (.+)", re.DOTALL
)


class Fault(NamedTuple):
    """Why a machine gets no more work in a run: something is wrong with it, not with the units."""

    host: str
    why: str  # with the command that mends it
    of: str = RUN  # or the name of a phase

    def concerns(self, phase: str) -> bool:
        """Return True if the machine gets no units of this phase."""
        return self.of in (RUN, phase)


def message(fault: Fault) -> str:
    """Return the message with which a shard gives itself back."""
    return f"{GIVEN_BACK} by {fault.host}, which is left out of {fault.of}: {fault.why}"


def fault_in(text: str) -> Fault | None:
    """Return the fault that a shard's message names, None if it names none."""
    found = FOUND.search(text[:SHOWN])
    return Fault(found[1], found[3].strip(), found[2]) if found else None


def recent_faults(client: Any, now: datetime | None = None) -> dict[str, tuple[datetime, Fault]]:
    """Return the latest fault of each machine with its time, of the shards that failed within SHOWN_FOR."""
    since = (now or datetime.now(UTC)) - SHOWN_FOR
    wanted = {"state": {"type": {"any_": ["FAILED"]}}, "start_time": {"after_": since.isoformat()}}
    return _latest(flow_runs(client, wanted))


def _latest(runs: Iterable[RunRow]) -> dict[str, tuple[datetime, Fault]]:
    found: dict[str, tuple[datetime, Fault]] = {}
    for run in runs:
        fault = fault_in((run.state and run.state.message) or "")
        at = run.end_time or run.start_time
        if fault and at and (fault.host not in found or found[fault.host][0] < at):
            found[fault.host] = (at, fault)
    return found
