"""How many shards a minute does Prefect's server carry on SQLite and on PostgreSQL, and does it lose any of them?

    python -m benchmarks.server_shards --shards 200 --workers 6

    {"benchmark": "server_shards", "ratio": 0.95, "needed": null, "seconds": {"sqlite": 2.694, "postgresql": 2.848},
     "counts": {"shards": [200, 200], "workers": 6}, "compared": "seconds a shard on two databases of Prefect's server",
     "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 5.5, "torch": "2.13.0+cpu"},
     "found": [
      {"database": "sqlite", "shards": 200, "without_result": 0, "trials": 4800, "seconds": 538.7, "shards_a_minute": 22.3,
       "submission_median_s": 0.22, "submission_worst_s": 1.101, "states": {"COMPLETED": 200}, "database_errors": {}},
      {"database": "postgresql", "shards": 200, "without_result": 0, "trials": 4800, "seconds": 569.5, "shards_a_minute": 21.1,
       "submission_median_s": 0.377, "submission_worst_s": 2.185, "states": {"COMPLETED": 200}, "database_errors": {}}]}

For each database `lab up` starts a server, and workers that believe to be on other machines join it. The pipeline's own
dispatcher submits shards of one unit each and keeps as many open as the pipeline would. A unit is one of P1 on machines
that lack sentence-transformers (a module that cannot be imported stands in its place), so that it computes nothing, yet is
a real task with a real bundle; what takes the time is starting Python and asking Prefect. In what order they are asked
changes nothing: each database has a server, workers and folders of its own, and goes away with them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import show
from benchmarks.postgresql import database, free_port

NAME = "server_shards"
DATABASES = ("sqlite", "postgresql")
POOL = "weak"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
STATES_S = 2.0  # between two questions about what has ended, as the pipeline asks
WAIT_S = 600.0  # for workers to come online, and for the last shards to end
LACKING = 'raise ImportError("left out, so that a unit costs nothing")\n'
DATABASE_ERROR = re.compile(r"database is locked|OperationalError|DBAPIError|TimeoutError|deadlock|too many clients")


@contextmanager
def _laboratory(home: Path, workers: int, url: str | None) -> Iterator[None]:
    """Server and workers in `home`, and this process's environment that of a program of theirs."""
    without = home / "without"
    without.mkdir(parents=True)
    (without / "sentence_transformers.py").write_text(LACKING, encoding="utf-8")
    port = free_port()
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    found_at = os.pathsep.join(filter(None, (str(without), os.environ.get("PYTHONPATH"))))
    ours |= {"LAB_HOME": str(home / "lab"), "LAB_HOST": "host-1", "PYTHONPATH": found_at, "HF_HUB_OFFLINE": "1"}
    os.environ.clear()
    os.environ.update(ours)
    lab = [sys.executable, "-m", "lab"]
    try:
        up = [*lab, "up", "--quick", "--no-page", "--port", str(port)]
        told = ours | ({"LAB_DATABASE_URL": url} if url else {})
        subprocess.run(up, env=told, check=True, stdout=sys.stderr)  # noqa: S603
        _join(port, range(2, workers + 1))
        yield
    finally:
        subprocess.run([*lab, "down"], env=ours, check=True, stdout=sys.stderr)  # noqa: S603


def _join(port: int, numbers: Sequence[int]) -> None:
    """Further workers of the pool, each with the name of another host."""
    from lab.services.environments import prefect_environment
    from lab.services.processes import start, wait_until
    from lab.services.up import worker_command
    from warehouse.paths import Paths

    paths = Paths.local()
    told = prefect_environment(paths, port)
    os.environ.update({k: v for k, v in told.items() if k.startswith("PREFECT_")})
    from workpools.pools import connect, create_queues, online_workers

    client = connect(told["PREFECT_API_URL"])
    for number in numbers:
        os.environ["LAB_HOST"] = f"host-{number}"
        create_queues(client, [POOL], f"host-{number}")
        start(paths, f"worker-{number}", worker_command(POOL), told | {"LAB_HOST": f"host-{number}"})
    os.environ["LAB_HOST"] = "host-1"
    if not wait_until(lambda: len(online_workers(client).get(POOL, [])) == len(numbers) + 1, WAIT_S):
        raise ValueError(f"not all workers came online: {online_workers(client)}")


def _plan(shards: int) -> tuple[Any, list[Any]]:
    """The run, and its units, which differ in a number that changes nothing of their work."""
    from dataclasses import replace

    from experiments.findings import Earlier
    from experiments.registry import configure, get_phase
    from flows.chain import open_run
    from flows.plan import plan
    from warehouse.database.connection import writing
    from warehouse.database.records import save_units
    from warehouse.paths import Paths
    from workpools.shards import SHARD_SECONDS

    p1, units = get_phase("p1"), []
    for i in range(shards):
        config = configure("p1", "smoke", {"embedders": ["all-MiniLM-L6-v2"], "n_memory": 12, "k": i + 1})
        (unit,) = p1.units(config, Earlier(), [])
        units.append(replace(unit, cost=SHARD_SECONDS))  # so that each is a shard
    with writing(Paths.local()) as con:
        run = open_run(con, plan("smoke"))
        save_units(con, run.run_id, "p1", units)
    return run, units


