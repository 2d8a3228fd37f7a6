"""Which share of a run's time is no work on its units?

    python -m benchmarks.overhead --scale smoke --git

    {
      "benchmark": "overhead",
      "ratio": 1.63,
      "needed": 1.1111111111111112,
      "seconds": {"whole": 259.372, "units": 159.478},
      "counts": {"units": 39, "shards": 10},
      "compared": "a whole smoke run against the work on its units, over git",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 1.6, "torch": "2.13.0+cpu"},
      "share": 0.3851,
      "starts_s": [2.0, 28.9, 7.6, 3.7, 3.2, 2.0, 2.9, 4.1, 4.8, 4.0],
      "between_s": [2.6, 4.3, 2.7, 2.8, 3.9, 2.8, 4.7, 2.5, 2.2]
    }

It starts a laboratory in a temporary folder, whose one machine is this one, runs the whole chain with the packaged models and
prints JSON. `ratio` is the time of the whole run, from its first minute to its last verdict, over the time in which a unit was
worked on: 1.09 is a share of 8 % for everything else. `starts_s` are the times from a phase's or round's submission to the
first unit's beginning, `between_s` those from the last unit's end to the submission of the next shard: fetching, taking in,
deciding, planning. With --git results go through a git repository.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.laboratory import Lab
from benchmarks.common import show

NAME = "overhead"
OVERRIDE = "the whole chain is measured"
UNITS = """
SELECT u.phase, u.round, epoch((b.manifest ->> 'started_at')::TIMESTAMPTZ), epoch((b.manifest ->> 'finished_at')::TIMESTAMPTZ)
FROM units u JOIN bundles b USING (unit_id) WHERE u.run_id = ? ORDER BY 3
"""
ENDS = "SELECT epoch(started_at), epoch((SELECT max(decided_at) FROM verdicts v WHERE v.run_id = r.run_id)) FROM runs r"


@dataclass(frozen=True)
class Worked:
    """When one unit was worked on, in seconds since 1970."""

    phase: str
    round: int
    began: float
    ended: float


def busy_s(units: Sequence[Worked]) -> float:
    """Return the seconds in which at least one of the units was worked on."""
    total, until = 0.0, 0.0
    for unit in sorted(units, key=lambda u: u.began):
        total += max(0.0, unit.ended - max(unit.began, until))
        until = max(until, unit.ended)
    return total


def waits(units: Sequence[Worked], submitted: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the seconds from each submission to the next beginning of a unit, and from the last end before it."""
    starts = [min((u.began for u in units if u.began >= at), default=at) - at for at in submitted]
    before = [at - max((u.ended for u in units if u.ended <= at), default=at) for at in submitted]
    return starts, before[1:]


def measure(scale: str, git: bool) -> None:
    """Run the chain once and print what it took."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        root = Path(folder)
        lab = Lab(root / "home")
        lab.home.mkdir()
        if git:
            subprocess.run(["git", "init", "--quiet", "--bare", str(root / "store.git")], check=True)  # noqa: S603, S607
            lab.more["LAB_RESULTS_URL"] = f"git+file://{root / 'store.git'}"
        try:
            lab.up()
            done = lab.lab("pipeline", "--scale", scale, "--override", OVERRIDE, timeout=7200)
            if done.returncode not in (0, 3):
                raise RuntimeError(done.stdout + done.stderr)
            ((run,),) = lab.query("SELECT run_id FROM runs")
            units = [Worked(*row) for row in lab.query(UNITS, [run])]
            ((began, ended),) = lab.query(ENDS)
            submitted = sorted(s.created.timestamp() for s in lab.shards(run))
        finally:
            lab.down()
    busy = busy_s(units)
    starts, between = waits(units, submitted)
    show(
        NAME,
        (ended - began) / busy,
        1 / 0.9 if git else 1 / 0.92,
        {"whole": ended - began, "units": busy},
        {"units": len(units), "shards": len(submitted)},
        f"a whole {scale} run against the work on its units{', over git' if git else ''}",
        share=round(1 - busy / (ended - began), 4),
        starts_s=[round(s, 1) for s in starts],
        between_s=[round(s, 1) for s in between],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--scale", choices=("smoke", "demo"), default="smoke")
    parser.add_argument("--git", action="store_true", help="deliver results through a git repository")
    given = parser.parse_args(arguments)
    measure(given.scale, given.git)


if __name__ == "__main__":
    main()
