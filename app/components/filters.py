"""Filters that live in the address: a copied link shows the same view, and a choice survives a change of page.

Streamlit empties the address when the page changes, so what the reader chose is kept beside it and written again. Its
own `bind="query-params"` leaves defaults out, and the default run is the latest, so a link would not name its run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

import streamlit as st

from app import format as words
from warehouse.queries import snapshot

ANY = "all"  # of scale, domain, model and host; is never written into the address
CHOSEN, WRITTEN, SHOWN = "lab-chosen", "lab-written", "lab-shown"


@dataclass(frozen=True)
class View:
    """What the sidebar says.

    Attributes:
        run: the chosen run, a row of reading.runs().
        runs: the runs that scale, domain and model leave, the latest first.
        host: a host's name, or None for all hosts.
        where: the reader's time zone.
    """

    run: snapshot.Row
    runs: Sequence[snapshot.Row]
    host: str | None
    where: tzinfo | None

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])


def begin() -> None:
    """Take over what the address asks for, unless this session wrote it or a change of page has emptied it."""
    given = st.query_params.to_dict()
    if CHOSEN not in st.session_state or (given and given != st.session_state.get(WRITTEN)):
        st.session_state[CHOSEN] = given
    st.session_state[SHOWN] = {}


def end() -> None:
    """Write what this page shows into the address."""
    shown = st.session_state[SHOWN]
    if st.query_params.to_dict() != shown:
        st.query_params.from_dict(shown)
    st.session_state[WRITTEN] = dict(shown)


def asked(name: str) -> str | None:
    """What the reader chose, or the address asks, under `name`; it may be nothing that can be shown."""
    found = st.session_state[CHOSEN].get(name)
    return None if found is None else str(found)


def choice(
    label: str,
    options: Sequence[str],
    name: str,
    default: str | None = None,
    say: Callable[[str], str] = str,
    always: bool = False,
) -> str:
    """A select box whose value is `name` in the address.

    Args:
        default: shown as long as nothing, or nothing that is among the options, was chosen; else the first option.
        always: written into the address though the reader did not choose it.
    """
    chosen = asked(name)
    value = chosen if chosen in options else default if default in options else options[0]
    key = f"choice-{name}"
    st.session_state[key] = value
    st.selectbox(label, options, format_func=say, key=key, on_change=_remember, args=(name, key))
    if always or (chosen == value and value != ANY):
        st.session_state[SHOWN][name] = value
    return str(value)


def text(label: str, name: str, placeholder: str = "") -> str:
    """A field of text whose value is `name` in the address."""
    key = f"choice-{name}"
    st.session_state[key] = value = asked(name) or ""
    st.text_input(label, key=key, placeholder=placeholder, on_change=_remember, args=(name, key))
    if value:
        st.session_state[SHOWN][name] = value
    return value


def _remember(name: str, key: str) -> None:
    value = st.session_state[key]
    if value in (ANY, ""):
        st.session_state[CHOSEN].pop(name, None)
    else:
        st.session_state[CHOSEN][name] = value


def clear() -> None:
    """Forget scale, domain, model and host."""
    for name in ("scale", "domain", "model", "host"):
        st.session_state[CHOSEN].pop(name, None)


def sidebar(runs: Sequence[snapshot.Row], hosts: Sequence[str]) -> View | None:
    """The one sidebar of filters; None when no run is left by them.

    Args:
        runs: all runs, the latest first.
        hosts: names of all hosts, in the order first seen.
    """
    where = words.zone(st.context.timezone)
    with st.sidebar:
        place = st.container()
        left = list(runs)
        for name in ("scale", "domain", "model"):
            found = list(dict.fromkeys(str(r[name]) for r in runs))
            value = choice(name.capitalize(), [ANY, *found], name, say=_any_of(name))
            left = [r for r in left if value in (ANY, r[name])]
        host = choice("Host", [ANY, *hosts], "host", say=_any_of("host"))
        if not left:
            return None
        with place:
            run = _run(left, runs, where)
    return View(run, left, None if host == ANY else host, where)


def _any_of(name: str) -> Callable[[str], str]:
    return lambda value: f"All {name}s" if value == ANY else value


def _run(left: Sequence[snapshot.Row], runs: Sequence[snapshot.Row], where: Any) -> snapshot.Row:
    """The run that was chosen, else always the latest."""
    # Short, since the sidebar is narrow; runs that read alike have their id behind it.
    labels = {r["run_id"]: f"{words.local_time(r['started_at'], where, short=True)} · {r['scale']}" for r in left}

    def say(run_id: str) -> str:
        text = labels[run_id]
        return text if list(labels.values()).count(text) == 1 else f"{text} · {run_id}"

    picked = choice("Run", list(labels), "run", say=say, always=True)
    if (wanted := asked("run")) and wanted not in {r["run_id"] for r in runs}:
        st.caption("The run that the address names is not here; this is the latest.")
    return next(r for r in left if r["run_id"] == picked)