def _submitted(
    run: Any, units: Sequence[Any], workers: int, longest_s: float
) -> tuple[Counter[str], list[float], float]:
    """(states in which shards ended, seconds that each submission took, seconds in all)."""
    from unittest.mock import patch

    from prefect import flow, get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        FlowRunFilterTags,
    )

    from flows import dispatch
    from warehouse.delivery.results_store import Store
    from warehouse.paths import Paths
    from workpools.shards import MOST_SHARDS, SHARDS_A_WORKER

    took: list[float] = []
    plain = dispatch.run_deployment

    def timed(*arguments: Any, **given: Any) -> Any:
        began = time.perf_counter()
        found = plain(*arguments, **given)
        took.append(time.perf_counter() - began)
        return found

    def ended(client: Any, *states: Any) -> int:
        kind = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
        mine = FlowRunFilter(tags=FlowRunFilterTags(all_=[run.run_id]), state=kind)
        return int(client.count_flow_runs(flow_run_filter=mine))

    @flow(name="server-shards", persist_result=False)
    def submit() -> None:
        store, most = Store.configured(Paths.local()), min(workers * SHARDS_A_WORKER, MOST_SHARDS)
        sent = done = 0
        with get_client(sync_client=True) as client:
            while (may := sent < len(units) and time.monotonic() - began < longest_s) or done < sent:
                if now := units[sent : sent + most - (sent - done)] if may else []:
                    dispatch.Dispatcher(store, run).submit("p1", now, 1)
                    sent += len(now)
                time.sleep(STATES_S)
                done = ended(client, *ENDED)
                if time.monotonic() - began > longest_s + WAIT_S:
                    raise ValueError(f"{done} of {sent} shards ended")

    began = time.monotonic()
    with patch.object(dispatch, "run_deployment", timed):
        submit()
    seconds = time.monotonic() - began
    with get_client(sync_client=True) as client:
        return Counter({state: ended(client, state) for state in ENDED}), took, seconds


def _collected(units: Sequence[Any]) -> tuple[int, int]:
    """(units without a result, trials)."""
    from warehouse.database.connection import writing
    from warehouse.database.records import done_units
    from warehouse.delivery.results_store import Store
    from warehouse.ingest.collector import collect
    from warehouse.paths import Paths

    paths = Paths.local()
    with writing(paths) as con:
        collect(paths, Store.configured(paths), con)
        done = done_units(con, [u.unit_id for u in units])
        (trials,) = con.execute("SELECT count(*) FROM trials").fetchone() or (0,)
    return len(units) - len(done), int(trials)


def measure(kind: str, shards: int, workers: int, longest_s: float, url: str | None) -> dict[str, Any]:
    """One database's numbers, of as many shards as could be submitted in so many seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-shards-") as name, _laboratory(Path(name), workers, url):
        run, units = _plan(shards)
        states, took, seconds = _submitted(run, units, workers, longest_s)
        lost, trials = _collected(units[: len(took)])
        log = (Path(name) / "lab" / "logs" / "server.log").read_text(encoding="utf-8", errors="replace")
    return {
        "database": kind,
        "shards": len(took),
        "without_result": lost,
        "trials": trials,
        "seconds": round(seconds, 1),
        "shards_a_minute": round(60 * len(took) / seconds, 1),
        "submission_median_s": round(statistics.median(took), 3),
        "submission_worst_s": round(max(took), 3),
        "states": {state: n for state, n in states.items() if n},
        "database_errors": dict(
            Counter(found[0] for line in log.splitlines() if (found := DATABASE_ERROR.search(line)))
        ),
    }


def _measured(kind: str, shards: int, workers: int, longest_s: float) -> dict[str, Any]:
    """The same in a process of its own, since Prefect's client keeps to the server that it met first."""
    again = ["--one", kind, "--shards", str(shards), "--workers", str(workers), "--seconds", str(longest_s)]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.server_shards", *again], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shards", type=int, default=200, help="flow runs, each with one unit")
    parser.add_argument("--workers", type=int, default=6, help="workers, each with a name of its own")
    parser.add_argument("--one", choices=DATABASES, help="measure this database alone, and print its numbers in a line")
    parser.add_argument("--seconds", type=float, default=3600.0, help="submit no more after so long")
    given = parser.parse_args(arguments)
    if given.one == "sqlite":
        print(json.dumps(measure(given.one, given.shards, given.workers, given.seconds, None)))
    elif given.one:
        with database() as url:
            print(json.dumps(measure(given.one, given.shards, given.workers, given.seconds, url)))
    else:
        rows = [_measured(kind, given.shards, given.workers, given.seconds) for kind in DATABASES]
        # Seconds a shard, since one of them may have been stopped earlier.
        a_shard = {row["database"]: row["seconds"] / row["shards"] for row in rows}
        counts = {"shards": [row["shards"] for row in rows], "workers": given.workers}
        ratio = a_shard["sqlite"] / a_shard["postgresql"]
        show(NAME, ratio, None, a_shard, counts, "seconds a shard on two databases of Prefect's server", found=rows)


if __name__ == "__main__":
    main()
