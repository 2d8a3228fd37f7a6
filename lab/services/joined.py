"""The coordinator that this machine joined last, so that later commands find it."""

from __future__ import annotations

import os
from contextlib import suppress

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import LabError
from common.files import write_whole
from common.urls import without_secrets
from lab.services.inbox import remember_inbox_token
from warehouse.delivery.transports.choice import SETTING
from warehouse.paths import Paths
from workpools.pools import checked_url

FILE = "joined.json"


class JoinedTo(BaseModel):
    """A coordinator's API, and where results go; None where that address holds a password, which is not saved."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    api_url: str
    results_url: str | None = None


def remember(paths: Paths, api_url: str) -> None:
    """Save the coordinator that this machine joins, with the results store of this process."""
    results = os.environ.get(SETTING) or None
    if results and without_secrets(results) != results:
        results = None
    found = JoinedTo(api_url=api_url, results_url=results)
    write_whole(paths.home / FILE, found.model_dump_json(indent=1).encode())


def remembered(paths: Paths) -> JoinedTo | None:
    """Return the coordinator of the last join; None if there was none, or this machine is a coordinator by now."""
    try:
        found = JoinedTo.model_validate_json((paths.home / FILE).read_bytes())
        checked_url(found.api_url)
    except (OSError, ValidationError, LabError):
        return None
    return found


def forget(paths: Paths) -> None:
    """Forget it: this machine becomes a coordinator itself."""
    with suppress(OSError):
        (paths.home / FILE).unlink(missing_ok=True)


def use_its_store(paths: Paths, api_url: str) -> None:
    """Look in the results store of the joined coordinator, if that is the server of this command, and none is set."""
    found = remembered(paths)
    if found and found.results_url and found.api_url == api_url and not os.environ.get(SETTING):
        os.environ[SETTING] = found.results_url
    remember_inbox_token(api_url)
