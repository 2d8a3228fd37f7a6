"""Settings of Prefect for lab's own processes: what this project sets, and of the user's only how to reach a server.

Prefect also reads a profile in the user's home, and .env, prefect.toml and pyproject.toml in the working folder. Those are of other
projects: a key of Prefect's cloud would be sent to this server, and a value that is none ends in a traceback.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from common.errors import LabError

# Settings of the user for reaching a server; no other setting of Prefect is passed on.
ACCESS = (
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
)
READ = (*ACCESS, "PREFECT_API_URL", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_HOME")
# What a setting has to be, and whether it is.
FORMS: dict[str, tuple[str, Callable[[str], object]]] = {
    "PREFECT_API_SSL_CERT_FILE": ("a file of certificates", os.path.isfile),
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": ("true or false", re.compile("true|false|[01]", re.IGNORECASE).fullmatch),
    "PREFECT_CLIENT_CUSTOM_HEADERS": ("a JSON object of names and texts in ASCII", lambda text: _is_headers(text)),
}
OWN = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_PROFILES_PATH": os.path.join(os.devnull, "none")}  # noqa: PTH118
# Programs that lab starts, by what their variables begin with, and others that the server's program reads.
PROGRAMS = ("PREFECT_", "STREAMLIT_", "UVICORN_")
OF_SERVERS = ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
READERS = "prefect.settings.sources"  # the module that reads the files


def _is_headers(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    # Headers that are not ASCII cannot be sent.
    return isinstance(found, dict) and all(isinstance(v, str) and v.isascii() and k.isascii() for k, v in found.items())


class _Without(MetaPathFinder):
    """Finds that module once, and has it read no file as soon as it is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        if name != READERS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        return spec and _without_files(spec)


def _without_files(spec: ModuleSpec) -> ModuleSpec:
    loader: Any = spec.loader
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        read, packaged = module._read_toml_file, module.DEFAULT_PROFILES_PATH
        module._read_toml_file = lambda path: read(path) if path == packaged else {}
        module.FilteredDotEnvSettingsSource._read_env_files = lambda self: {}

    loader.exec_module = exec_module
    return spec


def keep_others_out() -> None:
    """Have Prefect in this process read no settings but READ and OWN; it must not be imported yet.

    Raises:
        LabError: one of ACCESS is not what Prefect takes, which would fail while it is imported.
    """
    for name in [n for n in os.environ if n.startswith("PREFECT_") and n not in READ]:
        del os.environ[name]
    os.environ.update(OWN)
    for name, (what, taken) in FORMS.items():
        if not taken(value := os.environ.get(name, "")) and value:
            raise LabError(f"{name} is not {what}", f"unset {name}")  # the value may hold a secret
    if "prefect" not in sys.modules:
        sys.meta_path.insert(0, _Without())


def without_programs(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment without the variables by which servers and Prefect are set up."""
    return {k: v for k, v in environment.items() if not k.startswith(PROGRAMS) and k not in OF_SERVERS}
