"""The command `run`: one phase in this process."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, NamedTuple

import typer

from common.errors import LabError
from common.text import printable, with_interval
from experiments.contract import Verdict
from experiments.fitting import unused_rows
from experiments.protocol.forecast import foretold
from experiments.registry import get_phase, module_of
from flows.local import run_local
from flows.plan import Run, options, plan
from flows.reuse import Reuse
from lab.commands.options import AllowLeakage, AsJson, Data, Domain, Scale, Settings, by_phase, settings_of, was_given
from lab.commands.pipeline import parsed
from lab.exit_codes import EXIT_GATE
from warehouse.database.connection import writing
from warehouse.database.records import chain_of, last_arguments, metrics_of
from warehouse.paths import Paths


def run(
    context: typer.Context,
    phase: Annotated[str, typer.Argument(help="p1, p2, p3, e0, e1 or e2.")],
    scale: Scale = "demo",
    domain: Domain = None,
    data: Data = None,
    settings: Settings = None,
    allow_leakage: AllowLeakage = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the last run of the phase, unless options choose another.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run one phase in this process, without a server.

    Units that have a result are reused; the command says how many, and why the others are not. With --resume it refuses
    to start from nothing: when the phase was never begun, or when changed code, data, model or settings leave no result
    to reuse. Exit code 3: the gate said FAIL.

    A value of another phase, on which this one depends, is set as p2.n_test=8; values that all phases share, such as
    domain, apply to all.

    Example: lab run p1 --domain jsonl --data problems.jsonl --scale smoke --json
    """
    module_of(phase)
    given: dict[str, dict[str, Any]] = by_phase(settings_of(settings, domain, data, allow_leakage), phase)
    paths = Paths.local()
    if resume and not _named_a_run(context):
        scale, given = _last_arguments(paths, phase)
    planned = plan(scale, given, (phase,))
    for line in _lowered(planned.run, phase):
        print(line, file=sys.stderr)
    warnings = [foretold(phase, planned.run.configs[phase])]  # printed before the first unit

    def print_progress(done: int, total: int, unit: Any) -> None:
        if warnings and (warning := warnings.pop()):
            print(f"{phase}  {warning}", file=sys.stderr)
        print(f"{phase}  {done} of {total} units done", file=sys.stderr)

    def print_reuse(found: Reuse) -> None:
        for line in found.lines():
            print(printable(line), file=sys.stderr)

    verdict = run_local(paths, planned, phase, print_progress, print_reuse, resume)
    if as_json:
        print(json.dumps(_as_json(paths, planned.run.run_id, phase), indent=1, default=str))
    else:
        _print(phase, verdict)
    if verdict.status.value == "FAIL":
        raise typer.Exit(EXIT_GATE)


def _print(phase: str, verdict: Verdict) -> None:
    m = verdict.main
    print(f"{phase}  {verdict.status.value}  {m.metric} {with_interval(m.value, m.low, m.high)}, n {m.n}")
    print(printable(verdict.reason))
    for step in verdict.next_steps:
        print(printable(f"  try: {step}"))


def _named_a_run(context: typer.Context) -> bool:
    """Return True if the command line chooses a run: by its scale or any of its values."""
    names = ("scale", "domain", "data", "settings", "allow_leakage")
    return any(was_given(context, name) for name in names)


class Arguments(NamedTuple):
    """The scale of a run, and the values that were set, by phase."""

    scale: str
    given: dict[str, dict[str, Any]]


def _last_arguments(paths: Paths, phase: str) -> Arguments:
    """Return the arguments of the last run of the phase; LabError if there is none."""
    found = None
    if paths.warehouse.exists():  # which reading would otherwise create
        with writing(paths) as con:
            found = last_arguments(con, phase)
    if found is None:
        raise LabError(f"no run of {phase} to resume", f"lab run {phase}")
    run_id, stored = found
    last = Arguments(stored["scale"], stored["config"])
    print(printable(f"{phase}  as in run {run_id}: {options(*last)}"), file=sys.stderr)
    return last


def _lowered(run: Run, phase: str) -> list[str]:
    """Return lines with the counts that the data changed, and the rows that equal classes leave unused."""
    module, config = get_phase(phase), run.configs[phase]
    own = run.given.get(phase, {})
    asked = module.Config(**{**module.SCALES.get(run.scale, {}), **own, "domain": config.domain})
    changed = {k: (v, getattr(config, k)) for k, v in asked if getattr(config, k) != v}
    smaller = ", ".join(f"{key} {now} instead of {before}" for key, (before, now) in changed.items())
    lines = [f"{phase}  counts for your data: {smaller}"] if smaller else []
    return lines + ([f"{phase}  {unused}"] if (unused := unused_rows(config)) else [])


def _as_json(paths: Paths, run_id: str, phase: str) -> dict[str, Any]:
    with writing(paths) as con:
        row = next(r for r in chain_of(con, run_id) if r["phase"] == phase)
        metrics = [{k: v for k, v in m.items() if k != "phase"} for m in metrics_of(con, run_id) if m["phase"] == phase]
    return {"verdict": parsed(row), "metrics": metrics}
