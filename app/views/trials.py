"""Trials: what exactly was asked and answered? A table filtered by SQL, and the page of one trial."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd
import streamlit as st

from app import format as words
from app.components import filters, shell, tables, trial_view
from app.phase_names import named
from app.reading import Row, read
from warehouse.queries import trials
from warehouse.queries.trials import PAGE_ROWS, Outcome, Wanted

ANY = filters.ANY
MOST_DOWNLOADED = 10_000  # rows of a file that a browser is given at once; more is for lab export
OUTCOMES: dict[str, tuple[str, Outcome]] = {
    ANY: ("Any outcome", "any"),
    "solved": ("Solved", "solved"),
    "unsolved": ("Not solved", "unsolved"),
    "failed": ("Failed with an error", "failed"),
}
TITLES = {"problem_id": "problem", "truth": "right answer", "tokens_in": "tokens in", "tokens_out": "tokens out"}
SHOWN = "phase problem_id condition seed host attempts solved answer truth tokens_in tokens_out latency_s error".split()


def wanted(view: filters.View, phases: list[str]) -> Wanted:
    """Show the filters of this page, which are saved in the address, and return the trials that they want."""
    columns = st.columns(4)
    with columns[0]:
        phase = filters.choice("Phase", [ANY, *phases], "phase", say=filters.any_of("All phases", named))
    found = read(trials.conditions, view.run_id, phase) if phase != ANY else []
    with columns[1]:
        if found:
            condition = filters.choice(
                "Condition", [ANY, *found], "condition", say=filters.any_of("All conditions", words.conditions)
            )
        else:
            condition = ANY
            st.selectbox(
                "Condition", ["All conditions"], disabled=True, help="Choose a phase first", key="no-condition"
            )
    with columns[2]:
        outcome = filters.choice("Outcome", list(OUTCOMES), "outcome", say=lambda o: OUTCOMES[o][0])
    with columns[3]:
        text = filters.text("Search", "problem", "problem, answer or prompt")
    return Wanted(
        view.run_id,
        None if phase == ANY else phase,
        None if condition == ANY else condition,
        view.host,
        OUTCOMES[outcome][1],
        text,
    )


def set_choice(name: str, value: str | None) -> None:
    """Choose `value` for the filter `name` as the reader would; None clears it."""
    chosen = st.session_state[filters.CHOSEN]
    chosen.pop(name, None)
    if value is not None:
        chosen[name] = value


def first_row(chosen: Wanted) -> int:
    """Return the number of the page's first trial, from 0; a change of filters starts at the first page again."""
    before = st.session_state.get("trials-wanted")
    if before is not None and before != chosen:
        set_choice("page", None)
    st.session_state["trials-wanted"] = chosen
    asked = filters.asked("page") or "1"
    number = int(asked) if asked.isascii() and asked.isdigit() and 0 < len(asked) < 10 else 1
    return max(0, number - 1) * PAGE_ROWS


