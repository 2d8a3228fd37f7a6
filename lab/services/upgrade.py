"""Bring this machine's installation to the coordinator's: `lab join --upgrade`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common.environment import PROJECT, checkout, code_commit, python, release
from common.errors import LabError
from workpools.installation import COUNTING, SHA, Installation, differences

STEP_S = 1800.0  # torch alone is up to a gigabyte
Do = Callable[[Sequence[str], Path | None], None]


def refuse_other(own: Installation, theirs: Installation, url: str) -> None:
    """Raise LabError if this machine could not compute what that coordinator plans."""
    if found := differences(own, theirs):
        what = f"{own.host} has another installation than its coordinator {theirs.host}: {'; '.join(found)}"
        raise LabError(what, f"lab join {url} --upgrade")


def upgrade(own: Installation, theirs: Installation, say: Callable[[str], object], do: Do | None = None) -> bool:
    """Bring code and packages to those of the coordinator; return False if nothing differs.

    A checkout goes forward to the coordinator's commit, which must be in the repository that it was cloned from: nothing is
    taken from the coordinator itself but names of versions. Packages come from this machine's own index.

    Args:
        do: runs one command in a folder; tests have their own.

    Raises:
        LabError: the checkout has changes of its own, or a step failed.
    """
    found = differences(own, theirs)
    if not found:
        return False
    say(f"upgrading to {theirs.host}'s: {'; '.join(found)}")
    for command, folder in steps(own, theirs, checkout()):
        say(" ".join(command))
        (do or _run)(command, folder)
    return True


def steps(own: Installation, theirs: Installation, root: Path | None) -> list[tuple[list[str], Path | None]]:
    """Return the commands, each with the folder that it runs in; `root` is the checkout, None for a wheel."""
    pip = [sys.executable, "-m", "pip", "install"]
    found: list[tuple[list[str], Path | None]] = []
    if own.commit != theirs.commit or own.code != theirs.code:
        found += _code(own, theirs, root, pip)
    packages = [
        f"{name}=={theirs.packages[name].partition('+')[0]}"
        for name in COUNTING
        if name in own.packages and name in theirs.packages
        if release(own.packages[name]) != release(theirs.packages[name])
    ]
    if packages:
        found.append(([*pip, *packages], None))
    return found


def _code(
    own: Installation, theirs: Installation, root: Path | None, pip: list[str]
) -> list[tuple[list[str], Path | None]]:
    if root is None:
        return [([*pip, f"{PROJECT}=={theirs.version}"], None)]
    if own.dirty:
        raise LabError(f"{root} has changes that are in no commit", f"git -C {root} stash, then this command again")
    if not SHA.fullmatch(theirs.commit):
        mend = f"git -C {root} checkout v{theirs.version}, then make setup"
        raise LabError(f"the coordinator runs version {theirs.version}, installed as a package", mend)
    if own.commit == theirs.commit:
        raise LabError(
            f"the checkout of {theirs.host} has changes that are in no commit",
            "there: git commit, git push, then lab up",
        )
    forward = [["git", "fetch", "--quiet", "origin"], ["git", "merge", "--ff-only", "--quiet", theirs.commit]]
    constraints = ["-c", str(root / "constraints.txt"), "--no-deps", "-e", str(root)]
    return [*((command, root) for command in forward), ([*pip, "--quiet", *constraints], root)]


def _run(command: Sequence[str], folder: Path | None) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs; versions and commits were checked
            command, cwd=folder, capture_output=True, text=True, timeout=STEP_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(command)}: {error}", "run it by hand, then this command again") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"
        raise LabError(f"{' '.join(command)} failed: {last}", "run it by hand, then this command again")


def start_again(url: str, also: Sequence[str], quick: bool) -> None:
    """Replace this process by `lab join` with the new code; the key was saved when the server accepted it."""
    code_commit.cache_clear()
    options = [word for tier in also for word in ("--also", tier)] + (["--quick"] if quick else [])
    command = [*python(), "lab", "join", url, *options]
    if sys.platform == "win32":  # which has no call that replaces a process
        sys.exit(subprocess.call(command))  # noqa: S603
    os.execv(sys.executable, command)  # noqa: S606
