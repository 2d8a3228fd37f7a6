"""The command `invite`: how other machines and people get access."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from app.gate import link
from common.errors import LabError
from common.urls import without_secrets
from lab.network import secrets
from lab.network.lan import join_lines
from lab.services import inbox, processes
from lab.services.up import PAGE, SERVER, renew_page_password
from warehouse.paths import Paths


def invite(
    key: Annotated[bool, typer.Option("--key", help="Print only the key that lab join asks for.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Print the page's password, and a link that works once within an hour.")
    ] = False,
    server: Annotated[bool, typer.Option("--server", help="Print only the user:password of Prefect's pages.")] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="With --page: change its password, which ends all its links and cookies.")
    ] = False,
) -> None:
    """Print the command to type on other machines, one line for each tier.

    With an option it prints one of the secrets instead; no other command shows them, and only you can read their file.
    On another machine, lab join asks for the key or reads it with --key-file.

    Example: lab invite --key
    """
    chosen = [name for name, asked in (("key", key), ("page", page), ("server", server)) if asked]
    if len(chosen) > 1:
        raise LabError("only one secret is shown at a time", f"lab invite --{chosen[0]}")
    keys = secrets.of_coordinator()
    if keys is None:
        raise LabError("other machines cannot connect yet", "lab up --lan")
    if revoke:
        if not page:
            raise LabError("--revoke is for the page's password", "lab invite --page --revoke")
        keys = renew_page_password()
    if key:
        print(keys.join)
    elif server:
        print(secrets.coordinator_auth(keys))
    elif page:
        print(f"password   {keys.page}")
        print(f"link       {link(_running(PAGE), keys.page, time.time())}")
    else:
        print_invitation()


def print_invitation() -> None:
    """Print the `lab join` command of each tier and where its key comes from; no secret."""
    results = os.environ.get("LAB_RESULTS_URL")
    shared = inbox.url() if results is None else results
    if shared is not None and ("://" not in shared or shared.startswith("file:")):
        shared = None
    for tier, line in join_lines(_running(SERVER), shared and without_secrets(shared)).items():
        print(f"{tier:<8} {line}")
    print("On each machine, type the line of its tier. It asks for a key, which this command shows: lab invite --key")
    if shared is None:
        folder = results or Paths.local().home / "results"
        print(f"/PATH is the folder {folder} of this machine, mounted on the other one")


def _running(name: str) -> str:
    """Return the address of a service that listens in the LAN; LabError if it does not."""
    service = processes.running(Paths.local(), name)
    if service and service.needs_keys:
        return service.url
    raise LabError(f"the {name} does not listen in the LAN", "lab down, then: lab up --lan")
