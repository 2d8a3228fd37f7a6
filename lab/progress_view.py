"""Progress of a pipeline for people: live lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from common.text import duration, printable
from lab.verdict_lines import COLOURS

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from flows.progress import PhaseProgress, Progress


class View(Protocol):
    """What shows phases and lines; as a context manager it leaves the terminal as it was."""

    def line(self, text: str, urgent: bool = False) -> None:
        """Show a line above the phases; an urgent one stands out."""

    def phases(self, rows: Sequence[PhaseProgress], elapsed_s: float) -> None:
        """Show the phases that have begun, in order."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def view(expected: Mapping[str, float]) -> View:
    """Return the view for this process's output; `expected` has the seconds of work by phase, in order."""
    return Live(expected) if sys.stdout.isatty() else Plain(expected)


class Screen:
    """Shows each table of progress that is read: new lines once, and the phases until the end."""

    def __init__(self, shown: View, expected: Mapping[str, float]) -> None:
        self.shown = shown
        self.started = time.monotonic()
        self._expected = expected
        self._artifact_id = ""
        self._lines = 0  # shown of this artifact; a pipeline that Prefect starts again has a new one

    def show(self, progress: Progress) -> None:
        """Show what is new."""
        if progress.artifact_id != self._artifact_id:
            self._artifact_id, self._lines = progress.artifact_id, 0
        for text in progress.lines[self._lines :]:
            self.shown.line(text)
            self._lines += 1
        if known := [row for row in progress.phases if row.phase in self._expected]:
            self.shown.phases(known, time.monotonic() - self.started)


class Plain:
    """Prints a line for each change."""

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = expected
        self._last = ""

    def line(self, text: str, urgent: bool = False) -> None:
        """Print a line."""
        print(printable(text), file=sys.stderr if urgent else sys.stdout, flush=True)

    def phases(self, rows: Sequence[PhaseProgress], elapsed_s: float) -> None:
        """Print the last phase if its counts are new."""
        row = rows[-1]
        counts = f"{row.phase.upper()}  {row.done} of {row.total} units"
        if counts != self._last:
            self._last = counts
            times = (
                f"elapsed {duration(elapsed_s)}, about {duration(left_s(row, elapsed_s, self._expected))} left in all"
            )
            print(f"{counts}   {times}", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass


class Live:
    """Keeps one line a phase on the terminal, as wide as that is: bar, units, hosts, and time left or verdict."""

    def __init__(self, expected: Mapping[str, float], bars: Bars | None = None) -> None:
        self._expected = expected
        self._bars = bars or _bars()
        self._tasks: dict[str, TaskID] = {}

    def line(self, text: str, urgent: bool = False) -> None:
        """Print a line above the phases."""
        self._bars.console.print(printable(text), markup=False, highlight=False, style="yellow" if urgent else None)

    def phases(self, rows: Sequence[PhaseProgress], elapsed_s: float) -> None:
        """Show each phase that has begun."""
        for row in rows:
            if row.phase not in self._tasks:
                self._tasks[row.phase] = self._bars.add_task(
                    row.phase, total=None, phase=row.phase.upper(), units="", where="", state=""
                )
            state, where = "", printable(", ".join(row.hosts))
            if row.verdict:
                where, state = "", f"[{COLOURS.get(row.verdict, 'bold')}]{row.verdict}[/]"
            elif row is rows[-1]:
                state = f"{duration(left_s(row, elapsed_s, self._expected))} left in all"
            self._bars.update(
                self._tasks[row.phase],
                total=max(1, row.total),
                completed=row.done if row.total or not row.verdict else 1,
                units=f"{row.done} of {row.total}",
                where=where,
                state=state,
            )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for task in self._bars.tasks:  # nothing is left any more, and a phase without a verdict has none
            if task.fields["state"].endswith("left in all"):
                self._bars.update(task.id, where="", state="")
        self._bars.stop()


def _bars() -> Bars:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class OneLine(ProgressColumn):
        """A text that ends with "…" where it does not fit; only columns that may wrap give way on a narrow terminal."""

        def __init__(self, name: str, gives_way: bool = False) -> None:
            self.name = name
            super().__init__(Column(no_wrap=not gives_way))

        def render(self, task: Task) -> Text:
            text = Text.from_markup if self.name == "state" else Text
            found = text(str(task.fields[self.name]))
            found.no_wrap, found.overflow = True, "ellipsis"
            return found

    bar = BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=20))
    return Progress(
        OneLine("phase"),
        bar,
        OneLine("units"),
        OneLine("where", gives_way=True),
        OneLine("state"),
        refresh_per_second=2,
    )


def left_s(row: PhaseProgress, elapsed_s: float, expected: Mapping[str, float]) -> float:
    """Return the estimated seconds until all of `expected` is done.

    Args:
        row: the phase that runs now.
        elapsed_s: since the start of this command.
        expected: seconds of work by phase, in order.
    """
    names = list(expected)
    past = sum(expected[n] for n in names[: names.index(row.phase)])
    share = (past + expected[row.phase] * row.done / max(1, row.total)) / sum(expected.values())
    # At first the plan's estimate; with more work done, the measured speed counts for more.
    return (1 - share) * (sum(expected.values()) * (1 - share) + (elapsed_s / share if share > 0.05 else 0) * share)
