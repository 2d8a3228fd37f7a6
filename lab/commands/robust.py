"""The command `robust`: does a verdict survive other choices?"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from common.text import printable, with_interval
from experiments.backends.catalog import backend
from experiments.protocol.specifications import ROBUST, Specification, as_given, specifications
from experiments.registry import module_of
from flows.plan import plan
from flows.robust import decide_each
from lab.commands.options import AllowLeakage, AsJson, Data, Domain, Scale, Settings, by_phase, settings_of
from lab.tables import print_table
from warehouse.paths import Paths
from warehouse.queries import robustness


def robust(
    phase: Annotated[str, typer.Argument(help=f"{', '.join(ROBUST[:-1])} or {ROBUST[-1]}.")],
    scale: Scale = "demo",
    domain: Domain = None,
    data: Data = None,
    settings: Settings = None,
    allow_leakage: AllowLeakage = None,
    every: Annotated[bool, typer.Option("--all", help="All combinations, instead of one change at a time.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decide a phase again under other choices, and say in how many of them its verdict stays.

    It varies the order of the options, the calibration, the problems in memory (not in E2), the run seeds, the precision, the
    number of memos shown and, in E1, how many families are under way at a time: one choice at a time, or with --all every
    combination. Prompts that are the same are sent once, and units with a result are reused, so that an interrupted command
    goes on where it was. The page of the phase shows the curve.

    Example: lab robust p2 --scale demo
    """
    module_of(phase)
    given = by_phase(settings_of(settings, domain, data, allow_leakage), phase)
    study = plan(scale, given, (phase,))
    config = study.run.configs[phase]
    wanted = specifications(phase, config, backend(config.model).precisions(config.model), every)
    place = {id(one): number for number, one in enumerate(wanted, 1)}

    def print_progress(one: Specification, done: int, total: int) -> None:
        where = f"{place[id(one)]} of {len(wanted)}"
        print(printable(f"{phase}  {where}, {one}: {done} of {total} units done"), file=sys.stderr)

    paths = Paths.local()
    failed = [d for d in decide_each(paths, study, phase, wanted, print_progress) if d.why_not]
    run_id = study.run.run_id
    rows, hosts = robustness.specifications(run_id, phase), robustness.by_host(run_id, phase)
    if as_json:
        left = [{"settings": as_given(d.specification), "why_not": d.why_not} for d in failed]
        print(json.dumps({"specifications": rows, "not_decided": left, "hosts": hosts}, indent=1))
        return
    print_table(_effect(rows[0]), ("specification", "verdict", "effect", "n"), map(_row, rows), right=("n",))
    for one in failed:
        print(printable(f"{phase}  not decided, {one.specification}: {one.why_not}"))
    own = rows[0]["conclusion"]
    print(f"{phase}  {own} stays in {sum(r['same'] for r in rows)} of {len(rows)} specifications")
    if len(hosts) > 1:
        same = sum(h["conclusion"] == own for h in hosts)
        print(f"{phase}  by the results of each host alone, {own} stays on {same} of {len(hosts)} hosts")


def _effect(row: dict[str, Any]) -> str:
    """Return what the numbers of the table are."""
    return f"effect: {row['metric']} {row['condition']}".strip()


def _row(row: dict[str, Any]) -> list[str]:
    value = with_interval(row["value"], row["low"], row["high"])
    return [str(Specification(row["settings"])), row["conclusion"], value, str(row["n"])]
