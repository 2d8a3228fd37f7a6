"""Workers of this machine's pools in one process: `python -m lab.services.worker --name HOST weak medium`.

`prefect worker start` serves one pool, in 100 MB, and starts a process of 87 MB beside each flow run, which looks for the flow's
code and packages. Here nothing is looked for, since the project is installed where its flows run: the worker starts the flow's
own process, by a fork of one that has its imports where the system can (lab.services.forking).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab.services.measuring import measure_when_quiet
from warehouse.paths import Paths
from workpools.pools import queue_of

if TYPE_CHECKING:
    from prefect.workers.process import ProcessWorker

LIMITS = {"coordinator": 4}  # flow runs at once: the coordinator's are small; of shards one at a time


def make_worker(pool: str, name: str) -> ProcessWorker:
    """Return a worker of Prefect's process type that starts flows without a process in between."""
    from prefect.settings import PREFECT_WORKER_HEARTBEAT_SECONDS, PREFECT_WORKER_PREFETCH_SECONDS
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

    class Configuration(ProcessJobConfiguration):
        def prepare_for_flow_run(self, *given: Any, **more: Any) -> None:
            super().prepare_for_flow_run(*given, **more)
            # A command that was configured is run as it is. Here it is Prefect's own: this Python, prefect.engine.
            self._command_configured = True

    class Worker(ProcessWorker):
        job_configuration = Configuration

    return Worker(
        work_pool_name=pool,
        name=name,
        # Its own queue beside the shared one: a worker that polls all queues would take other hosts' runs and return them.
        work_queues=["default", queue_of(name)],
        limit=LIMITS.get(pool, 1),
        prefetch_seconds=PREFECT_WORKER_PREFETCH_SECONDS.value(),
        heartbeat_interval_seconds=int(PREFECT_WORKER_HEARTBEAT_SECONDS.value()),
        create_pool_if_not_found=False,
    )


async def serve(pools: Sequence[str], name: str) -> None:
    """Serve the pools until the process is interrupted."""
    await asyncio.gather(*(make_worker(pool, name).start(printer=_say) for pool in pools))


def _say(text: object, **_: object) -> None:
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the pools that are named."""
    parser = argparse.ArgumentParser(description="Serve work pools in one process.")
    parser.add_argument("--name", required=True, help="of the host, as lab hosts shows it")
    parser.add_argument("pools", nargs="+")
    parser.add_argument("--measure", action="store_true", help="measure this machine's speeds once it is quiet")
    given = parser.parse_args(argv)
    from prefect.utilities.processutils import setup_signal_handlers_worker

    from workpools import patient_workers

    patient_workers.install()
    setup_signal_handlers_worker(os.getpid(), "the worker", _say)
    if sys.platform == "linux":
        from lab.services import forking

        forking.install()
    if given.measure:
        threading.Thread(target=measure_when_quiet, args=(Paths.local(),), daemon=True).start()
    try:
        asyncio.run(serve(given.pools, given.name))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("the worker has stopped", flush=True)


if __name__ == "__main__":
    main()
