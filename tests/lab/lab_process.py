"""The `lab` command as a user starts it: a process of its own, in an environment in which nothing is set up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]  # run(*arguments, **environment)


def bare_environment(home: Path) -> dict[str, str]:
    """This process's environment without what Prefect or lab read, LAB_HOME aside."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    return kept | {"LAB_HOME": str(home), "PREFECT_HOME": str(home.with_name("prefect-home")), "HF_HUB_OFFLINE": "1"}
