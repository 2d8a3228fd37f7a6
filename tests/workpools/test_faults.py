"""Faults of machines: what a shard says of its machine is read again, and lab hosts shows it until it is mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from made_up_host import made_up_report
from server_double import reply, run_row

from lab.commands.hosts import remarks
from workpools.faults import Fault, fault_in, message, recent_faults
from workpools.hosts import host_states

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
OTHER_CODE = Fault("pi-4", "code differ on this host: a, planned with b. on pi-4: lab join --upgrade")


def test_what_is_said_is_read_again() -> None:
    """Prefect puts words before it; a message that names no machine, or no host's name, blames nobody."""
    said = "Flow run encountered an exception: LabError: " + message(OTHER_CODE)
    assert fault_in(said) == OTHER_CODE
    assert fault_in(message(Fault("pi-4", "it lacks lora", "p3"))) == Fault("pi-4", "it lacks lora", "p3")
    for other in (
        "",
        "given back by pi-4: it was drained",
        message(Fault("Pi 4", "x")),
        message(Fault("pi", "x", "../p")),
    ):
        assert fault_in(other) is None


class FakeRuns:
    """A server whose shards failed at these times with these messages."""

    def __init__(self, *ended: tuple[datetime, str]) -> None:
        self.ended = ended

    def request(self, method: str, path: str, json: Any) -> Any:
        wanted = json["flow_runs"]
        if wanted["state"]["type"]["any_"] != ["FAILED"]:
            return reply([])
        since = datetime.fromisoformat(wanted["start_time"]["after_"])
        state = {"type": "FAILED", "name": "Failed"}
        rows = [
            run_row(f"shard {i}", state=state | {"message": said}, end_time=at.isoformat())
            for i, (at, said) in enumerate(self.ended)
            if at > since
        ]
        return reply(rows)

    def read_work_pools(self) -> list[Any]:
        return []

    def read_variable_by_name(self, name: str) -> None:
        return None


def test_the_last_fault_of_each_machine_is_found() -> None:
    """An older one may be mended already; one of yesterday says nothing of today."""
    later = message(OTHER_CODE._replace(why="it has no store"))
    client = FakeRuns((NOON, later), (NOON - timedelta(hours=1), message(OTHER_CODE)), (NOON, "ConnectError"))
    assert recent_faults(client, NOON) == {"pi-4": (NOON, Fault("pi-4", "it has no store"))}
    assert recent_faults(client, NOON + timedelta(days=2)) == {}


def test_lab_hosts_names_the_machine_until_it_is_assessed_again() -> None:
    """The command that mends it is to be read there; lab join assesses the machine, and then the fault is of before."""
    now = datetime.now(UTC)
    client: Any = FakeRuns((now - timedelta(minutes=5), message(OTHER_CODE)))
    for minutes, shown in ((60, True), (1, False)):
        report = made_up_report("pi-4", created_at=now - timedelta(minutes=minutes))
        rows = host_states(client, [report])
        lines = [line for line in remarks(rows) if line.startswith("pi-4 was left out")]
        assert bool(lines) is shown
        assert not shown or ("lab join --upgrade" in lines[0] and "of this run" in lines[0])
