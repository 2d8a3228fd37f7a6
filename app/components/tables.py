"""Tables that sort by a click and download as CSV and Parquet."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any

import pandas as pd
import streamlit as st

from app import format as words
from app.reading import Row

AUDITS = {  # column of audits -> as it is shown
    "host": "host",
    "other": "run again on",
    "units": "units",
    "agreeing": "agree",
    "deviating_units": "differ",
    "without_result": "no second result",
    "trials": "trials",
    "deviating_trials": "trials that differ",
    "largest_difference": "largest difference",
    "tolerance": "tolerance",
}


def show(
    rows: Sequence[Row],
    name: str,
    numbers: Sequence[str] = (),
    height: int = 0,
    files: Sequence[Row] | None = None,
    missing: str = words.UNDEFINED,
) -> None:
    """Show a table and its two downloads.

    Args:
        rows: one mapping a row, with the same names in the same order; the names are the columns.
        name: of the files, without an ending, and unique on the page.
        numbers: columns shown with three significant digits; they stay numbers, so they sort. Whole
            numbers are shown with commas.
        height: pixels; 0 for as many rows as fit ten.
        files: rows of the files, where they hold more than the table shows.
        missing: what stands for None; a metric that has no value is undefined.
    """
    frame = pd.DataFrame(list(rows))
    for column in numbers:
        frame[column] = frame[column].astype("float64")
    shown: Any = frame
    whole = [str(c) for c in frame.columns if pd.api.types.is_integer_dtype(frame[c])]
    if numbers:
        shown = frame.style.format(lambda x: words.number(float(str(x))), subset=list(numbers), na_rep=missing)
        shown = shown.format("{:,}", subset=whole)
    counts = {} if numbers else {c: st.column_config.NumberColumn(format="localized") for c in whole}
    size: Any = {"width": "stretch", "height": height or "auto"}
    st.dataframe(shown, hide_index=True, placeholder=missing, column_config=counts, **size)
    saved = frame if files is None else pd.DataFrame(list(files))
    downloads(name, lambda: saved, "this table")


def downloads(name: str, frame: Callable[[], pd.DataFrame], what: str) -> None:
    """Offer `frame()`, made when asked for, as <name>.csv and <name>.parquet; `what` is its name in the tooltip."""
    with st.container(horizontal=True, gap="small"):
        download("CSV", lambda: frame().to_csv(index=False).encode(), f"{name}.csv", "text/csv", what)
        download("Parquet", lambda: parquet(frame()), f"{name}.parquet", "application/vnd.apache.parquet", what)


def download(label: str, content: Callable[[], bytes] | bytes, file_name: str, mime: str, what: str) -> None:
    """Show a quiet button that saves a file."""
    look: Any = {"type": "tertiary", "icon": ":material/download:", "help": f"Download {what} as {file_name}"}
    st.download_button(label, content, file_name, mime, key=f"download-{file_name}", on_click="ignore", **look)


def metrics(rows: Sequence[Row], name: str, more: Sequence[str] = ()) -> None:
    """Show metrics after the columns `more`, the interval as text; the files hold its ends as numbers."""
    shown = [{**{k: r[k] for k in more}, **row} for r, row in zip(rows, metric_rows(rows), strict=True)]
    show(shown, name, numbers=("value",), files=rows)


def metric_rows(rows: Sequence[Row]) -> list[Row]:
    """Return metrics as they are read: the name with blanks, the interval as text."""
    order = "metric condition value interval n failed method".split()
    shown = [{**r, "metric": words.words(r["metric"]), "condition": words.conditions(r["condition"])} for r in rows]
    shown = [{**r, "interval": words.interval(r["low"], r["high"])} for r in shown]
    return [{name: r[name] for name in order} for r in shown]


def audits(rows: Sequence[Row], where: tzinfo | None) -> list[Row]:
    """Return audits as they are read; `where` is the reader's time zone."""
    return [{AUDITS[k]: r[k] for k in AUDITS} | {"last": words.local_time(r["last_at"], where)} for r in rows]


def parquet(frame: pd.DataFrame) -> bytes:
    """Return the table as a Parquet file."""
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()
