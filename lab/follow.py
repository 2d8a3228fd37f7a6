"""Follow the pipeline line by line on any machine, and print its verdicts."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from common.errors import LabError
from common.text import duration, printable
from lab.exit_codes import EXIT_FAILED, EXIT_GATE
from lab.progress_view import Screen, View, view
from lab.submitting import How, submit, untaken
from lab.verdict_lines import print_chain, print_lines

if TYPE_CHECKING:
    from flows.plan import Run
    from flows.progress import Progress

START_WAIT_S = 90.0  # a worker polls every second or ten; later, no worker serves the coordinator pool
AWAY_S = 600.0  # machines retry for eight minutes while the server is away; later, the pipeline itself has ended
AGAIN_S = 0.5
PROGRESS_S = 1.0  # between two questions about progress, which is written no more often


class Chain(NamedTuple):
    """A run, and its verdicts in the order of the phases."""

    run_id: str
    rows: list[dict[str, Any]]


class Ending(NamedTuple):
    """The exit code of a pipeline that completed, and the sentence under its table; "" for none."""

    code: int
    text: str


class _Followed(NamedTuple):
    """The state in which the pipeline ended, and its progress if it could be read."""

    state: Any
    progress: Progress | None


def follow_pipeline(run: Run, how: How, brief: bool = False) -> int:
    """Submit the pipeline, or join the one under way; follow it and print its verdicts.

    Args:
        run: the planned run.
        how: its other parameters.
        brief: print one line a phase, without reasons and next steps.

    Returns:
        The exit code.

    Raises:
        LabError: no server, deployment or worker, or the server stays away.
    """
    from flows.forecast import expected_seconds
    from flows.plan import pipeline_command
    from lab.services.up import connected

    expected = expected_seconds(run)
    client = connected()
    flow_run = submit(client, run, how)
    if flow_run.joined:
        print(f"joining the pipeline run {flow_run.name} that is under way", flush=True)
    again = pipeline_command(run, how.override, how.mode)
    state, progress = watch(client, flow_run, run.run_id, expected, again)
    if not state.is_completed():
        print(printable(f"the pipeline ended as {state.name}: {state.message or ''}"), file=sys.stderr)
        print(f"Try again: {again}", file=sys.stderr)
        return EXIT_FAILED
    if rows := chain_rows(run.run_id):
        _print_rows(run.run_id, rows, brief)
    elif progress:
        # The coordinator's warehouse is on another machine.
        rows = _verdict_lines(progress)
    return _print_ending(rows, tuple(expected), pipeline_command(run, None, how.mode), how.until)


def show_finished(run: Run, brief: bool = False) -> int | None:
    """Print the verdicts of a run whose last phase is decided, and return its exit code; None if a phase is left."""
    from experiments.registry import PHASES
    from flows.plan import pipeline_command

    rows = chain_rows(run.run_id)
    if [r["phase"] for r in rows] != list(PHASES) or max(rows, key=lambda r: r["decided_at"]) != rows[-1]:
        return None
    print("Every phase has its result; nothing is computed again.", flush=True)
    _print_rows(run.run_id, rows, brief)
    return _print_ending(rows, tuple(PHASES), pipeline_command(run))


def _print_rows(run_id: str, rows: Sequence[Mapping[str, Any]], brief: bool) -> None:
    if brief:
        print_lines(rows)
    else:
        print_chain(run_id, rows)


def _verdict_lines(progress: Progress) -> list[dict[str, Any]]:
    """Print a line for each decided phase; return rows for `ending`."""
    decided = [row for row in progress.phases if row.verdict]
    for row in decided:
        print(printable(f"{row.phase.upper()}  {row.verdict}  {row.reason}"), flush=True)
    return [{"phase": row.phase, "status": row.verdict, "decided_at": i} for i, row in enumerate(decided)]


def _print_ending(
    rows: Sequence[Mapping[str, Any]], phases: Sequence[str], again: str, until: str | None = None
) -> int:
    code, text = ending(rows, phases, again, until)
    if text:
        print(f"\n{text}", file=sys.stderr if code == EXIT_FAILED else sys.stdout, flush=True)
    return code


def ending(rows: Sequence[Mapping[str, Any]], phases: Sequence[str], again: str, until: str | None = None) -> Ending:
    """Return how a pipeline that completed ends, from the run's verdicts in the order of `phases`.

    Later ones may be of an earlier pipeline over the same plan. `until` is the last phase that it was asked for.
    """
    if not rows:
        return Ending(EXIT_FAILED, f"The pipeline completed and decided nothing. Try again: {again}")
    # A pipeline decides in order, so the verdict decided last is where it ended.
    last = max(rows, key=lambda r: r["decided_at"])["phase"]
    if last != (until or phases[-1]):
        return Ending(EXIT_GATE, f'{last.upper()} stopped the chain. To go on all the same: {again} --override "why"')
    failed = [r["phase"].upper() for r in rows if r["status"] == "FAIL"]
    return Ending(EXIT_GATE, f"The pipeline completed; FAIL: {', '.join(failed)}.") if failed else Ending(0, "")


class _Patience:
    """Repeats questions to a server that may be away; says once that it went away, and once that it is back."""

    def __init__(self, again: str, shown: View) -> None:
        self.again = again  # the command that goes on
        self._shown = shown
        self.away_s = 0.0  # in all

    def ask(self, question: Callable[[], Any]) -> Any:
        """Return the server's answer; refuse if it was away for AWAY_S, refuses this user, or has another database."""
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
                    raise LabError(f"the server refuses to report on this run ({status})", self.again) from None
                if gone_at is None:
                    gone_at = time.monotonic()
                    away = f"the server does not answer ({type(error).__name__})"
                    self._shown.line(f"{away}; running work goes on and its results are stored", urgent=True)
                if time.monotonic() - gone_at > AWAY_S:
                    lost = f"the server did not come back within {duration(AWAY_S)}"
                    raise LabError(lost, f"lab up, then {self.again}") from None
                time.sleep(AGAIN_S)
        if gone_at is not None:
            self.away_s += time.monotonic() - gone_at
            self._shown.line("the server answers again", urgent=True)
        return answer


