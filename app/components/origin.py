"""Where a run's numbers come from, as a list: plan, commit, versions, hosts, arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import format as words
from app.components import cards
from app.phase_names import ORDER

Row = Mapping[str, Any]


def show(found: Row | None, where: Any) -> None:
    """What would be needed to get the same numbers again."""
    if found is None:
        st.caption("This run has no record.")
        return
    plan = found["content"]
    hosts = [
        f"{h['host']} ({h['tier'] or 'tier not known'}, {words.count(h['units'], 'unit')})" for h in found["hosts"]
    ]
    given, defaulted = found["arguments_given"], found["arguments_defaulted"]
    versions_of = plan.get("code_versions", {})
    versions = plan.get("data_version", [])
    rows = [
        ("Run", found["run_id"], ""),
        ("Plan", f"{found['plan_id']}, SHA-256 {found['plan_sha256'] or 'not stored'}", ""),
        ("Planned", *_time(found["planned_at"], where)),
        ("Before its trials", _order(found), ""),
        ("Started", *_time(found["started_at"], where)),
        ("Finished", *_time(found["finished_at"], where)),
        ("Started on", found["host"], ""),
        ("Commit", found["code_commit"] + (", with uncommitted changes" if found["dirty"] else ", clean"), ""),
        ("Code of phases", _pairs({p.upper(): versions_of[p] for p in ORDER if p in versions_of}), ""),
        ("Data version", ", ".join(map(str, versions)) if isinstance(versions, list) else str(versions), ""),
        ("Model digests", _pairs(plan.get("digests", {})), ""),
        ("Packages", _pairs(found["versions"]), ""),
        ("Hosts", ", ".join(hosts) or "none yet", ""),
        ("Arguments given", json.dumps(given, ensure_ascii=False) if given else "none", ""),
    ]
    doubtful = [*(["Commit"] if found["dirty"] else []), *(["Before its trials"] if found["units_before"] else [])]
    st.html(cards.definitions(rows, tuple(doubtful)))
    for title, content in (("Arguments by default", defaulted), ("The plan, as stored", plan)):
        with st.expander(title):
            st.code(json.dumps(content, indent=2, ensure_ascii=False), language="json", wrap_lines=True, height=400)


def _order(found: Row) -> str:
    """Whether the plan was there before the trials, without which it announced nothing."""
    if not found["units_before"]:
        return "yes, before the first"
    return f"no, {found['units_before']} of {found['units']} units had results of an earlier plan already"


def _time(moment: Any, where: Any) -> tuple[str, str]:
    return (words.local_time(moment, where), words.utc_time(moment)) if moment else ("", "")


def _pairs(values: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items()) if isinstance(values, dict) else str(values)
