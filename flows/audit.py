"""Audit finished units: draw a sample, run it again in another process of this host, compare.

`python -m flows.audit` is that process: it reads a job from standard input and prints a line of JSON for each unit.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.environment import host_name, python
from common.errors import LabError
from experiments.backends.model_cache import Backends
from experiments.contract import PhaseConfig, Unit
from experiments.domains import fetch_data
from experiments.protocol.identity import check_unit
from experiments.registry import get_phase
from experiments.seeds import generator
from flows.chain import put_job
from flows.plan import Run
from flows.unit_run import run_unit
from warehouse.database import audits
from warehouse.database.audits import Audit, Finished
from warehouse.database.connection import writing
from warehouse.database.record_files import refuse_lost
from warehouse.delivery.bundles import MAX_ATTEMPT
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths


@dataclass
class Reruns:
    """The host on which each unit of a sample was run again, and the errors of units without a second result."""

    hosts: dict[str, str] = field(default_factory=dict)  # by unit id
    errors: dict[str, str] = field(default_factory=dict)  # by unit id


class JobPart(NamedTuple):
    """Units for the other process: their file in the store, and their ids."""

    sha256: str
    unit_ids: list[str]


def draw(paths: Paths, store: Store, run_id: str | None, fraction: float, seed: int | None, host: str | None) -> Audit:
    """Draw a random sample of a run's finished units.

    Args:
        paths, store: of this LAB_HOME; delivered bundles are ingested first.
        run_id: the run decided last unless given.
        fraction: of the finished units, above 0 to 1; at least one is drawn.
        seed: of the sample; the number of audits of this run so far unless given, so that each draws another sample.
        host: that will run them; of another host than this only units that it has not computed are drawn.

    Raises:
        LabError: no such run, nothing in it is finished, or nothing of it can be repeated with this code.
    """
    if not 0 < fraction <= 1:
        raise LabError(f"--fraction {fraction:g} is not above 0 and up to 1", "--fraction 0.05")
    refuse_lost(paths)
    if not paths.warehouse.exists():
        raise LabError("nothing is finished yet", "lab pipeline, or lab run p1 --scale smoke")
    with writing(paths, publish=True) as con:
        collect(paths, store, con)
        run_id = run_id or audits.latest_run(con) or ""
        found = audits.finished(con, run_id)
        seed = audits.audits_before(con, run_id) if seed is None else seed
    if not found:
        what = f"run {run_id!r:.80} has no finished unit" if run_id else "no unit is finished yet"
        raise LabError(what, "lab pipeline, or lab run p1 --scale smoke")
    able = [f for f in found if _repeatable(f.unit, store)]
    if not able:
        what = f"none of the {len(found)} finished units of run {run_id} can be repeated"
        mend = "git checkout the commit that computed them, or lab audit --run another"
        raise LabError(f"{what}: code, data or models of this machine differ now", mend)
    others = [f for f in able if host in (None, host_name()) or f.host != host]
    if not others:
        raise LabError(f"{host} computed every finished unit of run {run_id} itself", "lab audit, without --host")
    n = max(1, round(fraction * len(others)))
    chosen = sorted(generator(seed, "audit", run_id).choice(len(others), n, replace=False).tolist())
    sample = tuple(others[i] for i in chosen)
    return Audit(secrets.token_hex(6), run_id, seed, fraction, len(others), len(found) - len(able), sample)


def _repeatable(unit: Unit, store: Store) -> bool:
    """Return True if code, data and models of this host are those of the unit's id."""
    with suppress(LabError, OSError):
        config = get_phase(unit.phase).Config(**unit.config)
        fetch_data(config.domain, store.get_file)
        check_unit(unit, config)
        return True
    return False


def run_of(sample: Sequence[Finished], run_id: str) -> Run:
    """Return a Run with what submitting units needs: their configurations, which the units hold."""
    configs: dict[str, PhaseConfig] = {f.unit.phase: get_phase(f.unit.phase).Config(**f.unit.config) for f in sample}
    return Run(run_id, "", "", configs)


def by_phase(sample: Sequence[Finished]) -> dict[str, list[Unit]]:
    """Group the units of a sample by phase."""
    found: dict[str, list[Unit]] = {}
    for one in sample:
        found.setdefault(one.unit.phase, []).append(one.unit)
    return found


def attempt_of(sample: Sequence[Finished]) -> int:
    """Return an attempt number that no bundle of the sample has yet."""
    return min(MAX_ATTEMPT, 1 + max(f.attempts for f in sample))


def rerun_local(
    store: Store, audit: Audit, left: Sequence[Finished], reruns: Reruns, report: Callable[[str], None]
) -> None:
    """Run units again in one other process of this host; the failure of one does not stop the others.

    Args:
        left: the units of the audit to run.
        reruns: hosts and errors are added to it.
        report: called with a line after each unit.
    """
    units = [f.unit for f in left]
    reruns.hosts |= {u.unit_id: host_name() for u in units}
    text, done = json.dumps(job_of(store, audit, left)), 0
    command = [*python(), "flows.audit"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipe to the other process")
        with suppress(BrokenPipeError):
            process.stdin.write(text)
            process.stdin.close()
        for line in process.stdout:
            row = json.loads(line)
            done += 1
            if row["error"]:
                reruns.errors[row["unit_id"]] = row["error"]
            report(f"{row['phase']}  {done} of {len(units)} units run again in another process")
    if process.returncode:
        missing = {u.unit_id for u in units} - set(reruns.errors)
        reruns.errors |= dict.fromkeys(missing, f"the other process ended with code {process.returncode}")


def job_of(store: Store, audit: Audit, left: Sequence[Finished]) -> dict[str, Any]:
    """Return what the other process has to run: each phase's units."""
    run = run_of(left, audit.run_id)
    jobs = [JobPart(put_job(store, run, phase, own), [u.unit_id for u in own]) for phase, own in by_phase(left).items()]
    return {"attempt": attempt_of(left), "jobs": jobs}


def compare(paths: Paths, store: Store, audit: Audit, before: set[str], reruns: Reruns) -> None:
    """Ingest the second results as replicates, and store how they agree with the first.

    Args:
        before: bundles of these units that were there before the audit.
    """
    with writing(paths, publish=True) as con:
        collect(paths, store, con)
        audits.conclude(con, audit, reruns.hosts, before, reruns.errors)


def run_job(job: Mapping[str, Any]) -> None:
    """Run the units of a job; print a line of JSON about each."""
    paths = Paths.local()
    store = Store.configured(paths)
    backends = Backends(store.get_file)
    for part in (JobPart(*values) for values in job["jobs"]):
        units = {u["unit_id"]: Unit.from_json(u) for u in json.loads(store.get_file(part.sha256))["units"]}
        for unit_id in part.unit_ids:
            error = ""
            try:
                run_unit(units[unit_id], backends, paths, store, job["attempt"])
            except Exception as failed:
                error = f"{type(failed).__name__}: {str(failed)[:300]}"
            print(json.dumps({"unit_id": unit_id, "phase": units[unit_id].phase, "error": error}), flush=True)


if __name__ == "__main__":
    run_job(json.load(sys.stdin))
