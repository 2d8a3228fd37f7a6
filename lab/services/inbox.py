"""The inbox of a LAN, to which joined machines deliver results over DuckDB's Quack protocol."""

from __future__ import annotations

import os

from common.environment import python
from common.errors import LabError
from lab.network import secrets
from lab.network.lan import Listener, bracketed
from lab.services import processes
from warehouse.delivery.transports.quack import PORT, TOKEN, TOKEN_FILE, token
from warehouse.paths import Paths

INBOX = "inbox"
START_S = 90.0  # it loads DuckDB and its extension: a few seconds on an idle machine


def start(listener: Listener, port: int, command: str) -> str | None:
    """Start the inbox unless it runs; return None, or the reason why machines need another transport."""
    paths = Paths.local()
    if os.environ.get("LAB_RESULTS_URL"):
        return "LAB_RESULTS_URL is set, so results go there"
    if processes.running(paths, INBOX):
        return None
    if why := _unavailable():
        return why
    if holder := processes.holder_of(port, listener.address):
        raise LabError(f"Port {port} is in use by {holder}", f"Choose another: {command} --inbox-port {port + 1}")
    serve = [*python(), "lab", "inbox", "serve", "--address", listener.address, "--port", str(port)]
    serve = [*python(), "lab.services.restarting", *serve]
    service = processes.start(paths, INBOX, serve, processes.clean_environment(paths), port, listener)
    if not processes.wait_until(lambda: processes.holder_of(port, listener.address) is not None, START_S, service):
        raise LabError("the inbox did not come up", f"see {paths.home / 'logs' / 'inbox.log'}")
    return None


def _unavailable() -> str | None:
    import duckdb

    from warehouse.delivery.transports.quack import with_extensions

    with duckdb.connect() as con:
        try:
            with_extensions(con)
        except LabError as error:
            return str(error)
    return None


def url() -> str | None:
    """Return the LAB_RESULTS_URL for joined machines, or None if the inbox does not run."""
    inbox = processes.running(Paths.local(), INBOX)
    return f"quack://{bracketed(inbox.address)}:{inbox.port or PORT}" if inbox else None


def own_inbox_token() -> str:
    """Return the token that clients must send: LAB_INBOX_TOKEN or its file, else one derived from the join key."""
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_FILE):
        return token()
    return secrets.inbox_token(secrets.issued().join)


def remember_inbox_token(api: str | None = None) -> None:
    """Set LAB_INBOX_TOKEN from the saved key of `api`, if results go over Quack and no token is set."""
    wanted = os.environ.get("LAB_RESULTS_URL", "").partition("://")[0] in ("quack", "quacks")
    if not wanted or os.environ.get(TOKEN) or os.environ.get(TOKEN_FILE):
        return
    address = api or os.environ.get("PREFECT_API_URL")
    if address and (key := secrets.saved_key(address)):
        os.environ[TOKEN] = secrets.inbox_token(key)
