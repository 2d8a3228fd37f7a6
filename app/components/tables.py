"""Tables that sort by a click and download as CSV and Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import format as words

Row = Mapping[str, Any]


def show(
    rows: Sequence[Row] | pd.DataFrame,
    name: str,
    numbers: Sequence[str] = (),
    height: int = 0,
    files: Sequence[Row] | None = None,
) -> None:
    """A table and its two downloads.

    Args:
        rows: one mapping a row, with the same names in the same order; the names are the columns.
        name: of the files, without an ending, and unique on the page.
        numbers: columns shown with three significant digits, "undefined" for None; they stay numbers, so they sort. Whole
            numbers are shown with commas.
        height: pixels; 0 for as many rows as fit ten.
        files: what the files hold, where it is more than what is shown.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    for column in numbers:
        frame[column] = frame[column].astype("float64")
    shown: Any = frame
    whole = [str(c) for c in frame.columns if pd.api.types.is_integer_dtype(frame[c])]
    if numbers:
        shown = frame.style.format(lambda x: words.number(float(str(x))), subset=list(numbers), na_rep=words.UNDEFINED)
        shown = shown.format("{:,}", subset=whole)
    counts = {} if numbers else {c: st.column_config.NumberColumn(format="localized") for c in whole}
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=height or "auto",
        placeholder=words.UNDEFINED,
        column_config=counts,
    )
    saved = frame if files is None else pd.DataFrame(list(files))
    with st.container(horizontal=True, gap="small"):
        for ending, said, mime, made in (
            ("csv", "CSV", "text/csv", lambda: saved.to_csv(index=False).encode()),
            ("parquet", "Parquet", "application/vnd.apache.parquet", lambda: parquet(saved)),
        ):
            st.download_button(
                said,
                made,
                f"{name}.{ending}",
                mime,
                key=f"download-{name}-{ending}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
                help=f"Download this table as {name}.{ending}",
            )


def metrics(rows: Sequence[Row], name: str, more: Sequence[str] = ()) -> None:
    """Metrics as a table, the interval in words; the files keep its ends as numbers.

    Args:
        rows: of the table metrics, in the order to show.
        more: further columns to show, before the others.
    """
    show(
        [
            {
                **{k: r[k] for k in more},
                "metric": words.words(r["metric"]),
                "condition": r["condition"],
                "value": r["value"],
                "interval": words.interval(r["low"], r["high"]),
                "n": r["n"],
                "failed": r["failed"],
                "method": r["method"],
            }
            for r in rows
        ],
        name,
        numbers=("value",),
        files=rows,
    )


def parquet(frame: pd.DataFrame) -> bytes:
    """The table as one Parquet file."""
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()
