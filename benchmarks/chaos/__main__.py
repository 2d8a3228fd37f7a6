"""Is any result or verdict lost, doubled or distorted by kills, injected errors and bad bundles?

    nice -n 19 python -m benchmarks.chaos --kills 500 --errors 500 --bad 200 --seed 1

It prints JSON: how many died where, how many units and verdicts were looked at afterwards, and what was wrong with them, which
has to be nothing; the exit code is 1 otherwise. Homes in a temporary folder have two writers, two collectors, a judge that
decides runs, one that writes a backup after the other, one that rebuilds, one that makes new warehouses. They are killed (-9)
role by role, most often within one stage of their work. A tenth of the kills falls on a laboratory with a real server, worker
and pipelines. Errors are injected into calls of single steps of the same work (write, deliver, collect, decide, back up,
rebuild), each of which is then taken again without one. Bad bundles of sixteen kinds lie between good ones in an inbox. In the
end all that was written is looked for in each warehouse, and in the newest backup, restored elsewhere. The same seed strikes
the same roles in the same order; at which instruction is the system's choice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.chaos import bad_inputs, errors, homes, pipeline
from benchmarks.chaos.found import Found
from experiments.seeds import generator

ERRORS, BAD = "errors", "bad inputs"  # parts that kill nothing
OF_PIPELINE = 10  # one kill in so many


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, look, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500, help="processes to kill")
    parser.add_argument("--errors", type=int, default=500, help="calls into the system that fail")
    parser.add_argument("--bad", type=int, default=200, help="bad bundles in an inbox")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn")
    parser.add_argument("--seconds", type=float, default=7200.0, help="begin nothing new after so long")
    given = parser.parse_args(arguments)
    for name in [n for n in os.environ if n.startswith(("LAB_", "PREFECT_"))]:
        del os.environ[name]
    os.environ["LAB_HOST"] = "chaos"
    began = time.monotonic()
    until = began + given.seconds
    parts: dict[str, tuple[Callable[..., Any], int]] = {
        "homes": (homes.run, given.kills - given.kills // OF_PIPELINE),
        "pipelines": (pipeline.run, given.kills // OF_PIPELINE),
        ERRORS: (errors.run, given.errors),
        BAD: (bad_inputs.run, given.bad),
    }
    total, hits = Found(), dict[str, dict[str, int]]()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    for name, (part, number) in parts.items():
        if not number:
            continue
        hit, found = part(folder / name, number, generator(given.seed, "chaos", name), until)
        hits[name] = dict(sorted(hit.items()))
        total.add(found)
        print(f"{name}: {sum(hit.values())}, {len(found.wrong)} faults", file=sys.stderr)
    print(json.dumps(_report(given.seed, time.monotonic() - began, hits, total), indent=1))
    if total.wrong:
        print(f"the homes are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if total.wrong else 0


def _report(seed: int, seconds: float, hits: dict[str, dict[str, int]], found: Found) -> dict[str, Any]:
    return {
        "benchmark": "chaos",
        "seed": seed,
        "seconds": round(seconds),
        "kills": sum(n for name, hit in hits.items() if name not in (ERRORS, BAD) for n in hit.values()),
        "errors": sum(hits.get(ERRORS, {}).values()),
        "bad_inputs": sum(hits.get(BAD, {}).values()),
        "where": hits,
        "units": found.units,
        "verdicts": found.verdicts,
        "lost": len(found.lost),
        "doubled": len(found.doubled),
        "distorted": len(found.distorted),
        "left_behind": len(found.left),
        "tracebacks": len(found.crashed),
        "faults": found.wrong[:20],
    }


if __name__ == "__main__":
    sys.exit(main())
