"""The command `doctor`: everything that this machine's tier needs, found or missing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from common import proxies
from common.environment import home_folder, host_name, lab_home
from common.errors import LabError
from common.resources import disk_free_gb, memory
from common.text import printable, size
from common.urls import without_secrets
from experiments.backends import catalog
from experiments.registry import PHASES, get_phase
from lab.checks import Check, asked, check
from lab.commands.doctor_models import models
from lab.commands.doctor_system import database_files, files, hardware, reachable, settings
from lab.exit_codes import EXIT_FAILED
from lab.services.joined import use_its_store
from lab.services.up import api_url
from warehouse.delivery.results_store import Store
from warehouse.delivery.transports.choice import SETTING
from warehouse.maintenance.clean import sizes
from warehouse.paths import Paths
from workpools import nearby, packages
from workpools.assess import engines, idle_memory, saved
from workpools.pools import checked_url
from workpools.tiers import TIERS, UNFIT, decide, known_gb

# Programs and packages that a transport of results needs, by the scheme of its address.
PROGRAMS = {"rsync+ssh": ("rsync", "ssh"), "git+ssh": ("git", "ssh"), "git+https": ("git",), "git+file": ("git",)}
QUACK = ("duckdb_extension_quack", "duckdb_extension_httpfs")
PACKAGES = {"sftp": ("fsspec", "paramiko"), "s3": ("fsspec", "s3fs"), "quack": QUACK, "quacks": QUACK}


def checks(tier: str | None = None) -> list[Check]:
    """Return all checks of this machine for a tier, by default its own."""
    with suppress(LabError):  # an address that is none has its own line
        use_its_store(Paths.local(), api_url())
    own, machine = _known_machine()
    needed = (*_packages(tier or own), *_engines(tier or own), *models(), *_extensions())
    found = [*machine, *hardware(), *needed, *_services(), *settings(), *_permissions(), *_results()]
    return [*found, *files(Paths.local())]


def _known_machine() -> tuple[str, list[Check]]:
    try:
        return _machine()
    except LabError as error:  # such as a memory that is no number
        return TIERS[-1], [check("machine", "memory", False, error.what, error.mend)]


def _machine() -> tuple[str, list[Check]]:
    home = lab_home()
    home.mkdir(parents=True, exist_ok=True)
    now, disk_gb = memory(), disk_free_gb(home)
    with suppress(LabError):  # a host name that is not valid has its own line
        idle = idle_memory(now, saved(home, host_name()))
        now = replace(now, available_gb=idle.gb, reason=idle.reason or now.reason)
    decision, python = decide(now.available_gb, disk_gb), packages.python_reason()
    mend = "close programs that use memory, then: lab doctor"
    resources = "; ".join(
        [
            f"{known_gb(now.available_gb)} RAM available, {known_gb(disk_gb)} disk free",
            *filter(None, [now.reason]),
            *decision.reasons,
        ]
    )
    if cannot := [p.upper() for p in PHASES if not decision.profiles[get_phase(p).PROFILE]]:
        resources += f"; it cannot run {', '.join(cannot)}"
    return decision.tier, [
        check("machine", f"tier {decision.tier}", decision.tier != UNFIT, resources, mend),
        check("machine", "Python", python is None, python or "a supported version", "install that version of Python"),
        asked("machine", "home folder", lambda: str(home_folder())),
    ]


def _packages(tier: str) -> Iterator[Check]:
    lacking = packages.unmet(tier)
    if lacking is None:
        unknown = "not installed, so its requirements are unknown"
        yield check("package", "the project itself", False, unknown, f"pip install -e '.[{tier}]'")
        return
    for one in lacking:
        what, _, mend = one.reason.rpartition(": ")
        yield check("package", one.requirement, False, what, mend)
    if not lacking and tier in TIERS:
        yield check("package", f"extra {tier}", True, "all its packages", "")


def _engines(tier: str) -> Iterator[Check]:
    there = engines()
    yield check("engine", "embeddings", "embedder" in there, "P1, P2, E0, E1, E2", "pip install '.[weak]'")
    yield check("engine", "LoRA through peft", "lora" in there, "P3, E2", "pip install '.[weak]'", tier in TIERS)
    detail, mend = "for plans with --set precision=int8 or 4-bit", "pip install bitsandbytes"
    yield check("engine", "8-bit and 4-bit", _installed("bitsandbytes"), detail, mend, tier == "medium")
    for prefix in catalog.BACKENDS:
        # Every tier needs models in packages; all other backends are optional.
        packaged = prefix == catalog.PACKAGED
        module = catalog.backend_module(prefix)
        lacks, mend = module.missing(prefix) or ("", "")
        name = "language models in packages" if packaged else f"{prefix}/..."
        yield check("engine", name, not lacks, lacks, mend, packaged and tier in TIERS)


def _installed(*packages: str) -> bool:
    return all(find_spec(p) is not None for p in packages)


def _extensions() -> Iterator[Check]:
    results = os.environ.get(SETTING, "")
    scheme = results.partition("://")[0] if "://" in results else ""
    programs, packages = PROGRAMS.get(scheme, ()), PACKAGES.get(scheme, ())
    why = f"{SETTING} is {scheme}://"
    for program in programs:
        installed = shutil.which(program) is not None
        yield check("extension", program, installed, why, f"apt install {program}")
    for package in packages:
        yield check("extension", package, _installed(package), why, f"pip install {package.replace('_', '-')}")
    if "quack" not in scheme:
        why, mend = (
            "only needed for results over quack://",
            "pip install duckdb-extension-quack duckdb-extension-httpfs",
        )
        yield check("extension", "DuckDB's quack", _installed(*QUACK), why, mend, needed=False)
    why, mend = "only needed on the coordinator", "pip install '.[coordinator]'"
    yield check("extension", "the page", _installed("streamlit", "plotly"), why, mend, needed=False)


def _services() -> Iterator[Check]:
    url, left_out = api_url(), proxies.left_out()
    detail = ", ".join(f"{name} cannot be used and is left out" for name in left_out) or "not used for own addresses"
    yield check("service", "proxies", not left_out, detail, f"unset {' '.join(left_out)}", needed=False)
    try:
        checked_url(url)
    except LabError as error:
        yield check("service", "Prefect server", False, error.what, error.mend)
        return
    answer = nearby.get(f"{url.rstrip('/')}/health", 2)
    up = answer is not None and answer.status == 200
    # lab run needs no server.
    yield check("service", "Prefect server", up, without_secrets(url), "lab up, or lab join ADDRESS", needed=False)
    late = nearby.clock_reason(nearby.clock_offset_s(url)) if up else None
    if up:
        what, _, mend = (late or "agrees with the server's").partition(": ")
        yield check("service", "clock", late is None, what, mend)


def _permissions() -> Iterator[Check]:
    paths = Paths.local()
    for name, folder in (("LAB_HOME", paths.home), ("spool", paths.spool), ("weights", paths.home / "models")):
        why = _unwritable(folder)
        yield check("permission", f"write {name}", not why, why or str(folder), f"chown -R $USER {folder}")
    yield asked("permission", "host name", host_name)


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written to a folder, or ""."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder}: {error.strerror}"


def _results() -> Iterator[Check]:
    """Check the results on this machine: transport, databases, sizes."""
    paths = Paths.local()
    where = asked("results", "where they go", lambda: reachable(Store.configured(paths)))
    yield where
    yield from database_files(paths)
    store = Store.configured(paths) if where.state == "found" else None
    for name, n_bytes in sizes(paths, store).items():
        if n_bytes:
            yield Check("size", name, "found", size(n_bytes))


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    tier: Annotated[str | None, typer.Option(help="weak, medium or strong; this machine's own by default.")] = None,
) -> int:
    """Check everything that this machine's tier needs, and print the command for what is missing.

    Exit code 1: something is missing.

    Example: lab doctor --tier strong
    """
    if tier is not None and tier not in TIERS:
        raise LabError(f"unknown tier {tier!r}", f"choose one of: {', '.join(TIERS)}")
    found = checks(tier)
    lacking = [c for c in found if c.state == "missing"]
    if as_json:
        print(json.dumps({"ok": not lacking, "checks": [asdict(c) for c in found]}, indent=1))
        return EXIT_FAILED if lacking else 0
    for kind in dict.fromkeys(c.kind for c in found):
        print(kind)
        for c in found:
            if c.kind == kind:
                mend = f"; {c.mend}" if c.mend else ""
                print(printable(f"  {c.state:<8} {c.name:<28} {c.detail}{mend}".rstrip()))
    print(f"{len(lacking)} missing" if lacking else "nothing is missing")
    return EXIT_FAILED if lacking else 0
