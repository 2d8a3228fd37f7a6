"""The command that lets other machines and people in: invite."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from app.gate import link
from common.errors import LabError
from lab.network import secrets
from lab.network.lan import LOOPBACK, join_lines
from lab.services import inbox, processes
from lab.services.up import PAGE, SERVER
from warehouse.paths import Paths


def invite(
    key: Annotated[bool, typer.Option("--key", help="Only the key that lab join asks for.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="The page's password, and a link that works for an hour.")
    ] = False,
    server: Annotated[bool, typer.Option("--server", help="Only the user:password of Prefect's own pages.")] = False,
) -> None:
    """What to type on other machines, a line a tier; with an option, one of the secrets that go with it.

    Secrets are shown by this command alone. They stay in a file that only you can read.

    The key goes to another machine's lab join by --key-file - (standard input).

    Example: lab invite --key
    """

    chosen = [name for name, asked in (("key", key), ("page", page), ("server", server)) if asked]
    if len(chosen) > 1:
        raise LabError("one secret at a time", f"lab invite --{chosen[0]}")
    keys = secrets.of_coordinator()
    if keys is None:
        raise LabError("nobody is let in yet", "lab up --lan")
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
    """One `lab join` line a tier, and where its key comes from; no secret."""

    results = os.environ.get("LAB_RESULTS_URL")
    shared = (
        inbox.url() if results is None else results if "://" in results and not results.startswith("file:") else None
    )
    for tier, line in join_lines(_running(SERVER), shared):
        print(f"{tier:<8} {line}")
    print("On each machine, the line of its tier; it asks for the key, which this shows: lab invite --key")
    if shared is None:
        folder = results or Paths.local().home / "results"
        print(f"There, /PATH is this machine's {folder}, mounted")


def _running(name: str) -> str:
    """Address of a part that runs and listens in the LAN."""

    for s in processes.recorded(Paths.local()):
        if s.name == name and s.alive and s.address != LOOPBACK:
            return s.url
    raise LabError(f"the {name} does not listen in the LAN", "lab down, then: lab up --lan")
