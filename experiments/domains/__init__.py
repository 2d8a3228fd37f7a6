"""Domains make problems, render them as text, measure features and judge answers."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import cast

from experiments.domains.base import Domain, Problem
from experiments.errors import LabError

__all__ = ["DOMAINS", "Domain", "Problem", "domain_module", "get_domain"]

DOMAINS = {
    "big_o": "experiments.domains.big_o:BigO",
    "equations": "experiments.domains.equations:Equations",
}


def domain_module(name: str) -> str:
    """The module that defines domain `name`; LabError when there is none."""
    if name not in DOMAINS:
        raise LabError(f"unknown domain {name!r}", f"choose one of: {', '.join(DOMAINS)}")
    return DOMAINS[name].split(":")[0]


@cache
def get_domain(name: str) -> Domain:
    """The domain called `name`; LabError when there is none."""
    module = import_module(domain_module(name))
    return cast(Domain, getattr(module, DOMAINS[name].split(":")[1])())
