"""The command `report`: a run as one HTML file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from common.errors import LabError
from common.files import write_whole
from common.text import size
from warehouse.queries import snapshot


def report(
    run: Annotated[str | None, typer.Option(help="The run; the latest by default.")] = None,
    out: Annotated[Path, typer.Option(help="File to write; an existing one is replaced.")] = Path("report.html"),
) -> None:
    """Write a run as one HTML file with verdicts, plots and tables that opens without a server.

    Example: lab report --out report.html
    """
    state = snapshot.state()
    if state.kind == "missing":
        raise LabError(state.detail or "there are no results on this host yet", state.mend)
    if state.kind != "ready":
        raise LabError(f"the results cannot be shown: {state.detail}", state.mend)
    if not out.absolute().parent.is_dir():
        raise LabError(f"no folder {out.absolute().parent}", f"mkdir -p {shlex.quote(str(out.absolute().parent))}")
    if out.is_dir():
        raise LabError(f"{out} is a folder", f"lab report --out {shlex.quote(str(out / 'report.html'))}")
    with snapshot.reporting_damage():
        known = [r["run_id"] for r in snapshot.runs()]
    if not known:
        raise LabError("there is no run yet", "lab pipeline --scale demo")
    if run is not None and run not in known:
        raise LabError(f"unknown run {run[:80]!r}", f"choose one of: {', '.join(known[:5])}")
    try:
        from app.report.html import page
    except ModuleNotFoundError as error:
        wrong = f"the page's packages are not installed ({error.name})"
        raise LabError(wrong, "pip install '.[coordinator]'") from None
    chosen = run or known[0]
    with snapshot.reporting_damage():
        content = page(chosen).encode("utf-8", "replace")
    write_whole(out, content)
    print(f"{chosen} in {out}, {size(len(content))}")