def watch(client: Any, flow_run: Any, run_id: str, expected: Mapping[str, float], again: str) -> _Followed:
    """Print the progress of a flow run until it ends; refuse if no worker begins it, or the server stays away.

    `expected` has the seconds of work by phase, in order; `again` is the command that goes on, for messages.
    """
    import httpx
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from flows.progress import read_progress
    from workpools.server_rows import flow_run as read_run

    progress, read_at = None, float("-inf")
    with view(expected) as shown, temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        # The client's own retries would print nothing for a minute.
        screen, patience = Screen(shown, expected), _Patience(again, shown)
        while True:
            state = patience.ask(lambda: read_run(client, flow_run.id)).state
            ended = state is not None and state.is_final()
            if ended or time.monotonic() - read_at >= PROGRESS_S:
                read_at = time.monotonic()
                with contextlib.suppress(httpx.HTTPError):  # the next question about the state meets it again
                    progress = read_progress(client, run_id, flow_run.id) or progress
            if progress:
                screen.show(progress)
            if ended:
                return _Followed(state, progress)
            waited_s = time.monotonic() - screen.started - patience.away_s
            if state and state.is_waiting() and waited_s > START_WAIT_S:
                raise untaken()
            time.sleep(AGAIN_S)


def chain_rows(run_id: str) -> list[dict[str, Any]]:
    """Return the run's verdicts of this machine's warehouse, in the order of the phases; never create a warehouse."""
    from warehouse.database.connection import reading
    from warehouse.database.records import chain_of
    from warehouse.paths import Paths

    if not Paths.local().warehouse.is_file():
        return []
    with reading(Paths.local()) as con:
        return chain_of(con, run_id)


def latest_chain() -> Chain:
    """Return the run decided last.

    Raises:
        LabError: nothing was decided yet.
    """
    from common.environment import no_such_home
    from warehouse.database.connection import reading
    from warehouse.database.record_files import refuse_lost
    from warehouse.database.records import chain_of
    from warehouse.paths import Paths

    nothing = LabError("no phase was decided yet", "make demo, or lab run p1 --scale smoke")
    paths, mistyped = Paths.local(), no_such_home()
    refuse_lost(paths)
    if not paths.warehouse.exists():
        raise LabError(mistyped, "unset LAB_HOME") if mistyped else nothing
    with reading(paths) as con:
        row = con.execute("SELECT run_id FROM verdicts ORDER BY decided_at DESC LIMIT 1").fetchone()
        if row is None:
            raise nothing
        return Chain(row[0], chain_of(con, row[0]))
