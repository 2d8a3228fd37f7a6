"""The command `lab` under a name that is nobody else's: a folder of PYTHONPATH may have packages named lab, app or common as well."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run `lab` with the packages of this installation, also in what it starts."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from common.environment import own_first

    sys.path[:] = own_first(sys.path[1:])
    if folders := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(own_first(folders.split(os.pathsep)))
    from lab.main import main as run

    run()
