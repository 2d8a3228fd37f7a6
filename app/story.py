"""The page's first sentence: how far the chain is, what was decided, what is next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app import format as words

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Story:
    """A sentence on where the run stands, what comes next, and the command for it ("" when there is nothing to type)."""

    sentence: str
    then: str
    command: str = ""


def stopped_at(verdicts: Mapping[str, Row]) -> str | None:
    """The prerequisite at which the chain stopped: the last decided one, not PASS, not overridden."""
    last = [p for p in words.TITLES if p in verdicts][-1:]
    held = [
        p for p in last if p in words.BLOCKING and verdicts[p]["status"] != "PASS" and not verdicts[p]["overridden_by"]
    ]
    return held[0] if held else None


def tell(run: Row, verdicts: Mapping[str, Row], done: Mapping[str, tuple[int, int]]) -> Story:
    """How far the run is and what is next, in two sentences."""
    phases = list(words.TITLES)
    again = f"lab pipeline --scale {run['scale']}"
    running = [p for p in phases if p in done and p not in verdicts]
    left = [p for p in phases if p not in verdicts and p not in running]
    if running:
        now = running[0]
        ready, asked = done[now]
        after = f"{words.named(left[0])} follows by itself" if left else "the chain ends with it"
        return Story(
            f"{_decided(verdicts)}; {words.named(now)} is running, {ready:,} of {words.count(asked, 'unit')} done.",
            after,
        )
    if blocked := stopped_at(verdicts):
        word = "failed" if verdicts[blocked]["status"] == "FAIL" else "is inconclusive"
        step, remark = _first_step(verdicts[blocked])
        then = (remark or "what the failure protocol says") if step else "see the reason below"
        return Story(f"{_decided(verdicts)}; {words.named(blocked)} {word}, so the chain stopped.", then, step)
    if left:
        return Story(f"{_decided(verdicts)}.", words.named(left[0]), again)
    short = [p for p in phases if verdicts[p]["status"] != "PASS"]
    if not short:
        last = "confirm it at full scale" if run["scale"] != "full" else "repeat it on another host"
        return Story("All six phases passed.", last, "lab pipeline --scale full" if run["scale"] != "full" else "")
    step, remark = _first_step(verdicts[short[-1]])
    return Story(
        f"All six phases are decided: {_counts(verdicts)}.",
        f"{words.named(short[-1])}{', ' if remark else ''}{remark}",
        step,
    )


def _decided(verdicts: Mapping[str, Row]) -> str:
    if not verdicts:
        return "No phase of six is decided yet"
    verb = "is" if len(verdicts) == 1 else "are"
    return f"{len(verdicts)} of 6 phases {verb} decided ({_counts(verdicts)})"


def _counts(verdicts: Mapping[str, Row]) -> str:
    statuses = [v["status"] for v in verdicts.values()]
    return ", ".join(f"{statuses.count(s)} {s}" for s in ("PASS", "FAIL", "INCONCLUSIVE") if s in statuses)


def _first_step(verdict: Row) -> tuple[str, str]:
    steps = verdict["next_steps"]
    return words.command_and_remark(str(steps[0])) if steps else ("", "")
