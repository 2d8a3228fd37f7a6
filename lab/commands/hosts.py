"""Commands for the machines of the network: join, hosts, drain, undrain, forget, redistribute."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text

from common.environment import checked_host
from common.errors import LabError
from common.text import printable
from flows.reports import registered
from lab.commands.options import NO_SPEEDS, AsJson
from lab.network.lan import read_key
from lab.services.join import join as join_it
from lab.services.joined import use_its_store
from lab.services.up import api_url, connected
from lab.tables import print_table
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.hosts import UNKNOWN, UNNAMED, HostState, give_up, host_states, remove_host, running
from workpools.hosts import drain as take_out
from workpools.hosts import undrain as put_back
from workpools.report import CapabilityReport

Host = Annotated[str, typer.Argument(help="Name of the machine, as lab hosts shows it.")]
STYLES = {"online": "", "offline": "dim", "draining": "yellow", "drained": "yellow"}


def join(
    url: Annotated[str, typer.Argument(help="Address of the coordinator's Prefect server.")],
    also: Annotated[
        list[str] | None, typer.Option(help="A lower tier to serve as well, weak or medium; repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help=NO_SPEEDS)] = False,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with the server's key, or - for standard input; by default it is asked for."),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Bring this machine's code and packages to the coordinator's first.")
    ] = False,
) -> None:
    """Let this machine work for a Prefect server: check and assess it, register it, start its workers.

    Commit, code and the versions that move numbers must be the coordinator's, its results store too, and no other machine
    may have this name. --upgrade moves a checkout forward by git, and installs packages with pip. Workers that run already
    are left running. The speeds of a machine that joins for the first time are measured in the background, once nothing else
    runs there. A server in a LAN requires the key that lab invite --key shows there; it is saved for the next time.
    Workers started by hand (prefect worker start --pool strong) get work as well.

    Example: lab join http://coordinator:4200 --also weak
    """
    key = read_key(key_file) if key_file else None
    found = join_it(url, also or [], quick, lambda text: print(printable(text), flush=True), key, upgrade)
    if found.started:
        print(f"started    {', '.join(f'worker-{p}' for p in found.started)}")
    if found.running:
        print(f"running    {', '.join(f'worker-{p}' for p in found.running)}")
    print("see        lab hosts")
    print(f"stop       lab down; to let it finish first: lab drain {found.host}")


def hosts(as_json: AsJson = False) -> None:
    """List the machines: tier, status, last heartbeat, running shards, measured speed, versions.

    Example: lab hosts --json
    """
    client, reports = _sources()
    rows = host_states(client, reports)
    if as_json:
        print(json.dumps([asdict(r) for r in rows], indent=1, default=datetime.isoformat))
        return
    if not rows:
        print("no machine is registered yet; on each machine: lab join http://coordinator:4200")
        return
    print_hosts(rows)


class Sources(NamedTuple):
    """A client of the server, and the reports in the results store."""

    client: Any
    reports: list[CapabilityReport]


def _sources() -> Sources:
    """Connect and read the reports; those that cannot be read are named on stderr."""
    paths = Paths.local()
    use_its_store(paths, api_url())
    store = Store.configured(paths)
    client = connected()
    reports, wrong = registered(store)
    for text in wrong:
        print(printable(text), file=sys.stderr)
    return Sources(client, reports)


def print_hosts(rows: Sequence[HostState]) -> None:
    """Print the table of machines and the lines below it."""
    numbers = ("GFLOPS", "texts/s", "tokens/s")
    versions = ("python", "torch", "prefect")
    cells: list[tuple[str | Text, ...]] = []
    for row in rows:
        speeds = (row.matrix_gflops, row.embedding_texts_per_s, row.prefill_tokens_per_s)
        beat = f"{row.last_heartbeat:%Y-%m-%d %H:%M:%S}" if row.last_heartbeat else "never"
        status = Text(row.status, style=STYLES[row.status])
        first = (row.host, row.tier, status, ", ".join(row.pools), beat, "\n".join(row.running))
        measured = ["" if s is None else f"{s:.3g}" for s in speeds]
        cells.append((*first, *measured, *(row.versions.get(v, "") for v in versions)))
    columns = ("host", "tier", "status", "pools", "last heartbeat, UTC", "running", *numbers, *versions)
    print_table("", columns, cells, right=numbers, width=160)
    for line in remarks(rows):
        print(printable(line))


def remarks(rows: Sequence[HostState]) -> list[str]:
    """Return the lines below the table: workers without a known host or report, and hosts that get no work."""
    found = []
    if unnamed := [r.host for r in rows if r.host.startswith(UNNAMED)]:
        found.append(f"Workers started without --name, so their machine is unknown: {', '.join(unnamed)}.")
    unknown = [r.host for r in rows if r.tier == UNKNOWN and not r.host.startswith(UNNAMED)]
    if unknown:
        found.append(
            f"Without a report, so they are assumed to be able to run everything: {', '.join(unknown)}. On each: lab assess"
        )
    found += [f"{r.host} was left out: {r.fault}" for r in rows if r.fault]
    if out := [r.host for r in rows if r.status in ("draining", "drained")]:
        found.append(f"Get no more work: {', '.join(out)}. To undo this: lab undrain HOST")
    return found


def drain(host: Host) -> None:
    """Give a machine no more work; what runs there finishes.

    Example: lab drain pi-4
    """
    client = _known(host)
    changed = take_out(client, host)
    runs = running(client).get(host, [])
    state = f"still running: {', '.join(runs)}" if runs else "nothing runs there"
    print(printable(f"{host} {'gets no more work' if changed else 'was drained already'}; {state}"))


def undrain(host: Host) -> None:
    """Give a drained machine work again.

    Example: lab undrain pi-4
    """
    client = _known(host)
    print(f"{host} {'gets work again' if put_back(client, host) else 'was not drained'}")


def forget(host: Host) -> None:
    """Take a machine off the lists of machines and plans, for one that does not come back; its results stay.

    It must be offline. If it joins again it is known again. Use it on the coordinator.

    Example: lab forget old-laptop
    """
    checked_host(host)
    sources = _sources()
    state = next((r for r in host_states(sources.client, sources.reports) if r.host == host), None)
    if state and state.pools:
        raise LabError(f"{host} is online", f"on {host}: lab down; then wait a minute")
    gone = remove_host(sources.client, host)
    gone = Store.configured(Paths.local()).forget_report(host) or gone
    if not gone:
        raise LabError(f"unknown host {host!r}", "lab hosts")
    print(f"{host} is forgotten; its results stay")


def redistribute(failed_machine: Annotated[str, typer.Option(help="Name of the dead machine.")]) -> None:
    """Give the unfinished shards of a dead machine to other machines at once.

    The pipeline does so by itself about 80 seconds after the machine's last heartbeat.

    Example: lab redistribute --failed-machine pi-4
    """
    names = give_up(_known(failed_machine), failed_machine)
    for name in names:
        print(printable(f"given up   {name}"))
    if not names:
        print(f"{failed_machine} has no unfinished shard")
    print(f"To give it no new work if it comes back: lab drain {failed_machine}")


def _known(host: str) -> Any:
    """Return a client of the server if `lab hosts` shows the host, else raise LabError."""
    checked_host(host)
    client, reports = _sources()
    known = [r.host for r in host_states(client, reports)]
    if host not in known:
        named = [n for n in known if not n.startswith(UNNAMED)]
        raise LabError(f"unknown host {host!r}", f"known: {', '.join(named)}" if named else "lab join, on that machine")
    return client
