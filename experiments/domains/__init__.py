"""Domains make problems, render them as text, measure features and judge answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import cast

from common.errors import LabError
from experiments.domains.base import Domain, Problem

__all__ = [
    "DOMAINS",
    "FILE_DOMAIN",
    "Domain",
    "Problem",
    "bring_data",
    "domain_module",
    "get_domain",
    "settled",
    "share_data",
    "shown",
]

DOMAINS = {
    "big_o": "experiments.domains.big_o.domain:BigO",
    "equations": "experiments.domains.equations:Equations",
    "jsonl": "experiments.domains.jsonl:JsonLines",
}
FILE_DOMAIN = "jsonl:"  # what follows names a file of the user's, or once settled its content


def domain_module(name: str) -> str:
    """The module that defines domain `name`; LabError when there is none."""
    return _entry(name).split(":")[0]


def _entry(name: str) -> str:
    kind = "jsonl" if name.startswith(FILE_DOMAIN) else name
    if kind not in DOMAINS or name == "jsonl":
        choices = ", ".join("jsonl:/path/to/your/file.jsonl" if d == "jsonl" else d for d in DOMAINS)
        raise LabError(f"unknown domain {name[:200]!r}", f"choose one of: {choices}")
    return DOMAINS[kind]


@cache
def get_domain(name: str) -> Domain:
    """The domain called `name`; LabError when there is none, or its file is not on this host."""
    module, _, maker = _entry(name).partition(":")
    made = getattr(import_module(module), maker)
    return cast(Domain, made(name.removeprefix(FILE_DOMAIN)) if name.startswith(FILE_DOMAIN) else made())


def settled(name: str) -> str:
    """The domain's name as units keep it: the same on every host, so a file of the user's is named by its content.

    Raises:
        LabError: there is no such file, or something is wrong in it.
    """
    if not name.startswith(FILE_DOMAIN):
        return name
    from experiments.domains.jsonl_file import SETTLED, kept_file, settle

    if SETTLED.fullmatch(name):
        kept_file(name)
        return name
    return settle(Path(name.removeprefix(FILE_DOMAIN)).expanduser())


def share_data(name: str, put: Callable[[bytes], str]) -> None:
    """Leave the domain's file, where it has one, where other hosts find it by its SHA-256."""
    if name.startswith(FILE_DOMAIN):
        from experiments.domains.jsonl_file import kept_file

        put(kept_file(name).read_bytes())


def bring_data(name: str, fetch: Callable[[str], bytes]) -> None:
    """Take the domain's file, where it has one that is not here, from where other hosts left it.

    Raises:
        LabError: nobody left it there, or it was changed.
    """
    if name.startswith(FILE_DOMAIN):
        from experiments.domains.jsonl_file import bring

        bring(name, fetch)


def shown(name: str) -> str:
    """The domain's name as tables show it: a digest is cut to eight digits."""
    start, at, digest = name.partition("@")
    return f"{start}{at}{digest[:8]}"
