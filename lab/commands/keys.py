"""Commands for the keys that sign results: keys add, keys list, keys remove, keys require."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.environment import host_name
from warehouse.delivery import signing
from warehouse.paths import Paths

Host = Annotated[str, typer.Argument(help="Name of the machine, as in lab hosts.")]


def add(
    host: Host,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="File with the key that the coordinator created, or - for standard input."),
    ] = None,
) -> None:
    """Add a machine's key: a new one, or with --from the one that the coordinator created.

    A machine that has its own key signs its bundles, also those that wait in its spool.

    Example: lab keys add pi-4
    """
    paths = Paths.local()
    text = None
    if source is not None:
        from_file = str(source) != "-"
        text = source.read_text(encoding="utf-8", errors="replace")[:1000] if from_file else sys.stdin.read(1000)
    path = signing.add_key(paths, host, text)
    print(f"key of {host}: {path}")
    if host == host_name():
        key = signing.key_of(paths, host)
        signed = signing.sign_waiting(paths, host, key) if key else 0
        print(f"this machine signs its bundles from now on; waiting bundles signed: {signed}")
    elif text is None:
        print(f"copy it to {host} over a secure connection and run there: lab keys add {host} --from {path.name}")


def list_keys() -> None:
    """List the machines that have a key, and say if keys are required.

    Example: lab keys list
    """
    paths = Paths.local()
    print("keys are required" if signing.required(paths) else "keys are not required")
    for host in signing.hosts_with_keys(paths):
        print(f"  {host}")


def remove(host: Host) -> None:
    """Remove a machine's key; if keys are required, its bundles are refused from then on.

    Example: lab keys remove pi-4
    """
    signing.remove_key(Paths.local(), host)
    print(f"the key of {host} is removed")


def require(
    off: Annotated[bool, typer.Option("--off", help="Accept bundles without a signature again.")] = False,
) -> None:
    """Refuse bundles without a valid signature of a machine with a key.

    Example: lab keys require
    """
    paths = Paths.local()
    signing.require(paths, not off)
    if off:
        print("keys are not required")
        return
    known = signing.hosts_with_keys(paths)
    print(f"keys are required; machines with one: {', '.join(known) or 'none'}")
    if host_name() not in known:
        print(f"this machine has no key, so its own results are refused too; to add one: lab keys add {host_name()}")
