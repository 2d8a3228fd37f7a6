"""The files of this checkout as git lists them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from programs import require

ROOT = Path(__file__).resolve().parents[1]


@cache
def tracked(suffix: str = "") -> tuple[str, ...]:
    """Return the files that git tracks and that exist, as paths from the root, by the end of their name."""
    require("git")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(name for name in done.stdout.split("\0") if name.endswith(suffix) and (ROOT / name).is_file())
