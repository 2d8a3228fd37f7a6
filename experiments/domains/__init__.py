"""Domains: each makes problems, renders them as text, measures features and judges answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import cast

from common.environment import expanded
from common.errors import LabError
from experiments.domains.base import Domain as Domain
from experiments.domains.base import Problem as Problem
from experiments.domains.jsonl_file import RESOLVED, data_file, fetch_file, resolve

DOMAINS = {
    "big_o": "experiments.domains.big_o.domain:BigO",
    "equations": "experiments.domains.equations:Equations",
    "jsonl": "experiments.domains.jsonl:JsonLines",
}
FILE_DOMAIN = "jsonl:"  # before the path of a user's file; in units before its title and SHA-256


def domain_module(name: str) -> str:
    """Return the module that defines domain `name`. Raises LabError when there is none."""
    return _entry(name).split(":")[0]


def _entry(name: str) -> str:
    kind = "jsonl" if name.startswith(FILE_DOMAIN) else name
    if kind not in DOMAINS or name == "jsonl":
        choices = ", ".join("jsonl:/path/to/your/file.jsonl" if d == "jsonl" else d for d in DOMAINS)
        raise LabError(f"unknown domain {name[:200]!r}", f"choose one of: {choices}")
    return DOMAINS[kind]


@cache
def get_domain(name: str) -> Domain:
    """Return the domain called `name`. Raises LabError when there is none, or its file is not on this host."""
    module, _, maker = _entry(name).partition(":")
    made = getattr(import_module(module), maker)
    return cast(Domain, made(name.removeprefix(FILE_DOMAIN)) if name.startswith(FILE_DOMAIN) else made())


def resolved(name: str) -> str:
    """Return the domain's name as units store it, the same on every host: a user's file is named by its content.

    Raises:
        LabError: there is no such file, or it has errors.
    """
    if not name.startswith(FILE_DOMAIN):
        return name
    if RESOLVED.fullmatch(name):
        data_file(name)
        return name
    return resolve(expanded(name.removeprefix(FILE_DOMAIN)))


def share_data(name: str, put: Callable[[bytes], str]) -> None:
    """Put the domain's file, where it has one, into the store that other hosts fetch it from.

    Args:
        put: stores a file by its SHA-256.
    """
    if name.startswith(FILE_DOMAIN):
        put(data_file(name).read_bytes())


def fetch_data(name: str, fetch: Callable[[str], bytes]) -> None:
    """Fetch the domain's file, where it has one and this host does not have it.

    Args:
        fetch: returns a file by its SHA-256.

    Raises:
        LabError: the store does not have it, or it was changed.
    """
    if name.startswith(FILE_DOMAIN):
        fetch_file(name, fetch)


def display_name(name: str) -> str:
    """Return the domain's name for tables: a digest is cut to eight digits."""
    start, at, digest = name.partition("@")
    return f"{start}{at}{digest[:8]}"
