"""Commands for the transport of results: sync, spool, inbox serve."""

from __future__ import annotations

import json
import signal
import socket
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from common.errors import LabError
from common.text import duration, printable, size
from lab.commands.options import AsJson
from lab.exit_codes import EXIT_FAILED
from lab.network.forwarding import listening
from lab.network.lan import bracketed, loopback
from lab.services.inbox import own_inbox_token
from lab.services.joined import use_its_store
from lab.services.restarting import orphaned
from lab.services.up import api_url
from warehouse.delivery import spool as spools
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.quack_server import InboxServer
from warehouse.paths import Paths

SHOWN = 20  # bundles of a long spool


def sync(as_json: AsJson = False) -> None:
    """Deliver the bundles in this machine's spool.

    Exit code 1: some could not be delivered.

    Example: lab sync
    """
    paths = Paths.local()
    use_its_store(paths, api_url())
    store = Store.configured(paths)
    found = store.deliver(paths.spool)
    if as_json:
        print(json.dumps({"where": store.where, **asdict(found)}))
    else:
        done = f"delivered {found.delivered} ({size(found.size_bytes)}), waiting {found.waiting}"
        done += f", damaged and set aside {found.damaged}" if found.damaged else ""
        print(printable(f"to {store.where}: {done}"))
        if found.reason:
            print(printable(found.reason))
    if found.waiting:
        raise typer.Exit(EXIT_FAILED)


def spool(as_json: AsJson = False) -> None:
    """List the bundles that wait for delivery on this machine: size, age and last error.

    Example: lab spool --json
    """
    found = spools.look(Paths.local())
    if as_json:
        print(json.dumps(found.to_json()))
        return
    if not found.waiting:
        print("no bundle waits")
        return
    now = datetime.now(UTC)
    print(f"{len(found.waiting)} bundles wait, {size(found.size_bytes)}")
    for one in found.waiting[:SHOWN]:
        age = duration(max(0.0, (now - one.since).total_seconds()))
        print(f"  {one.name[:8]}  {size(one.size_bytes):>9}  since {one.since:%Y-%m-%d %H:%M} UTC ({age})")
    if len(found.waiting) > SHOWN:
        print(f"  and {len(found.waiting) - SHOWN} more")
    if last := found.last_attempt:
        print(printable(f"last attempt {last.at} to {last.where}: {last.reason}"))
    else:
        print("no attempt yet")
    print("to deliver now: lab sync")


def serve(
    address: Annotated[str, typer.Option(help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9494,
) -> None:
    """Receive bundles over DuckDB's Quack protocol into this coordinator's inbox, until Ctrl-C.

    Clients set LAB_RESULTS_URL=quack://ADDRESS:PORT and need the token. Joined machines have it; others read it from
    LAB_INBOX_TOKEN or from the file LAB_INBOX_TOKEN_FILE. Nothing is encrypted: use it in a LAN or through a tunnel.

    Example: lab inbox serve --address 192.168.1.10
    """
    if not 1 <= port <= 65535:
        raise LabError(f"there is no port {port}", "choose one of 1 to 65535: lab inbox serve --port 9494")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    inside = loopback()
    with socket.create_server((inside, 0), family=socket.AF_INET6 if ":" in inside else socket.AF_INET) as free:
        behind = free.getsockname()[1]
    server = InboxServer(Paths.local(), inside, behind, own_inbox_token())
    try:
        with listening(address, port, behind) as alive:
            print(f"receiving bundles at quack://{bracketed(address)}:{port} into {server.inbox}", flush=True)
            server.serve(lambda: ended.is_set() or orphaned() or not alive())
            if not (ended.is_set() or orphaned()):
                raise typer.Exit(EXIT_FAILED)
    finally:
        server.close()
