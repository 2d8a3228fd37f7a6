"""Tables that sort by a click and download as CSV and Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import format as words


def show(
    rows: Sequence[Mapping[str, Any]] | pd.DataFrame, name: str, numbers: Sequence[str] = (), height: int = 0
) -> None:
    """A table and its two downloads.

    Args:
        rows: one mapping a row, with the same names in the same order; the names are the columns.
        name: of the files, without an ending, and unique on the page.
        numbers: columns shown with three significant digits, "undefined" for None; they stay numbers, so they sort.
        height: pixels; 0 for as many rows as fit ten.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    for column in numbers:
        frame[column] = frame[column].astype("float64")
    shown: Any = frame
    if numbers:
        shown = frame.style.format(lambda x: words.number(float(str(x))), subset=list(numbers), na_rep=words.UNDEFINED)
    st.dataframe(shown, hide_index=True, width="stretch", height=height or "auto")
    with st.container(horizontal=True, gap="small"):
        for ending, mime, made in (
            ("csv", "text/csv", lambda: frame.to_csv(index=False).encode()),
            ("parquet", "application/vnd.apache.parquet", lambda: parquet(frame)),
        ):
            st.download_button(
                ending.upper() if ending == "csv" else ending.capitalize(), made, f"{name}.{ending}", mime,
                key=f"download-{name}-{ending}", on_click="ignore", type="tertiary", icon=":material/download:",
                help=f"Download this table as {name}.{ending}",
            )  # fmt: skip


def parquet(frame: pd.DataFrame) -> bytes:
    """The table as one Parquet file."""
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()
