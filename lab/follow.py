"""Submitting the pipeline, following it line by line, and printing what came out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import LabError
from common.text import duration, printable, with_interval
from lab.exit_codes import EXIT_FAILED, EXIT_GATE

if TYPE_CHECKING:
    from flows.plan import Run

START_WAIT_S = 90.0  # a worker polls every second or ten; past this nobody serves the coordinator pool
AWAY_S = 600.0  # machines ask a server that is gone again for eight minutes; past this the pipeline itself has ended
AGAIN_S = 0.5


def follow_pipeline(run: Run, override: str | None, mode: str = "split") -> int:
    """Submit the pipeline (or join the one under way), follow it, print the table; returns the exit code."""
    from flows.forecast import expected_seconds
    from flows.plan import options
    from lab.services.up import connected

    expected = expected_seconds(run)
    client = connected()
    parameters = {"scale": run.scale, "override": override, "config": run.given or None, "mode": mode}
    flow_run = _submit(client, run.scale, parameters)
    again = f"lab pipeline {options(run.scale, run.given)}"
    state = _watch(client, flow_run, run.run_id, expected, again)
    if not state.is_completed():
        print(printable(f"the pipeline ended as {state.name}: {state.message or ''}"), file=sys.stderr)
        print(f"Try again: {again}", file=sys.stderr)
        return EXIT_FAILED
    return _print_end(run.run_id, chain_rows(run.run_id), tuple(expected), again)


def show_finished(run: Run) -> int | None:
    """Print the table of a run whose last phase is decided, and return its exit code; None while something is left."""
    from experiments.registry import PHASES
    from flows.plan import options
    from warehouse.paths import Paths

    rows = chain_rows(run.run_id) if Paths.local().warehouse.is_file() else []
    if [r["phase"] for r in rows] != list(PHASES) or max(rows, key=lambda r: r["decided_at"]) != rows[-1]:
        return None
    print("Every phase has its result; nothing is computed again.", flush=True)
    return _print_end(run.run_id, rows, tuple(PHASES), f"lab pipeline {options(run.scale, run.given)}")


def _print_end(run_id: str, rows: list[dict[str, Any]], phases: Sequence[str], again: str) -> int:
    """Print the table and what follows from it; the exit code."""
    print_chain(run_id, rows)
    code, text = ending(rows, phases, again)
    if text:
        print(f"\n{text}", file=sys.stderr if code == EXIT_FAILED else sys.stdout, flush=True)
    return code


def ending(rows: Sequence[Mapping[str, Any]], phases: Sequence[str], again: str) -> tuple[int, str]:
    """(exit code, the sentence under the table) of a pipeline that completed.

    Args:
        rows: the run's verdicts in the order of the phases; later ones may be of an earlier pipeline over the same plan.
        phases: all phases in order.
        again: the command that starts it again.
    """
    if not rows:
        return EXIT_FAILED, f"The pipeline completed and decided nothing. Try again: {again}"
    # A pipeline decides in order, so the verdict decided last is where it ended.
    last = max(rows, key=lambda r: r["decided_at"])["phase"]
    if last != phases[-1]:
        return EXIT_GATE, f'{last.upper()} stopped the chain. To go on all the same: {again} --override "why"'
    failed = [r["phase"].upper() for r in rows if r["status"] == "FAIL"]
    return (EXIT_GATE, f"The pipeline completed; {', '.join(failed)} said FAIL.") if failed else (0, "")


def _submit(client: Any, scale: str, parameters: dict[str, Any]) -> Any:
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Scheduled

    try:
        deployment = client.read_deployment_by_name(f"pipeline/{scale}")
    except ObjectNotFound:
        raise LabError(f"pipeline/{scale} is not deployed on this server", "prefect deploy --all") from None
    open_states = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
    under_way = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=open_states))),
    )
    same = [r for r in under_way if all(r.parameters.get(k) == v for k, v in parameters.items())]
    if same:
        print(f"joining the pipeline run {same[0].name} that is under way", flush=True)
        return same[0]
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters, state=Scheduled())


class _Patience:
    """Asks a server that may be gone for a while; says once that it is gone, and once that it is back."""

    def __init__(self, again: str, clear: str) -> None:
        self.again = again  # the command that goes on
        self.clear = clear  # of the live line, before another is printed
        self.away_s = 0.0  # in all

    def ask(self, question: Callable[[], Any]) -> Any:
        """What the server answers.

        Raises:
            LabError: it was gone for AWAY_S, lets nobody in any more, or has another database than before.
        """
        import httpx
        from prefect.exceptions import ObjectNotFound

        gone_at: float | None = None
        while True:
            try:
                answer = question()
                break
            except ObjectNotFound:
                raise LabError("the server does not know this pipeline run any more", self.again) from None
            except httpx.HTTPError as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                    status = error.response.status_code
                    raise LabError(f"the server refuses to tell of this run ({status})", self.again) from None
                if gone_at is None:
                    gone_at = time.monotonic()
                    self._say(
                        f"the server does not answer ({type(error).__name__}); what runs goes on and keeps its results"
                    )
                if time.monotonic() - gone_at > AWAY_S:
                    raise LabError(
                        f"the server did not come back within {duration(AWAY_S)}", f"lab up, then {self.again}"
                    ) from None
                time.sleep(AGAIN_S)
        if gone_at is not None:
            self.away_s += time.monotonic() - gone_at
            self._say("the server answers again")
        return answer

    def _say(self, text: str) -> None:
        print(f"{self.clear}{text}", file=sys.stderr, flush=True)


def _watch(client: Any, flow_run: Any, run_id: str, expected: dict[str, float], again: str) -> Any:
    """One live line on a terminal; elsewhere one plain line for each change. `again` is the command that goes on."""
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    # The client's own retries would be silent for a minute.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        return _followed(client, flow_run, run_id, expected, again)


def _followed(client: Any, flow_run: Any, run_id: str, expected: dict[str, float], again: str) -> Any:
    """The state in which the pipeline ended."""
    from flows.reuse import REUSE_FILE, told_lines
    from warehouse.paths import Paths

    home = Paths.local().home
    path = home / "progress.json"
    started, last, live, told = time.monotonic(), "", sys.stdout.isatty(), 0
    patience = _Patience(again, "\r\033[K" if live else "")
    while True:
        state = patience.ask(lambda: client.read_flow_run(flow_run.id)).state
        lines = told_lines(home / REUSE_FILE, str(flow_run.id))[told:]
        told += len(lines)
        for text in lines:
            print(f"\r\033[K{printable(text)}" if live else printable(text), flush=True)
        row = progress_of(path, run_id, expected)
        if row and not (state and state.is_final()):
            line = _line(row, time.monotonic() - started, expected)
            if live:
                print(f"\r\033[K{line}", end="", flush=True)
            elif (key := line.split("   elapsed")[0]) != last:
                last = key
                print(line, flush=True)
        if state and state.is_final():
            if live:
                print("\r\033[K", end="")
            return state
        waited_s = time.monotonic() - started - patience.away_s
        if state and (state.is_scheduled() or state.is_pending()) and waited_s > START_WAIT_S:
            raise LabError("no worker took the pipeline", "prefect worker start --pool coordinator, or lab up")
        time.sleep(AGAIN_S)


def progress_of(path: Path, run_id: str, phases: Mapping[str, Any]) -> dict[str, Any] | None:
    """{"phase", "done", "total"} of this run from progress.json; None when it tells nothing.

    The file only feeds a line on the screen, so a damaged one is passed over until the next is written.
    """
    try:
        row = json.loads(path.read_bytes())
        if row["run_id"] != run_id or row["phase"] not in phases:
            return None
        done, total = int(row["done"]), int(row["total"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return {"phase": row["phase"], "done": done, "total": total} if 0 <= done <= total else None


def _line(row: dict[str, Any], elapsed: float, expected: dict[str, float]) -> str:
    phase, done, total = row["phase"], row["done"], max(1, row["total"])
    names = list(expected)
    past = sum(expected[n] for n in names[: names.index(phase)])
    share = (past + expected[phase] * done / total) / sum(expected.values())
    # The plan's estimate at first; what was seen, as far as it goes.
    left = (1 - share) * (sum(expected.values()) * (1 - share) + (elapsed / share if share > 0.05 else 0) * share)
    filled = round(20 * done / total)
    bar = "#" * filled + "-" * (20 - filled)
    return f"{phase.upper()} [{bar}] {done} of {row['total']} units   elapsed {duration(elapsed)}, about {duration(left)} left"


def chain_rows(run_id: str) -> list[dict[str, Any]]:
    """The run's verdicts in the order of the phases."""
    from warehouse.database.connection import writing
    from warehouse.database.records import chain_of
    from warehouse.paths import Paths

    with writing(Paths.local()) as con:
        return chain_of(con, run_id)


