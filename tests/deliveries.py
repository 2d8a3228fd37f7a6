"""Bundles on their way into a coordinator's warehouse."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from warehouse.paths import Paths


def add_manifests(home: Path, seen: dict[str, dict[str, Any]]) -> None:
    """Add to `seen`, by file name, the manifests of bundles that reached this coordinator; "at" says when it was noticed."""
    for folder in (home / "results" / "inbox", Paths(home).bundles):
        for path in folder.glob("*.parquet"):
            if path.name not in seen:
                with contextlib.suppress(FileNotFoundError):  # taken in just now, so it is in the next folder
                    seen[path.name] = json.loads(pq.read_schema(path).metadata[b"manifest"]) | {"at": time.monotonic()}
