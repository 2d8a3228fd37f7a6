"""Commands for whole runs: pipeline, stop, results, collect, demo."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from common.errors import LabError
from common.text import duration, printable
from flows.forecast import expected_seconds
from flows.plan import Run, checked_why, plan, up_to
from lab import PAGE_PORT, submitting
from lab.commands import results_hosts
from lab.commands.options import (
    AllowLeakage,
    AppPort,
    AsJson,
    Config,
    Data,
    Domain,
    Mode,
    On,
    Override,
    Port,
    Scale,
    Settings,
    chosen,
    was_given,
)
from lab.commands.results_markdown import page
from lab.config_file import example
from lab.exit_codes import EXIT_FAILED, EXIT_GATE
from lab.follow import chain_rows, follow_pipeline, latest_chain, show_finished
from lab.services import assessing, up
from lab.services.processes import end_as_by_ctrl_c
from lab.verdict_lines import print_chain, print_columns
from warehouse.database.connection import reading, writing
from warehouse.database.durations import work_of
from warehouse.database.records import metrics_of, stands_under
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect as take
from warehouse.paths import Paths
from workpools.pools import SERVER_PORT

DEMO = "lab demo"
DEMO_WHY = "the demo shows every phase, whatever its gates say"


def parsed(verdict: dict[str, Any]) -> dict[str, Any]:
    """Return a row of verdicts with its JSON columns as values."""
    return {k: (json.loads(v) if k in ("findings", "next_steps") else v) for k, v in verdict.items()}


def pipeline(
    context: typer.Context,
    scale: Scale = "demo",
    override: Override = None,
    domain: Domain = None,
    data: Data = None,
    settings: Settings = None,
    allow_leakage: AllowLeakage = None,
    mode: Annotated[
        Mode, typer.Option(help="split: each unit runs once, on one host; replicate: on every host that can.")
    ] = "split",
    until: Annotated[str | None, typer.Option(help="The last phase to run; by default e2.")] = None,
    on: On = None,
    config: Config = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, and do not follow it.")] = False,
) -> None:
    """Run all phases through Prefect and follow their progress.

    If the same pipeline is running already, this follows it. Ctrl-C ends the following only; lab stop ends the pipeline.
    Exit code 3: a gate said FAIL or stopped the chain.

    With --mode replicate every host that can run a phase runs all of it, so that hosts can be compared. Values are set
    for one phase, as p2.n_test=8; values that all phases share, such as domain, are set without a phase. --config takes
    all of them from a file; lab config prints one to start from.

    Example: lab pipeline --scale smoke --set p2.n_test=8
    """
    given = chosen(context, config, settings, domain, data, on, allow_leakage)
    file = given.file
    planned = plan(given.scale, given.given, up_to(until or given.file.until))
    why = checked_why(file.override if override is None else override)
    mode = mode if was_given(context, "mode") else file.mode or mode
    source = f"{config.name}, SHA-256 {file.digest}" if config else None
    how = submitting.How(why, mode, until or file.until, given.pins, source)
    if not detach:
        raise typer.Exit(follow_pipeline(planned.run, how))
    found = submitting.start(up.connected(), planned.run, how)
    known = "is under way already" if found.joined else "is started"
    print(f"Run {planned.run.run_id} {known}. To stop it: lab stop {planned.run.run_id}")


def stop(
    run: Annotated[str | None, typer.Argument(help="Id of the run; the only one under way unless given.")] = None,
) -> None:
    """Stop a pipeline that is under way, on all machines.

    Results that are there stay, and the same lab pipeline goes on from them. It does not stop a lab run in a terminal.

    Example: lab stop demo-1a2b3c4d
    """
    stopped = submitting.stop(up.connected(), run)
    shards = f" and {stopped.shards} of its shards" if stopped.shards else ""
    print(printable(f"stopped {', '.join(stopped.pipelines)}{shards}; what has a result is not computed again"))


def config(scale: Scale = "demo") -> None:
    """Print a TOML file with all values of a run, to change and give to lab pipeline --config.

    Every value stands there with its default and what it is, as a comment.

    Example: lab config --scale full
    """
    print(example(scale), end="")


def results(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all numbers as a Markdown page.")] = False,
    hosts: Annotated[
        bool, typer.Option("--hosts", help="Show whether hosts that computed the same units agree, and who did what.")
    ] = False,
) -> None:
    """Show the verdicts of the latest run; where the output is no terminal, as columns with tabs between them.

    Example: lab results --hosts
    """
    run_id, rows = latest_chain()
    if hosts:
        results_hosts.show(run_id, as_json)
    elif as_json:
        print(json.dumps({"run_id": run_id, "phases": [parsed(r) for r in rows]}, indent=1, default=str))
    elif markdown:
        with reading(Paths.local()) as con:
            under = stands_under(con, run_id)
            print(page(run_id, rows, metrics_of(con, run_id), work_of(con, run_id), under), end="")
    elif sys.stdout.isatty():
        print_chain(run_id, rows)
    else:
        print_columns(run_id, rows)


def collect() -> None:
    """Add delivered bundles to the warehouse and publish a new snapshot.

    Example: lab collect
    """
    paths = Paths.local()
    store = Store.configured(paths)
    with writing(paths, publish=True) as con:
        taken = take(paths, store, con)
    left = f", left in the inbox {len(taken.left)}" if taken.left else ""
    print(f"added {taken.ingested}, known already {taken.known}, quarantined {len(taken.quarantined)}{left}")
    for name, reason in [*taken.quarantined, *taken.left]:
        print(printable(f"  {name}: {reason}"))


def demo(
    scale: Scale = "demo",
    override: Override = DEMO_WHY,
    gates: Annotated[
        bool, typer.Option("--gates", help="Stop at a gate that does not say PASS, as lab pipeline does.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop everything after the results.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="For scripts: end with 3 when a gate said FAIL or stopped the chain.")
    ] = False,
    port: Port = SERVER_PORT,
    app_port: AppPort = PAGE_PORT,
    machines: Annotated[
        int | None, typer.Option(help="3: a coordinator, a Raspberry Pi, a laptop and a desktop, all on this machine.")
    ] = None,
    speeds: Annotated[
        bool, typer.Option("--speeds", help="With --machines: plan with the example's speeds, as lab plan --example.")
    ] = False,
) -> None:
    """Run the whole chain on this machine: start the services, run all phases, show the results.

    The pages stay up until Ctrl-C. The chain goes on after a gate that does not say PASS, with the reason on record;
    with --gates it stops there. Exit code 0 when the pipeline completed, since a FAIL is a result; 3 with --exit-code.

    With --machines 3 the chain runs on three machines of 4, 8 and 16 GB, each with its own name, folder, cores and limit of
    memory. In the middle of E1 all processes of the laptop are killed, as by a power cut, and its work goes elsewhere;
    then it joins again, P1 runs once on each machine, and the page Hosts compares them.

    Example: lab demo --once
    """
    override = checked_why(override)
    if machines is not None:
        from lab.commands.machines import checked_number, demo_machines

        checked_number(machines)
        raise typer.Exit(demo_machines(plan(scale), None if gates else override, port, app_port, once, speeds))
    if speeds:
        raise LabError("--speeds is for --machines", "lab demo --machines 3 --speeds")
    raise typer.Exit(_on_this_machine(plan(scale).run, override, gates, once, exit_code, port, app_port))


def _on_this_machine(
    run: Run, override: str | None, gates: bool, once: bool, exit_code: bool, port: int, app_port: int
) -> int:
    """Run the demo on this machine alone; return the exit code."""
    done = None if gates else show_finished(run, brief=True)
    if done is not None and once:
        print(f"\n{closing(chain_rows(run.run_id))}")
        return done if exit_code else 0
    end_as_by_ctrl_c()
    up.check(port, app_port, True, DEMO, up.Listener())
    if done is None:
        assessing.measure_speed(lambda text: print(text, flush=True))
        expected = sum(expected_seconds(run).values())
        work = f"about {duration(expected)} of work on two cores"
        print(f"All six phases at scale {run.scale}: {work}, less what has a result already.", flush=True)
    started: tuple[str, ...] = ()
    try:
        before = {s.name for s in up.status() if s.alive}
        try:
            found = up.up(port, app_port, page=True, say=lambda text: print(text, flush=True), command=DEMO)
        finally:
            started = tuple(s.name for s in up.status() if s.name not in before)
        code = follow_pipeline(run, submitting.How(None if gates else override), brief=True) if done is None else done
        if code != EXIT_FAILED:
            print(f"\n{closing(chain_rows(run.run_id))}")
        code = 0 if code == EXIT_GATE and not exit_code else code
        if not once:
            print(f"\nPrefect  {found.ui_url}\nResults  {found.app_url}\nBoth stay up until Ctrl-C.", flush=True)
            while True:
                time.sleep(1)
    except KeyboardInterrupt:
        code = 0
        print("\nstopping", flush=True)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            up.down(started)
    return code


def closing(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the demo's last two sentences: the verdicts, and what a FAIL of so small a model means."""
    verdicts: dict[str, list[str]] = {}
    for row in rows:
        verdicts.setdefault(row["status"], []).append(row["phase"].upper())
    found = ", ".join(f"{status} for {' '.join(phases)}" for status, phases in sorted(verdicts.items(), reverse=True))
    return (
        f"The verdicts are {found}; the reasons and what to try are in: lab results\n"
        "A FAIL of P1 or E0 is the honest finding for so small a model, not an error; "
        "a full run of an earlier protocol is in docs/results/full.md."
    )
