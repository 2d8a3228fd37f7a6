"""Runs units again in this process, on one processor: python rerun.py JOB; a line of JSON a unit, its trials."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from experiments.backends.model_cache import Backends
from experiments.contract import Unit
from experiments.registry import get_phase


def main(job: Path) -> None:
    """JOB is {"units": [...], "files": {SHA-256: path}}; units run in the order in which they are listed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    work = json.loads(job.read_text())
    backends = Backends(lambda sha256: Path(work["files"][sha256]).read_bytes())
    for row in work["units"]:
        unit = Unit.from_json(row)
        trials = [asdict(t) for t in get_phase(unit.phase).run(unit, backends)]
        print(json.dumps({"unit_id": unit.unit_id, "trials": trials}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