def turn(total: int, first: int) -> None:
    """Show which trials these are, and the buttons that turn the page."""
    last_page = max(1, -(-total // PAGE_ROWS))
    number = first // PAGE_ROWS + 1
    if number > 1:
        st.session_state[filters.SHOWN]["page"] = str(number)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        end = min(first + PAGE_ROWS, total)
        st.markdown(f"**{first + 1:,} to {end:,}** of {words.count(total, 'trial')}", width="content")
        for label, to, off in (
            ("First", None, number == 1),
            ("Previous", number - 1, number == 1),
            ("Next", number + 1, number >= last_page),
            ("Last", last_page, number >= last_page),
        ):
            page = None if to is None or to <= 1 else str(to)
            st.button(label, on_click=set_choice, args=("page", page), disabled=off, key=f"page-{label}")


def listing(chosen: Wanted) -> None:
    """Show the table; a click on a row opens its trial."""
    first = first_row(chosen)
    page = read(trials.page, chosen, first)
    if page.total and not page.rows:  # the address names a page behind the last one
        set_choice("page", None)
        first, page = 0, read(trials.page, chosen, 0)
    if not page.total:
        st.caption("No trial matches these filters. Remove one to see more.")
        return
    frame = pd.DataFrame([{name: r[name] for name in SHOWN} for r in page.rows])
    for name in ("seed", "tokens_in", "tokens_out"):
        frame[name] = frame[name].astype("Int64")
    frame["phase"], frame["condition"] = frame["phase"].str.upper(), frame["condition"].map(words.conditions)
    frame = frame.dropna(axis="columns", how="all")
    picked = cast(Any, st.dataframe)(
        frame,
        hide_index=True,
        width="stretch",
        placeholder="",
        height=36 * min(len(frame), 14) + 40,
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        key=f"trials-{abs(hash((chosen, first, st.session_state.get('trials-opened'))))}",
        column_config={
            **{name: st.column_config.Column(title) for name, title in TITLES.items()},
            "attempts": st.column_config.NumberColumn(format="%.3g"),
            "latency_s": st.column_config.NumberColumn("seconds", format="%.3g"),
            "solved": st.column_config.CheckboxColumn(),
        },
    )
    turn(page.total, first)
    st.caption("A click on a row, or Space on it, opens the trial.")
    download(chosen, page.total)
    row = _picked(picked)
    if row is not None and row < len(page.rows):
        opened = page.rows[row]
        set_choice("trial", f"{opened['bundle_sha256']}.{opened['ordinal']}")
        # A new key clears the selection; otherwise "Back to the list" would open the trial again.
        st.session_state["trials-opened"] = st.session_state.get("trials-opened", 0) + 1
        st.rerun()


def _picked(event: Any) -> int | None:
    selection = event.selection
    if selection.rows:
        return int(selection.rows[0])
    return int(selection.cells[0][0]) if selection.cells else None


def download(chosen: Wanted, total: int) -> None:
    """Offer the trials of the filters as files, made when asked for, at most MOST_DOWNLOADED."""

    def frame() -> pd.DataFrame:
        return pd.DataFrame(trials.page(chosen, 0, MOST_DOWNLOADED).rows)

    which = "these trials" if total <= MOST_DOWNLOADED else f"the first {MOST_DOWNLOADED:,} of these trials"
    tables.downloads(f"{chosen.run_id}-trials", frame, which)


def steps(bundle: str, beside: trials.Beside) -> None:
    """Show the buttons that go back to the list, and to the trials before and after this one in its unit."""
    with st.container(horizontal=True, gap="small"):
        st.button("Back to the list", on_click=set_choice, args=("trial", None), icon=":material/arrow_back:")
        for label, ordinal in (("Previous trial", beside.before), ("Next trial", beside.after)):
            to = None if ordinal is None else f"{bundle}.{ordinal}"
            st.button(label, on_click=set_choice, args=("trial", to), disabled=to is None)


def elsewhere(view: filters.View, shown: Row) -> None:
    """List the same problem and seed under the other conditions and on the other hosts; a click opens one."""
    rows = [
        r for r in read(trials.elsewhere, view.run_id, shown["bundle_sha256"], shown["ordinal"]) if not _same(r, shown)
    ]
    if not rows:
        return
    st.subheader("The same problem under other conditions and on other hosts")
    names = ("condition", "host", "attempts", "answer", "error")
    frame = pd.DataFrame([{name: r[name] for name in names} for r in rows]).dropna(axis="columns", how="all")
    frame["condition"] = frame["condition"].map(words.conditions)
    picked = cast(Any, st.dataframe)(
        frame,
        hide_index=True,
        width="stretch",
        placeholder="",
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        key=f"elsewhere-{shown['bundle_sha256']}-{shown['ordinal']}",
    )
    row = _picked(picked)
    if row is not None and row < len(rows):
        set_choice("trial", f"{rows[row]['bundle_sha256']}.{rows[row]['ordinal']}")
        st.rerun()


def _same(row: Row, shown: Row) -> bool:
    return (row["bundle_sha256"], row["ordinal"]) == (shown["bundle_sha256"], shown["ordinal"])


def body(view: filters.View) -> None:
    """Show the trial in the address, else the table."""
    bundle, _, ordinal = (filters.asked("trial") or "").partition(".")
    if bundle and ordinal.isascii() and ordinal.isdigit() and len(ordinal) < 10:
        found = read(trials.trial, bundle, int(ordinal))
        steps(bundle, read(trials.beside, bundle, int(ordinal)) if found is not None else trials.Beside(None, None))
        if found is not None:
            st.session_state[filters.SHOWN]["trial"] = f"{bundle}.{ordinal}"
            trial_view.show(found, view.run_id, view.where)
            return elsewhere(view, found)
        return shell.empty("This trial is not in the results any more.", "")
    phases = read(trials.phases, view.run_id)
    if not phases:
        return shell.empty("This run has no trial yet.", f"lab pipeline --scale {view.run['scale']}")
    shell.title(
        "Trials", "What was asked, and what was answered?", ["each unit once; choose a host to see its own answers"]
    )
    return listing(wanted(view, phases))


shell.show(body)
