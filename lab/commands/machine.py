"""Commands for this machine and its services: assess, pools create, up, status, down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from common.errors import LabError
from common.files import write_whole
from common.limits import MAX_REPORT_BYTES
from common.text import printable
from lab import PAGE_PORT
from lab.commands.invite import print_invitation
from lab.commands.options import NO_SPEEDS, AppPort, AsJson, Port
from lab.network.lan import lan_listener
from lab.services import inbox
from lab.services import up as services
from lab.services.joined import remembered
from lab.services.up import api_url, connected
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.assess import CapabilityReport, parse_report
from workpools.assess import assess as measure
from workpools.pools import SERVER_PORT, create_pools


def assess(
    quick: Annotated[bool, typer.Option("--quick", help="Do not measure speeds; takes a second or two.")] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the report; LAB_HOME by default.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Register this report of another machine; older layouts are read too.")
    ] = None,
) -> None:
    """Measure this machine, determine its tier and register it; takes less than a minute.

    Example: lab assess --quick
    """
    paths = Paths.local()
    store = Store.configured(paths)
    report = measure(quick, api_url()) if source is None else _read(source, quick)
    content = report.model_dump_json(indent=1).encode()
    path = (out or paths.home) / f"capability_report_{report.host}.json"
    write_whole(path, content)
    store.put_report(report.host, content)
    if as_json:
        print(json.dumps(report.model_dump(mode="json"), indent=1))
        return
    for line in describe(report):
        print(printable(line))
    print(f"  report     {path}")


def _read(source: Path, quick: bool) -> CapabilityReport:
    if quick:
        wrong = "--quick and --from cannot be used together, since --from measures nothing"
        raise LabError(wrong, f"lab assess --from {source}")
    with source.open("rb") as file:
        return parse_report(file.read(MAX_REPORT_BYTES + 1))


def describe(report: CapabilityReport) -> Iterator[str]:
    """Yield the lines of the report that people read, without what was not measured."""

    def also(value: float | None, text: str) -> str:
        return "" if value is None else f", {text.format(value)}"

    yield f"{report.host}: {report.tier}"
    limit = also(report.ram_limit_gb, "limited to {:.1f} GB")

    def known(value: float | None, digits: int = 1) -> str:
        return "?" if value is None else f"{value:.{digits}f}"

    yield f"  memory     {known(report.ram_available_gb)} of {known(report.ram_total_gb)} GB available{limit}"
    yield f"  disk       {known(report.disk_free_gb, 0)} GB free" + also(report.disk_write_mb_s, "writes {:.0f} MB/s")
    cores = f"{report.cores_logical} threads" if report.cores_physical is None else f"{report.cores_physical} cores"
    yield f"  processor  {cores}" + also(report.matrix_gflops, "{:.3g} GFLOPS")
    if report.cpu_flags:
        yield f"  has        {' '.join(report.cpu_flags)}"
    yield f"  GPU        {'not known' if report.gpus is None else '; '.join(report.gpus) or 'none'}"
    yield f"  engines    {', '.join(report.engines) or 'none'}"
    if own := [name for name in report.models or () if not name.startswith("ollama/")]:
        yield f"  models     {', '.join(own)}"
    if report.embedding_texts_per_s is not None:
        yield f"  embeds     {report.embedding_texts_per_s:.3g} texts/s"
    if report.prefill_tokens_per_s is not None:
        yield f"  reads      {report.prefill_tokens_per_s:.3g} tokens/s" + also(
            report.prefill_bfloat16_tokens_per_s, "{:.3g} in bfloat16"
        )
    if report.ollama_models is not None:
        yield f"  Ollama     {', '.join(report.ollama_models) or 'has no models'}"
    if report.clock_offset_s is not None:
        yield f"  clock      {report.clock_offset_s:+.1f} s to the Prefect server's"
    for reason in report.reasons:
        yield f"  {reason}"


def pools_create() -> None:
    """Create the Prefect work pools weak, medium, strong and coordinator; existing ones stay.

    Example: lab pools create
    """
    made = create_pools(connected())
    print(f"created {', '.join(made)}" if made else "all pools exist")


def up(
    port: Port = SERVER_PORT,
    app_port: AppPort = PAGE_PORT,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Start the page as well.")] = True,
    lan: Annotated[
        bool, typer.Option("--lan", help="Listen on this machine's address in the LAN, and require keys.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="With --lan: the address of this machine to listen on; detected by default.")
    ] = None,
    inbox_port: Annotated[
        int, typer.Option(help="With --lan: port of the inbox, to which machines deliver results.")
    ] = 9494,
    serve: Annotated[
        list[str] | None,
        typer.Option(help="A pool that this machine serves, weak, medium or strong; repeatable. coordinator: no tier."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help=NO_SPEEDS)] = False,
) -> None:
    """Start the Prefect server, this machine's workers and the page; what runs already is left running.

    Pools and deployments are created, and the machine is assessed if it has no report of the last day; its speeds are measured
    in the background, once nothing else runs. Without --lan only users of this machine can connect. With --lan other
    machines can join with the key that lab invite shows.

    Example: lab up --port 4300
    """
    if address is not None and not lan:
        raise LabError(f"--address {address[:80]} needs --lan", f"lab up --lan --address {address[:80]}")
    command = "lab up --lan" if lan else "lab up"
    listener = lan_listener(address) if lan else None
    if listener and (why := inbox.start(listener, inbox_port, command)):
        print(why)
    found = services.up(
        port, app_port, page=page, say=print, command=command, listener=listener, serve=serve or (), quick=quick
    )
    print(f"Prefect  {found.ui_url}")
    if page:
        print(f"Results  {found.app_url}")
    if listener:
        print_invitation()


def status(as_json: AsJson = False) -> None:
    """Show the processes that lab started on this machine: pid, port, and the folder of logs.

    Example: lab status
    """
    rows, joined = services.status(), remembered(Paths.local())
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=1))
        return
    if joined:
        print(printable(f"joined                 {joined.api_url}"))
    if not rows:
        print(f"nothing runs; to start: {f'lab join {joined.api_url}' if joined else 'lab up'}")
    for row in rows:
        port = f"{row.address}:{row.port}" if row.port else ""
        print(f"{row.name:<22} {'runs' if row.alive else 'stopped':<8} pid {row.pid:<8} {port}".rstrip())
        if row.runs:
            print(f"  started by it{'':<18} pid {', '.join(map(str, row.runs))}")
    if any(row.name == services.ORPHAN for row in rows):
        print("An orphaned process belongs to a worker that was killed. To end it: lab down")
    if rows:
        print(f"logs                   {Paths.local().home / 'logs'}")


def down() -> None:
    """Stop the processes that lab started on this machine, and no others.

    Example: lab down
    """
    stopped = services.down()
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
