"""Commands about the experiments: pipeline, results, collect, sync, demo."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import Annotated, Any

import typer

from common.text import duration, printable
from flows.forecast import expected_seconds
from flows.plan import plan
from lab import PAGE_PORT
from lab.commands.options import (
    AllowLeakage,
    AppPort,
    AsJson,
    Data,
    Domain,
    Mode,
    Override,
    Port,
    Scale,
    Settings,
    by_phase,
    checked_why,
    settings_of,
)
from lab.commands.results_markdown import page
from lab.follow import follow_pipeline, latest_chain, print_chain, show_finished
from lab.services import up
from warehouse.database.connection import writing
from warehouse.database.durations import work_of
from warehouse.database.records import metrics_of, stands_under
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect as take
from warehouse.paths import Paths
from workpools.pools import SERVER_PORT

DEMO_WHY = "the demo shows every phase, whatever its gates say"


def parsed(verdict: dict[str, Any]) -> dict[str, Any]:
    """A row of verdicts with its JSON columns as values."""
    return {k: (json.loads(v) if k in ("findings", "next_steps") else v) for k, v in verdict.items()}


def pipeline(
    scale: Scale = "demo",
    override: Override = None,
    domain: Domain = None,
    data: Data = None,
    settings: Settings = None,
    allow_leakage: AllowLeakage = None,
    mode: Annotated[
        Mode, typer.Option(help="split: each unit once, somewhere; replicate: on every fit host.")
    ] = "split",
) -> None:
    """Run all phases through Prefect and follow them; a run that is under way is joined.

    With --mode replicate every host that fits a phase runs all of it, so that hosts can be compared.

    Values are set by phase; those that all phases share, such as domain, without one.

    Example: lab pipeline --scale smoke --set p2.n_test=8
    """
    planned = plan(scale, by_phase(settings_of(settings, domain, data, allow_leakage)))
    raise typer.Exit(follow_pipeline(planned.run, checked_why(override), mode))


def results(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="All numbers as a page to keep.")] = False,
) -> None:
    """The verdicts of the latest run.

    Example: lab results --markdown
    """
    run_id, rows = latest_chain()
    if as_json:
        print(json.dumps({"run_id": run_id, "phases": [parsed(r) for r in rows]}, indent=1, default=str))
    elif markdown:
        with writing(Paths.local()) as con:
            under = stands_under(con, run_id)
            print(page(run_id, rows, metrics_of(con, run_id), work_of(con, run_id), under), end="")
    else:
        print_chain(run_id, rows)


def collect() -> None:
    """Take delivered bundles into the warehouse and publish the snapshot.

    Example: lab collect
    """

    paths = Paths.local()
    store = Store.configured(paths)
    with writing(paths, publish=True) as con:
        taken = take(paths, store, con)
    left = f", left where they are {len(taken.left)}" if taken.left else ""
    print(f"taken in {taken.ingested}, known {taken.known}, quarantined {len(taken.quarantined)}{left}")
    for name, reason in [*taken.quarantined, *taken.left]:
        print(printable(f"  {name}: {reason}"))


def demo(
    scale: Scale = "demo",
    override: Override = DEMO_WHY,
    gates: Annotated[
        bool, typer.Option("--gates", help="Stop at a gate that does not say PASS, as lab pipeline does.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop everything after the table.")] = False,
    port: Port = SERVER_PORT,
    app_port: AppPort = PAGE_PORT,
) -> None:
    """Set up, run the whole chain for real, show the results and keep the pages up until Ctrl-C.

    A gate that does not say PASS is passed on record, so that every phase is seen; with --gates it stops the chain.

    Example: lab demo --once
    """
    override = checked_why(override)
    run = plan(scale).run
    done = None if gates else show_finished(run)
    if done is not None and once:
        raise typer.Exit(done)
    expected = sum(expected_seconds(run).values())
    if done is None:
        work = f"about {duration(expected)} of work on two cores"
        print(f"All six phases at scale {scale}: {work}, less what has a result already.", flush=True)
    # A stop by SIGTERM takes the same way out as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    started: tuple[str, ...] = ()
    try:
        before = {s["name"] for s in up.status() if s["alive"]}
        try:
            found = up.up(port, app_port, page=True, say=lambda text: print(text, flush=True), command="lab demo")
        finally:
            started = tuple(s["name"] for s in up.status() if s["name"] not in before)
        code = follow_pipeline(run, None if gates else override) if done is None else done
        print(f"\nPrefect  {found.ui_url}\nResults  {found.app_url}", flush=True)
        if not once:
            print("Both stay up until Ctrl-C.", flush=True)
            while True:
                time.sleep(1)
    except KeyboardInterrupt:
        code = 0
        print("\nstopping", flush=True)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            up.down(started)
    raise typer.Exit(code)
