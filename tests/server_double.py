"""Rows as Prefect's server lists them, and its reply to a request, both made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_DNS, uuid5


def run_row(name: str, kind: str = "RUNNING", **more: Any) -> dict[str, Any]:
    """A flow run; its id follows from its name."""
    state = {"type": kind, "name": kind.capitalize(), "message": None, "data": None}
    return {"id": str(uuid5(NAMESPACE_DNS, name)), "name": name, "tags": [], "parameters": {}, "state": state} | more


def reply(rows: Any) -> Any:
    """What the client's `request` returns."""
    return SimpleNamespace(json=lambda: rows)
