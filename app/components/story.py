"""The first lines of Overview and report: how far the chain is, what was decided, what is next, the facts behind it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from app import format as words
from app.components import cards
from app.phase_names import ORDER, named, text_of
from app.reading import Row
from common.settings import set_options
from warehouse.queries.agreement import NOT_A_TEST, RunAgreement
from warehouse.queries.snapshot import NextStep


@dataclass(frozen=True)
class Story:
    """The progress of a run, what comes next, and the command for it ("" if there is nothing to type)."""

    sentence: str
    then: str
    command: str = ""


def stopped_at(verdicts: Mapping[str, Row]) -> str | None:
    """Return the prerequisite that stops the chain: the last one decided, not PASS, not overridden; else None."""
    last = [p for p in ORDER if p in verdicts][-1:]
    return next((p for p in last if text_of(p).blocking and _stops(verdicts[p])), None)


def _stops(verdict: Row) -> bool:
    return verdict["status"] != "PASS" and not verdict["overridden_by"]


def story_of(run: Row, verdicts: Mapping[str, Row], done: Mapping[str, cards.Progress]) -> Story:
    """Return how far the run is and what is next."""
    phases = list(ORDER)
    running = [p for p in phases if p in done and p not in verdicts]
    left = [p for p in phases if p not in verdicts and p not in running]
    if running:
        ready, asked = done[running[0]]
        return Story(
            f"{_decided(verdicts)}; {named(running[0])} is running, {ready:,} of {words.count(asked, 'unit')} done.",
            f"{named(left[0])} follows by itself" if left else "the chain ends with it",
        )
    if left and (blocked := stopped_at(verdicts)):
        step = _first_step(verdicts[blocked])
        then = (step.reason or "what the failure protocol says") if step.command else "see the reason below"
        return Story(f"{_decided(verdicts)}. The chain stopped at {blocked.upper()}.", then, str(step.command))
    if left:
        return Story(f"{_decided(verdicts)}.", named(left[0]), again(run, verdicts))
    short = [p for p in phases if verdicts[p]["status"] != "PASS"]
    if not short:
        last = "confirm it at full scale" if run["scale"] != "full" else "repeat it on another host"
        return Story("All six phases passed.", last, "lab pipeline --scale full" if run["scale"] != "full" else "")
    step, name = _first_step(verdicts[short[-1]]), named(short[-1])
    then = f"{name}{', ' if step.reason else ''}{step.reason}" if step.command else f"read the reason of {name} below"
    return Story(f"{_decided(verdicts)}.", then, str(step.command))


def again(run: Row, verdicts: Mapping[str, Row]) -> str:
    """Return the command that continues this run: its scale, its settings, its override."""
    given = run["arguments_given"].get("config") or {}
    parts = ["lab", "pipeline", "--scale", str(run["scale"]), *set_options(given, ORDER)]
    why = next((v["why"] for v in verdicts.values() if v["why"]), None)
    return shlex.join([*parts, "--override", why] if why else parts)


def evidence(run: Row, verdicts: Mapping[str, Row], agreement: RunAgreement) -> list[cards.Fact]:
    """Return the facts behind the verdicts: trials and hosts, failures, agreement, commit; with a mark on warnings."""
    if not verdicts:
        return []
    trials, failed = (sum(v[k] for v in verdicts.values()) for k in ("trials", "failed"))
    hosts = sorted({h for v in verdicts.values() for h in v["hosts"]})
    facts = []
    if trials:
        on = f" on {words.listed(hosts)}" if hosts else ""
        facts.append(cards.Fact("trials", words.count(trials, "trial") + on))
        facts.append(cards.Fact("failed", f"{failed:,} failed" if failed else "none failed", warns=bool(failed)))
    differing = [p.upper() for p in ORDER if agreement.of(p).deviating]
    if agreement.compared:
        agree = f"hosts differ in {words.listed(differing)}" if differing else "the hosts agree"
        facts.append(cards.Fact("agreement", agree, warns=bool(differing)))
    elif len(hosts) > 1:
        facts.append(cards.Fact("agreement", f"hosts had {NOT_A_TEST}"))
    elif hosts:
        facts.append(cards.Fact("agreement", "one host, so nothing is compared"))
    if commit := str(run["code_commit"])[:12]:
        dirty = " with uncommitted changes" if run["dirty"] else ""
        facts.append(cards.Fact("commit", f"commit {commit}{dirty}", warns=bool(run["dirty"])))
    return facts


def _decided(verdicts: Mapping[str, Row]) -> str:
    """Return "5 of 6 phases are decided: 4 PASS; P2 says FAIL, overridden"."""
    if not verdicts:
        return "No phase of six is decided yet"
    verb = "is" if len(verdicts) == 1 else "are"
    start = "All six phases are decided" if len(verdicts) == 6 else f"{len(verdicts)} of 6 phases {verb} decided"
    passed = [p for p, v in verdicts.items() if v["status"] == "PASS"]
    parts = [f"{len(passed)} PASS"] if passed else []
    for status in ("FAIL", "INCONCLUSIVE"):
        found = [p.upper() for p, v in verdicts.items() if v["status"] == status]
        if found:
            over = {p.upper(): v["why"] for p, v in verdicts.items() if v["status"] == status and v["why"]}
            parts.append(f"{words.listed(found)} {'says' if len(found) == 1 else 'say'} {status}")
            if over:
                which = "" if len(over) == len(found) else f"{words.listed(list(over))} "
                parts[-1] += f", {which}overridden"
    return f"{start}: {'; '.join(parts)}"


def _first_step(verdict: Row) -> NextStep:
    return next(iter(verdict["next_steps"]), NextStep(""))


def head(quiet: str, found: str, story: Story, rests_on: Sequence[cards.Fact], title: str = "Overview") -> str:
    """Return the page's first lines: the run (`quiet`, HTML), what it found, how far it is, what is next, and the facts.

    `found` is a sentence; without one the progress is the headline.
    """
    code = f": <code>{escape(story.command)}</code>" if story.command else "."
    facts = (
        f'<span class="lab-warns"><i></i>{escape(fact.value)}</span>'
        if fact.warns
        else f'<span class="lab-quiet">{escape(fact.value)}</span>'
        for fact in rests_on
    )
    over = f'<div class="lab-over"><strong>{escape(title)}</strong><span class="lab-quiet">{quiet}</span></div>'
    rests = '<span class="lab-quiet"> · </span>'.join(facts)
    return (
        f'<div class="lab-head">{over}<h1>{escape(found or story.sentence)}</h1>'
        + (f"<p>{escape(story.sentence)}</p>" if found else "")
        + f"<p>Next: {escape(story.then)}{code}</p>"
        + (f'<p class="lab-rests">{rests}</p>' if rests else "")
        + "</div>"
    )
