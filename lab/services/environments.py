"""Environments of the server and the workers that lab starts: addresses, secrets, polling intervals."""

from __future__ import annotations

import os

from common import proxies
from common.errors import LabError
from lab.network import secrets
from lab.network.auth_proxy import COORDINATOR_AUTH as SERVER_AUTH
from lab.network.auth_proxy import PAGE_AUTH, WORKER_AUTH
from lab.network.lan import Listener
from lab.own_settings import ACCESS, OWN
from lab.services import processes
from lab.services.processes import DATABASE_URL
from warehouse.paths import Paths

POLL_S = 3  # five workers that asked each second lost a server on SQLite heartbeats (measured, lab/services/join.py)
HEARTBEAT_S = 15  # offline after three that were missed, so that a dead machine's work is given to others within 90 s


def prefect_environment(paths: Paths, port: int, listener: Listener | None = None) -> dict[str, str]:
    """Return the environment of server and workers: their own PREFECT_HOME, JSON results, no telemetry.

    Secrets are passed here: other users can read a process's arguments, but not its environment.
    """
    listener = listener or Listener()
    proxies.bypass(listener.url(port))
    access = {name: os.environ[name] for name in ACCESS if name in os.environ}
    if listener.keys:
        access["PREFECT_API_AUTH_STRING"] = secrets.coordinator_auth(listener.keys)
    elif SERVER_AUTH in os.environ:
        access.setdefault("PREFECT_API_AUTH_STRING", os.environ[SERVER_AUTH])
    return processes.clean_environment(
        paths,
        **access,
        **OWN,
        PREFECT_HOME=str(paths.home / "prefect"),
        PREFECT_API_URL=f"{listener.url(port)}/api",
        PREFECT_RESULTS_DEFAULT_SERIALIZER="json",
        PREFECT_WORKER_QUERY_SECONDS=str(POLL_S),
        PREFECT_WORKER_HEARTBEAT_SECONDS=str(HEARTBEAT_S),
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
        PREFECT_CLIENT_RETRY_EXTRA_CODES="500",  # a busy server on SQLite answers with 500
        PREFECT_CLIENT_MAX_RETRIES="8",  # with doubling waits: a server may be gone for eight minutes
        PREFECT_CLI_COLORS="false",
        PREFECT_LOGGING_EXTRA_LOGGERS="flows,warehouse",  # the reasons of failed deliveries, in the run's own log
    )


def database() -> dict[str, str]:
    """Return the server's setting for LAB_DATABASE_URL (PostgreSQL), empty for SQLite; workers do not get it."""
    url = os.environ.get(DATABASE_URL, "")
    if url and not url.startswith("postgresql+asyncpg://"):
        # The value holds a password and is not shown.
        example = f"export {DATABASE_URL}=postgresql+asyncpg://user:password@host/name"
        raise LabError(f"{DATABASE_URL} does not begin with postgresql+asyncpg://", example)
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url} if url else {}


def server_environment(port: int, listener: Listener) -> dict[str, str]:
    """Return the settings that only the server gets: database, passwords, and what keeps web pages of others out."""
    settings = database() | {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": listener.url(port),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }
    if listener.keys:
        settings[SERVER_AUTH] = secrets.coordinator_auth(listener.keys)
        settings[WORKER_AUTH] = secrets.worker_auth(listener.keys.join)
        settings[PAGE_AUTH] = secrets.page_auth(listener.keys)
    elif SERVER_AUTH in os.environ:
        settings[SERVER_AUTH] = os.environ[SERVER_AUTH]
    return settings
