"""docs/platforms.md: the Pythons and platforms for which constraints.txt resolves to wheels; nothing is installed.

make resolve

uv resolves for a machine other than this one: pip does so for wheels, but not for markers such as sys_platform.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import NamedTuple

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# glibc 2.36 is that of Debian 12 and of Raspberry Pi OS 12; macOS 14 is the oldest that mlx has wheels for.
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_36",
    "Linux arm64": "aarch64-manylinux_2_36",
    "macOS 14 arm64": "aarch64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
EXTRAS = ("weak", "medium", "strong", "coordinator", "dev")


class Resolution(NamedTuple):
    """The outcome for one extra, Python and platform."""

    packages: int  # 0 when nothing resolves
    reason: str  # why nothing resolves


def resolve(uv: str, extra: str, python: str, platform: str) -> Resolution:
    """Resolve the project with one extra under constraints.txt, wheels only."""
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--python-version", python, "--python-platform", platform, "--extra", extra]
    command += ["--constraint", "constraints.txt", "pyproject.toml"]
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode == 0:
        return Resolution(len(re.findall(r"^\S+==", done.stdout, re.MULTILINE)), "")
    return Resolution(0, " ".join(done.stderr.partition("hint:")[0].split()).removeprefix("error: "))


def page(found: dict[tuple[str, str, str], Resolution]) -> str:
    """Return the page for outcomes by extra, Python and the platform's name."""
    lines = [
        "# Platforms",
        "",
        "The pinned versions of constraints.txt, resolved for other machines from wheels alone, without installing anything:",
        "`make resolve` does it again. A cell is the number of packages, or why nothing resolves. Linux is where the tests",
        "run; that the pins resolve elsewhere says that they can be installed there, not that they were tried.",
    ]
    for extra in EXTRAS:
        lines += ["", f"## {extra}", "", f"| Python | {' | '.join(PLATFORMS)} |", f"|---|{'---|' * len(PLATFORMS)}"]
        for python in PYTHONS:
            outcomes = [found[extra, python, name] for name in PLATFORMS]
            lines.append(f"| {python} | {' | '.join(o.reason or f'{o.packages} packages' for o in outcomes)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Resolve each combination and print the page; the first argument is the uv program."""
    found = {}
    for extra in EXTRAS:
        for python in PYTHONS:
            for name, platform in PLATFORMS.items():
                found[extra, python, name] = resolve(sys.argv[1], extra, python, platform)
                print(extra, python, name, found[extra, python, name], file=sys.stderr, flush=True)
    print(page(found), end="")


if __name__ == "__main__":
    main()
