"""What the server and the workers that lab starts are told, in their environment: addresses, secrets, how often to ask."""

from __future__ import annotations

import os

from common.errors import LabError
from lab.network import secrets
from lab.network.auth_proxy import COORDINATOR_AUTH as SERVER_AUTH
from lab.network.auth_proxy import WORKER_AUTH
from lab.network.lan import Door
from lab.services import processes
from lab.services.processes import DATABASE_URL
from warehouse.paths import Paths

POLL_S = 3  # five workers that asked each second lost a server on SQLite heartbeats (measured, lab/services/join.py)
HEARTBEAT_S = 15  # offline after three that were missed, so that a dead machine's work goes on within 90 s
# The user's own settings of how to reach a server; all others of Prefect stay out of what lab starts.
ACCESS = (
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
)


def prefect_environment(paths: Paths, port: int, door: Door | None = None) -> dict[str, str]:
    """For server and workers: their own PREFECT_HOME, JSON results, no telemetry.

    Secrets are in it, since a list of processes shows arguments to everybody and an environment to its user only.
    """
    door = door or Door()
    access = {name: os.environ[name] for name in ACCESS if name in os.environ}
    if door.keys:
        access["PREFECT_API_AUTH_STRING"] = secrets.coordinator_auth(door.keys)
    elif SERVER_AUTH in os.environ:
        access.setdefault("PREFECT_API_AUTH_STRING", os.environ[SERVER_AUTH])
    return processes.clean_environment(
        paths,
        **access,
        PREFECT_HOME=str(paths.home / "prefect"),
        PREFECT_API_URL=f"{door.url(port)}/api",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_RESULTS_DEFAULT_SERIALIZER="json",
        PREFECT_WORKER_QUERY_SECONDS=str(POLL_S),
        PREFECT_WORKER_HEARTBEAT_SECONDS=str(HEARTBEAT_S),
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
        PREFECT_CLIENT_RETRY_EXTRA_CODES="500",  # a server on SQLite that is busy says so with 500
        PREFECT_CLIENT_MAX_RETRIES="8",  # each after twice the time: a server may be gone for eight minutes
        PREFECT_CLI_COLORS="false",
        PREFECT_LOGGING_EXTRA_LOGGERS="flows,warehouse",  # why a delivery left something, in the run's own log
    )


def database() -> dict[str, str]:
    """The server's own setting for LAB_DATABASE_URL: PostgreSQL instead of SQLite below PREFECT_HOME.

    It stays in the environment, where its password is in no list of processes, and workers do not get it.

    Raises:
        LabError: it is not one of PostgreSQL. The value is not shown, since it holds a password.
    """
    url = os.environ.get(DATABASE_URL, "")
    if url and not url.startswith("postgresql+asyncpg://"):
        raise LabError(
            f"{DATABASE_URL} does not begin with postgresql+asyncpg://",
            f"export {DATABASE_URL}=postgresql+asyncpg://user:password@host/name",
        )
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url} if url else {}


def server_environment(port: int, door: Door) -> dict[str, str]:
    """What the server alone is told: its database, its passwords, and that only its own page may ask from a browser."""
    told = database() | {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": door.url(port)}
    if door.keys:
        told[SERVER_AUTH] = secrets.coordinator_auth(door.keys)
        told[WORKER_AUTH] = secrets.worker_auth(door.keys.join)
    elif SERVER_AUTH in os.environ:
        told[SERVER_AUTH] = os.environ[SERVER_AUTH]
    return told
