"""The outcome of one check of `lab doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from common.errors import LabError
from common.system_errors import explained

State = Literal["found", "missing", "absent"]  # absent: not there, and not needed by this tier


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    kind: str  # machine, package, engine, model, extension, service, setting, permission, results, size
    name: str
    state: State
    detail: str = ""
    mend: str = ""  # the command that installs or repairs it, unless found


def check(kind: str, name: str, there: bool, detail: str, mend: str, needed: bool = True) -> Check:
    """Return a check that is found, missing, or absent if this tier does not need it."""
    if there:
        return Check(kind, name, "found", detail)
    return Check(kind, name, "missing" if needed else "absent", detail, mend)


def asked(kind: str, name: str, ask: Callable[[], str]) -> Check:
    """Return a check that is found with the answer of `ask`, or missing if it or the system refuses it."""
    try:
        return Check(kind, name, "found", ask())
    except OSError as error:
        refused = error if isinstance(error, LabError) else explained(error)
    except LabError as error:
        refused = error
    return check(kind, name, False, refused.what, refused.mend)
