"""Kill the parts of a laboratory with a real server at random moments while its pipelines run, and compare what comes out."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from numpy.random import Generator

from benchmarks.chaos.fake_models import embedders
from benchmarks.chaos.found import Found
from benchmarks.chaos.laboratory import Lab, given, kill

NUMBER = 6  # embedders of a run, each a unit
# Problems in memory, 78 at most at this scale; one more for each run, so that each has units of its own.
FIRST_SIZE = 16
PAUSE_S = 0.01  # of the fake embedder at each text: a unit takes seconds
LONGEST_PAUSE_S = 6.0  # between two kills
AWAY_S = 600.0  # for a run to come to its verdict after the last kill
COSTLY = 2  # kills a run that cost a unit one of its three attempts
METRICS = (
    "SELECT metric, condition, value, low, high, n, failed, method FROM metrics WHERE run_id = ? AND host = 'all' "
    "AND NOT timing ORDER BY position"
)
VERDICTS = (
    "SELECT phase, status, reason, main_metric, value, low, high, n, findings FROM verdicts WHERE run_id = ? ORDER BY 1"
)
TRIALS = (
    "SELECT unit_id, problem_id, condition, answer, truth, error FROM counted_trials JOIN units USING (unit_id) "
    "WHERE run_id = ? ORDER BY unit_id, ordinal"
)
UNITS = "SELECT count(DISTINCT unit_id) FROM units WHERE run_id = ?"
COUNTED = (
    "SELECT unit_id, count(sha256) FILTER (replicate = 0) AS n FROM units LEFT JOIN bundles USING (unit_id) WHERE run_id = ? "
    "GROUP BY 1 HAVING n <> 1"
)
GIVEN_UP = "SELECT unit_id, why FROM given_up WHERE run_id = ?"


class Striker:
    """Kills one part of a laboratory at a time, and sees to it that it goes on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.kinds: dict[str, Callable[[], bool]] = {
            "pipeline's process": lambda: self._flow("pipeline"),
            "shard's process": lambda: self._flow("shard"),
            "worker": lambda: self._service("worker-coordinator"),
            "server": lambda: self._service("server"),
            "everything": self._everything,
        }
        self.costly = ("shard's process", "everything")

    def _flow(self, tag: str) -> bool:
        """Kill the process of a flow run with this tag."""
        worker = self._running("worker-coordinator")
        found = self.lab.flow_processes(worker, tag) if worker else []
        kill(found[:1])
        return bool(found)

    def _service(self, name: str) -> bool:
        if found := self._running(name):
            kill([found])
            self.lab.up()
        return found is not None

    def _everything(self) -> bool:
        self.lab.kill_everything()
        self.lab.up()
        return True

    def _running(self, name: str) -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.lab.services()[name])
        return None


def disturb(lab: Lab, arguments: list[str], kills: int, rng: Generator) -> Counter[str]:
    """Run a pipeline to its verdict, strike it up to `kills` times, and start the command again where it ends without one.

    Raises:
        AssertionError: there was no verdict in time.
    """
    hit, striker = Counter[str](), Striker(lab)
    command: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + AWAY_S
    while command is None or command.poll() not in (0, 3):
        if command is None or command.poll() is not None:
            if command is not None:
                lab.up()
            command = lab.start("pipeline", *arguments)
        pause = time.monotonic() + float(rng.uniform(0.2, LONGEST_PAUSE_S))
        while time.monotonic() < pause and command.poll() is None:
            time.sleep(0.05)
        left = kills - sum(hit.values())
        if command.poll() is None and left:
            kinds = [
                k for k in striker.kinds if k not in striker.costly or sum(hit[c] for c in striker.costly) < COSTLY
            ]
            kind = str(rng.choice([*kinds, "command"]))
            if kind == "command":
                command.kill()
                command.wait()
            struck = kind == "command" or striker.kinds[kind]()
            hit[kind] += struck
            deadline = time.monotonic() + AWAY_S
        if time.monotonic() > deadline:
            command.kill()
            raise AssertionError(f"no verdict after {hit}\n{lab.logs()}")
    return hit


def compare(lab: Lab, run: str, alone: Lab, undisturbed: str) -> Found:
    """Compare a run with the same one that nothing disturbed."""
    found = Found(verdicts=1)
    (n,) = lab.query(UNITS, [run])[0]
    found.units = int(n)
    for unit_id, count in lab.query(COUNTED, [run]):
        (found.doubled if count else found.lost).append(f"unit {unit_id} of {run} has {count} bundles that count")
    found.lost += [f"unit {unit_id} of {run} was given up: {why}" for unit_id, why in lab.query(GIVEN_UP, [run])]
    for what, sql in (("verdict", VERDICTS), ("metrics", METRICS), ("trials", TRIALS)):
        mine, wanted = lab.query(sql, [run]), alone.query(sql, [undisturbed])
        if mine != wanted:
            where = (
                found.lost if len(mine) < len(wanted) else found.doubled if len(mine) > len(wanted) else found.distorted
            )
            where.append(f"{what} of {run}: {len(mine)} rows, {len(wanted)} undisturbed")
    found.distorted += [f"in quarantine: {row}" for row in lab.query("SELECT * FROM quarantine")]
    return found


def run(folder: Path, kills: int, rng: Generator, until: float) -> tuple[Counter[str], Found]:
    """Kill so many times, over as many runs as that needs.

    Args:
        until: time.monotonic() after which no new run is begun.

    Returns:
        Kills by what was killed, and what was found.
    """
    hit, found = Counter[str](), Found()
    alone, lab = Lab(folder / "alone"), Lab(folder / "lab")
    for one, pause_s in ((alone, 0.0), (lab, PAUSE_S)):
        one.home.mkdir(parents=True)
        one.more = embedders(one.home, pause_s)
    try:
        lab.up()
        size = FIRST_SIZE
        while sum(hit.values()) < kills and time.monotonic() < until:
            arguments = given(NUMBER, size)
            before = alone.lab("run", "p1", *arguments)
            if before.returncode not in (0, 3):
                raise AssertionError(before.stderr)
            hit += disturb(lab, arguments, kills - sum(hit.values()), rng)
            if lab.lab("collect").returncode:
                raise AssertionError(lab.logs())
            found.add(compare(lab, lab.run_of(n_memory=size), alone, alone.run_of(n_memory=size)))
            size += 1
    finally:
        lab.down()
    return hit, found
