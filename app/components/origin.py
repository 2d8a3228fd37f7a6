"""Facts about a run's origin: plan, commit, versions, hosts, arguments."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from typing import Any

import streamlit as st

from app import format as words
from app.components.cards import Fact, facts, overridden, trials_of
from app.phase_names import ORDER
from app.reading import Row


def show(found: Row | None, where: tzinfo | None) -> None:
    """Show what is needed to compute the same numbers again."""
    if found is None:
        st.caption("This run has no record.")
        return
    st.html(facts(facts_of(found, where)))
    for title, content in {
        "Arguments by default": found["arguments_defaulted"],
        "The plan, as stored": found["content"],
    }.items():
        with st.expander(title):
            st.code(json.dumps(content, indent=2, ensure_ascii=False), language=None, wrap_lines=True, height=400)


def facts_of(found: Row, where: tzinfo | None) -> list[Fact]:
    """Return what is needed to compute the same numbers again; what snapshot.provenance does not know is left out."""
    plan, given, before = found["content"], found["arguments_given"], found["units_before"]
    code, data = plan.get("code_versions", {}), plan.get("data_version", [])
    hosts = [
        f"{h['host']} ({h['tier'] or 'tier not known'}, {words.count(h['units'], 'unit')})" for h in found["hosts"]
    ]
    commit, dirty = found["code_commit"], found["dirty"]
    order = f"no, {before} of {found['units']} units had results of an earlier plan already"
    if not before:
        order = "yes, before the first" if found["units"] else ""
    return [
        Fact("Run", found["run_id"]),
        Fact("Plan", found["plan_id"] + (f", SHA-256 {sha}" if (sha := found["plan_sha256"]) else "")),
        _time("Planned", found["planned_at"], where),
        Fact("Before its trials", order, warns=bool(before)),
        _time("Started", found["started_at"], where),
        _time("Finished", found["finished_at"], where),
        Fact("Started on", found["host"]),
        Fact("Commit", commit and commit + (", with uncommitted changes" if dirty else ", clean"), warns=bool(dirty)),
        Fact("Code of phases", _pairs({p.upper(): code[p] for p in ORDER if p in code})),
        Fact("Data version", ", ".join(map(str, data)) if isinstance(data, list) else str(data)),
        Fact("Numbers", _numbers(plan)),
        Fact("Model digests", _pairs(plan.get("digests", {}))),
        Fact("Packages", _pairs(found["versions"])),
        Fact("Hosts", ", ".join(hosts)),
        Fact("Arguments given", json.dumps(given, ensure_ascii=False) if given else "none"),
    ]


def numbers_of(plan: Row, phase: str) -> str:
    """Return what computed a phase by its plan, as in "float32 by transformers 5.23, torch 2.13"; "" without a record."""
    if not (config := plan.get("configs", {}).get(phase)):
        return ""
    engines = plan.get("engines", {}).get(phase) or {"transformers": {}}
    packages = {package: number for own in engines.values() for package, number in own.items()} or engines
    found = f"{config.get('precision', 'float32')} by {', '.join(f'{p} {n}' if n else p for p, n in packages.items())}"
    return f"{found}, adapters by {config.get('trainer', 'peft')}" if "lora" in config else found


def facts_of_phase(phase: str, verdict: Row | None, plan: Row | None, where: tzinfo | None) -> list[str]:
    """Return what a phase's verdict rests on, each as a few words: trials, hosts, time, doubts, what computed it.

    Args:
        phase: such as "p1".
        verdict: None while it is not decided.
        plan: the plan as stored; None for a run without a record.
        where: the time zone of times; None for this machine's.
    """
    facts = []
    if verdict:
        facts = [
            trials_of(verdict),
            f"on {', '.join(verdict['hosts'])}" if verdict["hosts"] else "",
            f"took {words.duration(verdict['actual_s'])}" if verdict["actual_s"] is not None else "",
            f"decided {words.local_time(verdict['decided_at'], where)}" if verdict["decided_at"] else "",
            verdict["differs"],
            overridden(verdict),
        ]
    facts.append(numbers_of(plan, phase) if plan else "")
    return [f for f in facts if f]


def _numbers(plan: Row) -> str:
    """Return what computed the phases, those that are alike together."""
    phases: dict[str, list[str]] = {}
    for phase in ORDER:
        if found := numbers_of(plan, phase):
            phases.setdefault(found, []).append(phase.upper())
    if len(phases) == 1:
        return next(iter(phases))
    return "; ".join(f"{', '.join(names)} {found}" for found, names in phases.items())


def _time(name: str, moment: datetime | None, where: tzinfo | None) -> Fact:
    return Fact(name, words.local_time(moment, where), words.utc_time(moment)) if moment else Fact(name, "")


def _pairs(values: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items()) if isinstance(values, dict) else str(values)
