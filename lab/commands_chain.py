"""Commands about the experiments: pipeline, results, collect, sync, demo."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from experiments.errors import LabError
from lab import PAGE_PORT
from lab.commands_machine import AppPort, AsJson, Port
from lab.follow import printable
from workpools.pools import SERVER_PORT

Scale = Annotated[str, typer.Option(help="smoke, demo or full.")]
Override = Annotated[str | None, typer.Option(help="Why to go on after a gate that does not say PASS; goes on record.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE, the value as JSON or plain text; repeatable.")
]

AllowLeakage = Annotated[
    str | None, typer.Option(help="Why to go on with data that leak; goes on record and marks every result.")
]

Domain = Annotated[str | None, typer.Option(help="big_o, equations, or jsonl with --data.")]
Data = Annotated[Path | None, typer.Option(help="Your own labelled problems, one JSON object a line (lab data check).")]

Mode = Literal["split", "replicate"]

DEMO_WHY = "the demo shows every phase, whatever its gates say"


def parse_settings(given: list[str] | None) -> dict[str, Any]:
    """{"n_test": 20} from ["n_test=20"].

    Raises:
        LabError: an entry without "=".
    """
    values: dict[str, Any] = {}
    for entry in given or []:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise LabError(f"--set {entry!r} is not KEY=VALUE", "for example --set n_test=20")
        try:
            values[key] = json.loads(value)
        except (ValueError, RecursionError):
            values[key] = value
    return values


def parsed(verdict: dict[str, Any]) -> dict[str, Any]:
    """A row of verdicts with its JSON columns as values."""
    return {k: (json.loads(v) if k in ("carried", "next_steps") else v) for k, v in verdict.items()}


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
    from lab.follow import follow_pipeline

    given = by_phase(settings_of(settings, domain, data, allow_leakage))
    raise typer.Exit(follow_pipeline(scale, checked_why(override), given, mode))


def checked_why(why: str | None, option: str = "--override") -> str | None:
    """The reason to go on; LabError for an empty one, which would say nothing on record."""
    if why is not None and not why.strip():
        raise LabError(f"{option} {why!r} gives no reason", f'{option} "why"')
    return why


def allowed(why: str | None) -> dict[str, Any]:
    """The setting that lets every phase go on with data that leak."""
    return {} if checked_why(why, "--allow-leakage") is None else {"allow_leakage": why}


def settings_of(
    given: list[str] | None, domain: str | None = None, data: Path | None = None, allow_leakage: str | None = None
) -> dict[str, Any]:
    """All values that a command line sets: --set, --domain and --data, --allow-leakage.

    Raises:
        LabError: data without the domain that reads them or the other way round, or a value set twice.
    """
    values = parse_settings(given) | allowed(allow_leakage)
    if domain is None and data is None:
        return values
    if "domain" in values:
        raise LabError(f"the domain is given twice, --set domain={values['domain']} as well", "leave one of them out")
    if data is not None and domain not in (None, "jsonl"):
        raise LabError(f"--domain {domain} makes its own problems and reads no --data", "--domain jsonl")
    if data is None and domain == "jsonl":
        raise LabError("--domain jsonl needs a file", "--domain jsonl --data problems.jsonl")
    return values | {"domain": domain if data is None else f"jsonl:{data.resolve()}"}


def by_phase(values: dict[str, Any], own: str | None = None) -> dict[str, dict[str, Any]]:
    """{"p2": {"n_test": 8}} from {"p2.n_test": 8}, or from {"n_test": 8} where `own` is p2.

    A field that all phases share, without a phase, is given to each, since they work on the same problems.

    Raises:
        LabError: a key that names no phase, or an unknown one.
    """
    from experiments.contract import PhaseConfig
    from experiments.registry import PHASES, module_of

    shared = {key: value for key, value in values.items() if key in PhaseConfig.model_fields}
    found: dict[str, dict[str, Any]] = {phase: dict(shared) for phase in PHASES} if shared else {}
    for key, value in values.items():
        if key in shared:
            continue
        phase, dot, name = key.partition(".")
        if not dot and own is None:
            raise LabError(f"--set {key}: no phase named", f"write --set p2.{key}={json.dumps(value)}")
        phase, name = (phase, name) if dot else (str(own), key)
        module_of(phase)
        found.setdefault(phase, {})[name] = value
    return found


def results(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="All numbers as a page to keep.")] = False,
) -> None:
    """The verdicts of the latest run.

    Example: lab results --markdown
    """
    from lab.follow import latest_chain, print_chain
    from lab.results_page import page
    from warehouse.database import writing
    from warehouse.places import Places
    from warehouse.records import metrics_of, stands_under, work_of

    run_id, rows = latest_chain()
    if as_json:
        print(json.dumps({"run_id": run_id, "phases": [parsed(r) for r in rows]}, indent=1, default=str))
    elif markdown:
        with writing(Places.here()) as con:
            under = stands_under(con, run_id)
            print(page(run_id, rows, metrics_of(con, run_id), work_of(con, run_id), under), end="")
    else:
        print_chain(run_id, rows)


def collect() -> None:
    """Take delivered bundles into the warehouse and publish the snapshot.

    Example: lab collect
    """
    from warehouse.collector import collect as take
    from warehouse.database import writing
    from warehouse.places import Places
    from warehouse.transport import Store

    places = Places.here()
    store = Store.here(places)
    with writing(places, publish=True) as con:
        taken = take(places, store, con)
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
    from flows.chain import expected_seconds
    from lab import services
    from lab.follow import duration, follow_pipeline, show_finished

    override = checked_why(override)
    done = None if gates else show_finished(scale)
    if done is not None and once:
        raise typer.Exit(done)
    expected = sum(expected_seconds(scale).values())
    if done is None:
        work = f"about {duration(expected)} of work on two cores"
        print(f"All six phases at scale {scale}: {work}, less what has a result already.", flush=True)
    # A stop by SIGTERM takes the same way out as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    started: tuple[str, ...] = ()
    try:
        before = {s["name"] for s in services.status() if s["alive"]}
        try:
            found = services.up(port, app_port, page=True, say=lambda text: print(text, flush=True), command="lab demo")
        finally:
            started = tuple(s["name"] for s in services.status() if s["name"] not in before)
        code = follow_pipeline(scale, None if gates else override, {}) if done is None else done
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
            services.down(started)
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add these commands to the `lab` command."""
    for command in (pipeline, results, collect, demo):
        app.command()(command)
