"""Runs: what was run, and what came out?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape

import streamlit as st

from app import format as words
from app.components import filters, shell, start_run, tables, under_way
from app.phase_names import ORDER
from app.reading import Row, read
from common.environment import host_name
from common.errors import LabError
from warehouse import run_notes
from warehouse.paths import Paths
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import runs as reading_runs
from warehouse.queries import snapshot

MARKS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "△"}  # the word is in the caption: colour alone says nothing
LEGEND = "✓ PASS · ✗ FAIL · △ INCONCLUSIVE · – not decided; the number is the one that decided the phase"


def line(
    run: Row, verdicts: Mapping[str, Row], hosts: Sequence[str], note: run_notes.RunNote, view: filters.View
) -> Row:
    """Return a run as a row of the table."""
    about = {
        "started": words.local_time(run["started_at"], view.where),
        "scale": run["scale"],
        "domain": run["domain"],
        "model": run["model"],
        "hosts": ", ".join(hosts) or "none yet",
    }
    decided = {p.upper(): _verdict(verdicts.get(p)) for p in ORDER}
    return {**about, **decided, "tags": ", ".join(note.tags), "note": note.note, "run": run["run_id"]}


def _verdict(verdict: Row | None) -> str:
    return f"{MARKS[verdict['status']]} {words.number(verdict['value'])}" if verdict else "–"


def write_note(run_id: str, note: run_notes.RunNote) -> None:
    """Ask for tags and a note on the run of the sidebar, and save them beside the warehouse."""
    st.subheader("Your note on this run")
    with st.form(f"note-{run_id}"):
        tags = st.text_input("Tags, with commas between them", ", ".join(note.tags), key=f"tags-{run_id}")
        text = st.text_area("Note", note.note, key=f"text-{run_id}", max_chars=run_notes.MOST_CHARACTERS)
        saved = st.form_submit_button("Save")
    st.caption(
        f"This note belongs to run {run_id}. Backups have it, and lab export run_notes writes all notes to a file."
    )
    if saved:
        try:
            run_notes.save(Paths.local(), run_id, run_notes.parsed(text, tags))
        except (LabError, OSError) as error:
            st.error(f"The note was not saved: {error}")
        else:
            st.rerun()


def body(view: filters.View) -> None:
    """List all runs, the latest first, or those with a tag; below, the note on the chosen one."""
    runs, verdicts, hosts = read(snapshot.runs), read(reading_runs.verdicts), read(reading_runs.hosts)
    notes = run_notes.notes(Paths.local())
    shell.title("Runs", "What was run, and what came out?", [words.count(len(runs), "run")])
    under_way.show()
    tags = sorted({tag for note in notes.values() for tag in note.tags})
    shown = runs
    if tags:
        tag = filters.choice("Tag", [filters.ANY, *tags], "tag", say=filters.any_of("All tags"))
        shown = [r for r in runs if tag == filters.ANY or tag in _note(notes, r).tags]
    rows = [line(r, verdicts.get(r["run_id"], {}), hosts.get(r["run_id"], []), _note(notes, r), view) for r in shown]
    if rows:
        tables.show(rows, "runs")
        st.caption(LEGEND)
    else:
        st.caption("No run of these results has this tag.")
    if len(runs) > 1:
        st.html(f'<p><a href="compare?run={escape(view.run_id)}" target="_self">Compare two to ten of them</a></p>')
    write_note(view.run_id, _note(notes, view.run))


def start() -> None:
    """Show the form that starts a run, with the values of those that there are."""
    runs: Sequence[Row] = ()
    models: list[str] = []
    if snapshot.state().kind == "ready":
        with suppress(*snapshot.READ_ERRORS):
            runs = read(snapshot.runs)
            reports = {h["host"]: h["report"] for h in read(reading_hosts.reports).hosts}
            models = reports.get(host_name(), {}).get("models") or []
    if not runs:
        under_way.show()
    start_run.show(runs, models, words.zone(st.context.timezone))


def _note(notes: Mapping[str, run_notes.RunNote], run: Row) -> run_notes.RunNote:
    return notes.get(run["run_id"], run_notes.RunNote())


shell.show(body)
start()
