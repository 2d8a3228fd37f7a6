"""Filters that are saved in the address: a copied link shows the same view, and a choice survives a change of page.

Streamlit empties the address when the page changes, so choices are saved in the session as well and written again. Its
own `bind="query-params"` leaves defaults out, and the default run is the latest, so a link would not name its run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo

import streamlit as st

from app import format as words
from app.reading import Row

ANY = "all"  # the option that filters nothing; never written into the address
CHOSEN, WRITTEN, SHOWN = "lab-chosen", "lab-written", "lab-shown"
FILTERS = ("scale", "domain", "model", "host")  # of runs and results, in the sidebar


@dataclass(frozen=True)
class View:
    """The choices of the sidebar.

    Attributes:
        run: the chosen run, a row of snapshot.runs().
        host: a host's name, or None for all hosts.
        where: the reader's time zone.
    """

    run: Row
    host: str | None
    where: tzinfo | None

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])


def begin() -> None:
    """Take over the address, unless this session wrote it or a change of page has emptied it."""
    given = st.query_params.to_dict()
    if CHOSEN not in st.session_state or (given and given != st.session_state.get(WRITTEN)):
        st.session_state[CHOSEN] = given
    st.session_state[SHOWN] = {}


def end() -> None:
    """Write the choices that this page shows into the address."""
    shown = st.session_state[SHOWN]
    if st.query_params.to_dict() != shown:
        st.query_params.from_dict(shown)
    st.session_state[WRITTEN] = dict(shown)


def asked(name: str) -> str | None:
    """Return the choice `name` of the reader or the address, which need not be an option."""
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
    """Show a select box whose value is `name` in the address, and return the value.

    `default`, else the first option, is shown until one is chosen; `always` writes it into the address all the same.
    """
    chosen = asked(name)
    value = chosen if chosen in options else default if default in options else options[0]
    key = f"choice-{name}"
    st.session_state[key] = value
    st.selectbox(label, options, format_func=say, key=key, on_change=_remember, args=(name, key))
    if always or (chosen == value and value != ANY):
        st.session_state[SHOWN][name] = value
    return str(value)


def choices(label: str, options: Sequence[str], name: str, most: int, say: Callable[[str], str] = str) -> list[str]:
    """Show a box for up to `most` options, the first by default, and return them; `name` in the address has commas."""
    chosen = [o for o in (asked(name) or "").split(",") if o in options][:most]
    key = f"choice-{name}"
    st.session_state[key] = chosen or list(options[:1])
    found = st.multiselect(
        label, options, format_func=say, key=key, max_selections=most, on_change=_remember, args=(name, key)
    )
    if found:
        st.session_state[SHOWN][name] = ",".join(found)
    return list(found)


def text(label: str, name: str, placeholder: str = "") -> str:
    """Show a text field whose value is `name` in the address, and return the value."""
    key = f"choice-{name}"
    st.session_state[key] = value = asked(name) or ""
    st.text_input(label, key=key, placeholder=placeholder, on_change=_remember, args=(name, key))
    if value:
        st.session_state[SHOWN][name] = value
    return value


def _remember(name: str, key: str) -> None:
    value = st.session_state[key]
    value = ",".join(value) if isinstance(value, list) else value
    if value in (ANY, ""):
        st.session_state[CHOSEN].pop(name, None)
    else:
        st.session_state[CHOSEN][name] = value


def clear() -> None:
    """Forget scale, domain, model and host."""
    for name in FILTERS:
        st.session_state[CHOSEN].pop(name, None)


def sidebar(runs: Sequence[Row], hosts: Sequence[str]) -> View | None:
    """Show the sidebar and return its choices; None if no run has them. `runs` are all runs, the latest first.

    With one run there is next to nothing to choose, so the filters are folded unless one of them is in use.
    """
    where = words.zone(st.context.timezone)
    in_use = any(asked(name) is not None for name in FILTERS)
    folded = st.sidebar.expander("Filters", expanded=in_use) if len(runs) == 1 else st.sidebar
    with folded:
        above = st.container()
        left = list(runs)
        for name in ("scale", "domain", "model"):
            found = list(dict.fromkeys(str(r[name]) for r in runs))
            if len(found) == 1 and asked(name) in (None, found[0]):
                continue  # nothing to choose
            value = choice(name.capitalize(), [ANY, *found], name, say=any_of(f"All {name}s"))
            left = [r for r in left if value in (ANY, r[name])]
        host = choice("Host", [ANY, *hosts], "host", say=any_of("All hosts"))
        if not left:
            return None
        with above:
            run = _run(left, runs, where)
    return View(run, None if host == ANY else host, where)


def any_of(everything: str, say: Callable[[str], str] = str) -> Callable[[str], str]:
    """Return the labels of a filter's options; `everything` is that of ANY."""
    return lambda value: everything if value == ANY else say(value)


def choose_run(label: str, name: str, runs: Sequence[Row], line: Callable[[Row], str]) -> Row:
    """Ask for one of `runs`, each shown as `line(run)`; runs with the same line have their id behind it."""
    lines = {r["run_id"]: line(r) for r in runs}
    repeated = [text for text, n in Counter(lines.values()).items() if n > 1]

    def say(run_id: str) -> str:
        return f"{lines[run_id]} · {run_id}" if lines[run_id] in repeated else lines[run_id]

    picked = choice(label, list(lines), name, say=say, always=True)
    return next(r for r in runs if r["run_id"] == picked)


def _run(left: Sequence[Row], runs: Sequence[Row], where: tzinfo | None) -> Row:
    """Ask for a run, the latest by default."""

    def line(run: Row) -> str:
        return f"{words.local_time(run['started_at'], where, short=True)} · {run['scale']}"  # the sidebar is narrow

    run = choose_run("Run", "run", left, line)
    if (wanted := asked("run")) and wanted not in {r["run_id"] for r in runs}:
        st.caption("The run in the address does not exist; the latest is shown.")
    return run