def latest_chain() -> tuple[str, list[dict[str, Any]]]:
    """(run_id, verdicts) of the run decided last.

    Raises:
        LabError: nothing was decided yet.
    """
    from warehouse.database.connection import writing
    from warehouse.database.record_files import refuse_lost
    from warehouse.database.records import chain_of
    from warehouse.paths import Paths

    nothing = LabError("no phase was decided yet", "make demo, or lab run p1 --scale smoke")
    paths = Paths.local()
    refuse_lost(paths)
    if not paths.warehouse.exists():
        raise nothing  # and no empty warehouse made by looking
    with writing(paths) as con:
        row = con.execute("SELECT run_id FROM verdicts ORDER BY decided_at DESC LIMIT 1").fetchone()
        if row is None:
            raise nothing
        return row[0], chain_of(con, row[0])


def print_chain(run_id: str, rows: list[dict[str, Any]]) -> None:
    """The table of phases: main metric, interval, threshold, verdict, reason."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}
    plan = f" under plan {rows[0]['plan_id']}" if rows else ""
    table = Table(title=Text(f"run {printable(run_id)}{printable(plan)}"), title_justify="left", show_lines=True)
    for name in ("phase", "verdict", "main metric", "n", "reason"):
        table.add_column(name, overflow="fold")
    for r in rows:
        needs = "" if r["threshold"] is None else f"\nthreshold {r['threshold']:g}"
        main = f"{r['main_metric']}\n{with_interval(r['value'], r['low'], r['high'])}{needs}"
        why = f"\noverridden: {r['why']}" if r["why"] else ""
        steps = "".join(f"\ntry: {s}" for s in json.loads(r["next_steps"]))
        verdict = Text(r["status"], style=colours[r["status"]])
        cells = (main, str(r["n"]), f"{r['reason']}{why}{steps}")
        # Text, so that brackets in it are not taken for markup.
        table.add_row(r["phase"].upper(), verdict, *(Text(printable(c)) for c in cells))
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
