"""Work pools and queues in Prefect, and the connection to its server."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from common import proxies
from common.environment import checked_host
from common.errors import LabError
from common.same_origin import MISDIRECTED
from common.urls import without_secrets
from workpools.server_rows import workers
from workpools.tiers import POOLS

SERVER_PORT = 4200  # Prefect's own default
DEFAULT_API = f"http://127.0.0.1:{SERVER_PORT}/api"


def queue_of(host: str) -> str:
    """Return the name of the work queue for runs meant for one host; the queue `default` serves all hosts."""
    return f"host-{checked_host(host)}"


class RefusedError(LabError):
    """The server answers and refuses this password."""


def unreachable(url: str) -> LabError:
    """Return the error for a server that does not answer."""
    if variable := proxies.variable_for(url):
        what = f"no Prefect server answers at {url}, which was asked through the proxy of {variable}"
        return LabError(what, f"if it needs no proxy: export no_proxy={proxies.host_of(url)}")
    mend = "start one: lab up, or prefect server start"
    if urlsplit(url).path.strip("/") == "":
        mend = f"where one runs its API is below /api: export PREFECT_API_URL={without_secrets(url).rstrip('/')}/api; else {mend}"
    return LabError(f"no Prefect server answers at {url}", mend)


def checked_url(url: str) -> str:
    """Return `url` if it is an http address.

    Raises:
        LabError: it is not. Prefect would fail with a traceback while it is imported.
    """
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # a part of the name may be empty or too long
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        what = f"PREFECT_API_URL = {without_secrets(url)[:200]!r} is not an http address"
        raise LabError(what, f"export PREFECT_API_URL={DEFAULT_API}")
    return url


def connect(api_url: str, auth: str | None = None) -> Any:
    """Return a synchronous Prefect client for the server at `api_url`, which must answer and accept this user.

    Args:
        auth: user:password; PREFECT_API_AUTH_STRING unless given.

    Raises:
        LabError: not an address, or no server answers there.
        RefusedError: it refuses this user.
    """
    proxies.bypass(checked_url(api_url))
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api_url} | ({PREFECT_API_AUTH_STRING: auth} if auth else {})):
        client = get_client(sync_client=True)
    try:
        # Not /health, which needs no password.
        client._client.get("/admin/version", timeout=5).raise_for_status()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == MISDIRECTED:
            name = urlsplit(api_url).hostname
            mend = "use its address, as the coordinator prints it: lab invite"
            raise LabError(f"the server at {api_url} does not answer to the name {name}", mend) from None
        if error.response.status_code not in (401, 403):
            raise unreachable(api_url) from None
        mend = "export PREFECT_API_AUTH_STRING=user:password"
        raise RefusedError(f"the server at {api_url} refuses this user", mend) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        raise unreachable(api_url) from None
    return client


def create_pools(client: Any) -> list[str]:
    """Create the process pools that are missing; return their names. Two machines may do so at once."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    present = {pool.name for pool in client.read_work_pools()}
    made = []
    for name in POOLS:
        if name in present:
            continue
        description = "Pipeline, collect and sync." if name == "coordinator" else f"Machines of tier {name} and above."
        with contextlib.suppress(ObjectAlreadyExists):
            from prefect.workers.process import ProcessWorker

            template = ProcessWorker.get_default_base_job_template()
            pool = WorkPoolCreate(name=name, type="process", description=description, base_job_template=template)
            client.create_work_pool(pool)
            made.append(name)
    return made


def create_queues(client: Any, pools: Sequence[str], host: str) -> None:
    """Create the host's own queue in each pool; a worker that polls a missing queue gets no runs at all (measured)."""
    from prefect.exceptions import ObjectAlreadyExists

    for pool in pools:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_queue(name=queue_of(host), work_pool_name=pool)


def online_workers(client: Any) -> dict[str, list[str]]:
    """Return the names of the online workers of each pool that exists."""
    names = [pool.name for pool in client.read_work_pools()]
    return {name: sorted(w.name for w in workers(client, name) if w.status == "ONLINE") for name in names}
