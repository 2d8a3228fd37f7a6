"""Starting at boot: `lab service install` writes a unit for systemd or launchd, of this user and without root."""

from __future__ import annotations

import os
import platform
import plistlib
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.environment import PROJECT
from common.errors import LabError
from lab.services.join import api_of

LABEL = f"org.{PROJECT}.lab"
# What the user set and a service would not see; secrets are not among them, since units can be read by everybody.
KEPT = ("LAB_HOME", "LAB_HOST", "LAB_RESULTS_URL", "LAB_SECRETS")


def install(
    join: Annotated[
        str | None,
        typer.Option(help="Address of a coordinator: this machine works for it. Without, it is the coordinator."),
    ] = None,
    lan: Annotated[bool, typer.Option("--lan", help="The coordinator listens in the LAN, as lab up --lan.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files and write nothing.")] = False,
) -> None:
    """Start this machine's part with the machine: a systemd user unit on Linux, a launchd agent on macOS.

    Example: lab service install --dry-run
    """

    if join and lan:
        raise LabError("--lan is for the coordinator, --join for other machines", "leave one out")
    start = ["join", api_of(join).removesuffix("/api")] if join else ["up", *(["--lan"] if lan else [])]
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
    """Where systemd looks for a user's units."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "systemd" / "user" / f"{PROJECT}.service"


def agent_path() -> Path:
    """Where launchd looks for a user's agents."""
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    for name, value in kept.items():
        if not value.isprintable():
            raise LabError(f"{name} holds a character that no unit can hold", f"export {name}=...")
    return kept | {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}


def _quoted(text: str) -> str:
    """As systemd reads it: in quotes, with quotes, backslashes and its own % escaped."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text.replace("%", "%%")) + '"'


def _command(*words: str) -> str:
    """A command line of a unit, in which $ would begin a variable."""
    return " ".join(_quoted(w).replace("$", "$$") for w in words)


def systemd_unit(start: list[str]) -> str:
    """The unit: `lab up` and `lab join` end when all runs, and `lab down` stops what they started."""
    lab = (sys.executable, "-m", "lab")
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
    """The agent; what `lab up` started goes on after it has ended.

    Without a ProcessType: launchd keeps one of type Background to the slow cores.
    """
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [sys.executable, "-m", "lab", *start],
            "RunAtLoad": True,
            "AbandonProcessGroup": True,
            "EnvironmentVariables": _environment(),
            "Umask": 0o077,
            "StandardErrorPath": str(Path.home() / "Library" / "Logs" / f"{PROJECT}.log"),
        }
    )
