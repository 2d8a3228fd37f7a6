"""The finding of a run, in one sentence for people who know none of its terms. It says no more than the verdicts do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app import format as words
from app.reading import Row, read
from warehouse.queries import phases

MEMORIES = {
    "semantic": "similar",
    "temporal": "recent",
    "recent": "recent",
    "random": "random",
    "lexical": "lexically similar",
}
Find = Callable[[str, str, str], Row | None]  # a metric by phase, name and condition


def of_run(run_id: str, verdicts: Mapping[str, Row]) -> str:
    """Return what a run of the snapshot found."""

    def find(phase: str, metric: str, condition: str) -> Row | None:
        rows = read(phases.metrics, run_id, phase)
        return next((r for r in rows if (r["metric"], r["condition"]) == (metric, condition)), None)

    return sentence(verdicts, find)


def sentence(verdicts: Mapping[str, Row], find: Find) -> str:
    """Return what P2, E1 and E2 found, as far as they are decided; "" while none of them is."""
    parts = [text for part in (_memory, _strategy, _tuning) if (text := part(verdicts, find))]
    if not parts:
        return ""
    first, *rest = parts
    return "; ".join([first[0].upper() + first[1:], *rest]) + "."


def _saved(row: Row | None) -> str:
    """Return "1.5 attempts a problem" for a difference below zero, "" for any other."""
    value: Any = row["value"] if row else None
    return f"{abs(value):.2g} attempts a problem" if words.defined(value) and value < 0 else ""


def _memory(verdicts: Mapping[str, Row], find: Find) -> str:
    if (verdict := verdicts.get("p2")) is None:
        return ""
    if verdict["status"] == "PASS":
        name = verdict["findings"].get("retrieval_helps") or verdict["main_condition"].partition(" - ")[0]
        saved = _saved(find("p2", "mean_difference", f"{name} - none")) or "attempts"
        return f"{MEMORIES.get(name, name)} memories save {saved}"
    shown = verdict["status"] == "FAIL"
    return "no memory was shown to save attempts" if shown else "it is open if a memory saves attempts"


def _strategy(verdicts: Mapping[str, Row], find: Find) -> str:
    if (verdict := verdicts.get("e1")) is None:
        return ""
    if verdict["findings"].get("base_above_chance") is False:
        return "without memory the model was not shown to be better than chance, so it is open which memories help more"
    chosen, row = verdict["findings"].get("hypothesis"), find("e1", "mean_difference", "semantic - temporal")
    if verdict["status"] == "PASS" and chosen == "amplification" and (saved := _saved(row)):
        named = _memory(verdicts, find).startswith("similar memories save")
        short = saved.removesuffix(" attempts a problem")
        text = (
            f"against recent ones they save {short}" if named else f"similar memories save {saved} against recent ones"
        )
        copied = verdict["findings"].get("labels_copied")
        if not words.defined(copied):
            return text
        part = "all" if copied >= 1 else "nothing" if copied <= 0 else f"{copied:.0%}"
        return f"{text}, and {part} of what they save against none is copied labels"
    if verdict["status"] == "PASS" and chosen == "correction" and row and words.defined(row["value"]):
        return f"recent memories save {abs(row['value']):.2g} attempts a problem against similar ones"
    return "similar and recent memories were not shown to differ"


def _tuning(verdicts: Mapping[str, Row], find: Find) -> str:
    if (verdict := verdicts.get("e2")) is None:
        return ""
    steady = (verdicts["e1"]["findings"].get("hypothesis") if "e1" in verdicts else "") == "stabilization"
    if verdict["main_metric"] != "precision_difference":
        # Runs before retrieval precision came first: the verdict was on attempts.
        did, do = (
            ("made attempts steadier", "make attempts steadier") if steady else ("improved on that", "improve on that")
        )
        return {"PASS": f"fine-tuning {did}", "FAIL": f"fine-tuning did not {do}"}.get(
            verdict["status"], f"it is open if fine-tuning can {do}"
        )
    found = {
        "PASS": "fine-tuning taught the model to search better",
        "FAIL": "fine-tuning did not teach the model to search better",
    }.get(verdict["status"], "it is open if fine-tuning teaches the model to search better")
    if verdict["status"] != "PASS" or verdict["findings"].get("attempts_verdict") != "confirmed":
        return found
    return f"{found}, and made attempts {'steadier' if steady else 'fewer'}"
