"""Commands of `lab` that the page runs in a process of their own: the same parser, checks and keys as in a terminal."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import NamedTuple

from common.environment import lab_home, python
from common.errors import LabError

# The home folder of the user who started the page. `lab up` sets it, behind whose checks of names, origins and passwords the
# page may start and stop runs; a page that was started by hand may not.
USER_HOME = "LAB_USER_HOME"
PAGE_AUTH = "LAB_PAGE_AUTH_STRING"  # user:password of the page at Prefect's server, which lets it read
ANSWER_S = 180.0  # planning takes ten seconds on a slow machine, stopping two minutes where a machine is gone
_one_at_a_time = threading.Lock()


class Answer(NamedTuple):
    """What a command printed, and whether it did what was asked."""

    done: bool
    text: str


def allowed() -> bool:
    """Return True if this page may start and stop runs."""
    return USER_HOME in os.environ


def lab(*arguments: str) -> Answer:
    """Run a command of `lab` and return its answer, as long as one a page; never through a shell.

    Args:
        arguments: its words. Texts of a reader stand behind "=" in an option.

    Raises:
        LabError: the page may not, another command runs, or this one does not end.
    """
    if not allowed():
        raise LabError("this page was started by hand, so it starts no run", "lab up")
    if not _one_at_a_time.acquire(blocking=False):
        raise LabError("another run is being started or stopped", "try again in a few seconds")
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            [*python(), "lab", *arguments],
            env=_environment(),
            cwd=lab_home(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"lab {arguments[0]} did not end within {ANSWER_S:.0f} s", "lab status") from None
    except ValueError:  # a zero byte
        raise LabError("a value has a character that no command can have", "leave it out") from None
    finally:
        _one_at_a_time.release()
    text = done.stdout if done.returncode == 0 else (done.stderr or done.stdout)
    return Answer(done.returncode == 0, text.strip().splitlines()[-1] if text.strip() else "")


def _environment() -> dict[str, str]:
    """Return the page's environment with the user's home folder, without the page's own password and settings."""
    home = os.environ[USER_HOME]
    own = {k: v for k, v in os.environ.items() if k not in (USER_HOME, PAGE_AUTH) and not k.startswith("STREAMLIT_")}
    return own | {"HOME": home, "USERPROFILE": home}
