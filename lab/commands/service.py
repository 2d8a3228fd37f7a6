"""The command `service install`: a unit of systemd or launchd for this user, without root."""

from __future__ import annotations

import os
import platform
import plistlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.environment import PROJECT, home_folder, python
from common.errors import LabError
from common.urls import without_secrets
from lab.services.join import api_of

LABEL = f"org.{PROJECT}.lab"
# Variables that the service needs as well; no secrets, since everybody can read a unit.
PASSED_ON = ("LAB_HOME", "LAB_HOST", "LAB_RAM_GB", "LAB_RESULTS_URL", "LAB_SECRETS")


def install(
    join: Annotated[
        str | None,
        typer.Option(help="Address of the coordinator that this machine works for; by default it is the coordinator."),
    ] = None,
    lan: Annotated[
        bool, typer.Option("--lan", help="The coordinator listens in the LAN, as with lab up --lan.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files and write nothing.")] = False,
) -> None:
    """Start lab when this machine starts, by a systemd user unit or a launchd agent on macOS.

    Example: lab service install --dry-run
    """
    if join and lan:
        raise LabError("--lan is for the coordinator and --join for other machines", "leave one out")
    start = ["join", api_of(join).removesuffix("/api")] if join else ["up", *(["--lan"] if lan else [])]
    if sys.platform == "win32":
        again = subprocess.list2cmdline([*python(), "lab", *start])
        task = subprocess.list2cmdline(["schtasks", "/create", "/tn", PROJECT, "/sc", "onlogon", "/tr", again])
        raise LabError("services are units of systemd or launchd, which Windows does not have", task)
    files = {unit_path(): systemd_unit(start), agent_path(): launchd_agent(start).decode()}
    if dry_run:
        for path, content in files.items():
            print(f"# {path}\n{content}")
        return
    mac = platform.system() == "Darwin"
    path = agent_path() if mac else unit_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files[path], encoding="utf-8")
    print(f"wrote {path}")
    if mac:
        print(f"start      launchctl bootstrap gui/{os.getuid()} {shlex.quote(str(path))}")
    else:
        print(f"start      systemctl --user daemon-reload && systemctl --user enable --now {PROJECT}")
        print("at boot    loginctl enable-linger")


def unit_path() -> Path:
    """Return the path of the unit, where systemd finds it."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(home_folder() / ".config")
    return Path(config) / "systemd" / "user" / f"{PROJECT}.service"


def agent_path() -> Path:
    """Return the path of the agent, where launchd finds it."""
    return home_folder() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def _environment() -> dict[str, str]:
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for name, value in variables.items():
        if not value.isprintable():
            raise LabError(
                f"{name} contains a character that a systemd unit or launchd agent cannot hold",
                f"export {name} without it",
            )
        if without_secrets(value) != value:
            raise LabError(f"{name} holds a password, and everybody can read a unit", f"export {name} without it")
    return variables | {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}


def _quoted(text: str) -> str:
    """Return text as systemd reads it: quoted, with quotes, backslashes and % escaped."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text.replace("%", "%%")) + '"'


def _command(*words: str) -> str:
    """Return a command line for a unit, with $ escaped, which would begin a variable."""
    return " ".join(_quoted(w).replace("$", "$$") for w in words)


def systemd_unit(start: list[str]) -> str:
    """Return the unit; its start command ends once the services run, and `lab down` stops them."""
    lab = (*python(), "lab")
    environment = "\n".join(f"Environment={_quoted(f'{k}={v}')}" for k, v in _environment().items())
    return f"""\
[Unit]
Description=LLM memory experiments: lab {start[0]}
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
{environment}
ExecStart={_command(*lab, *start)}
ExecStop={_command(*lab, "down")}
TimeoutStartSec=600
Restart=on-failure
RestartSec=60
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


def launchd_agent(start: list[str]) -> bytes:
    """Return the agent; the services keep running after its command has ended.

    It has no ProcessType, since launchd runs type Background on slow cores only.
    """
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [*python(), "lab", *start],
            "RunAtLoad": True,
            "AbandonProcessGroup": True,
            "EnvironmentVariables": _environment(),
            "Umask": 0o077,
            "StandardErrorPath": str(home_folder() / "Library" / "Logs" / f"{PROJECT}.log"),
        }
    )
