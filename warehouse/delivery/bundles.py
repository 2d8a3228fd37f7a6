"""Result bundles: one immutable Parquet file a unit, its manifest inside, its SHA-256 in its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.canonical_json import canonical
from common.environment import checked_host
from common.files import file_sha256, finish, reporting_full_disk, temporary_for
from common.urls import without_secrets
from experiments.contract import Attachment, Json, Trial, Unit
from warehouse.delivery.signing import signature

SCHEMA_VERSION = 2
MAX_ATTEMPT = 10_000
NAME = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})(?:\.([0-9a-f]{64}))?\.parquet")  # unit, SHA-256, signature
COLUMNS = (
    "ordinal int32, problem_id string, condition string, seed int32, attempts float64, solved bool, answer string, "
    "truth string, tokens_in int32, tokens_out int32, latency_s float64, first_right float64, error string, details string, "
    "attachment large_binary"
)
# Attempts were whole numbers before version 2, and no trial said how probable its first guess was.
COLUMNS_1 = COLUMNS.replace("attempts float64", "attempts int32").replace("first_right float64, ", "")
SCHEMA, SCHEMA_1 = (pa.schema([pa.field(*c.split()) for c in names.split(", ")]) for names in (COLUMNS, COLUMNS_1))
FIELDS = tuple(SCHEMA.names[1:-2])  # of a trial, its details left out


class BadBundle(Exception):
    """A file that is not a whole, known, consistent bundle; the message is the reason for its quarantine."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found consistent. `trials` has the columns of SCHEMA; attachments are not in it."""

    manifest: Json
    trials: pa.Table
    attachments: tuple[Attachment, ...]
    sha256: str
    size_bytes: int
    signature: str | None = None


def write_bundle(
    spool: Path,
    unit: Unit,
    trials: Sequence[Trial],
    attachments: Sequence[Attachment] = (),
    *,
    host: str,
    attempt: int,
    started_at: datetime,
    finished_at: datetime,
    provenance: Json,
    key: bytes | None = None,
) -> Path:
    """Write <unit_id>.<sha256>.parquet into `spool`, whole or not at all, and return its path.

    Args:
        attempt: number of the attempt to compute the unit, from 1.
        provenance: code, data and models that computed it.
        key: the host's key; the name then is <unit_id>.<sha256>.<signature>.parquet.

    Raises:
        LabError: invalid host name, or the disk is full.
        ValueError: a trial's details hold NaN or a value that is not JSON.
    """
    manifest = {
        "unit_id": unit.unit_id,
        "phase": unit.phase,
        "host": checked_host(host),
        "attempt": attempt,
        "schema_version": SCHEMA_VERSION,
        "n_trials": len(trials),
        "started_at": started_at.isoformat(),
        "finished_at": finished_at.isoformat(),
        "provenance": provenance,
        "attachments": [{"name": a.name, "sha256": a.sha256, "size_bytes": len(a.content)} for a in attachments],
    }
    rows = [_row(i, trial) for i, trial in enumerate(trials)]
    # Attachments follow the trials as rows with a negative ordinal, so that one file holds all of a unit.
    rows += [{"ordinal": -1 - i, "attachment": a.content} for i, a in enumerate(attachments)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({"manifest": canonical(manifest)}))
    with reporting_full_disk(spool):
        spool.mkdir(parents=True, exist_ok=True)
        temporary = temporary_for(spool / "bundle")
        try:
            pq.write_table(table, temporary, compression="zstd", use_dictionary=False)
            sha256 = file_sha256(temporary)
            signed = f".{signature(key, host, sha256)}" if key else ""
            target = spool / f"{unit.unit_id}.{sha256}{signed}.parquet"
            finish(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return target


def upgraded(table: pa.Table) -> pa.Table:
    """Return a bundle's rows with the columns of SCHEMA; version 1 has those of SCHEMA_1."""
    if table.schema == SCHEMA:
        return table
    attempts = table["attempts"]
    table = table.append_column("first_right", pc.equal(attempts, 1).cast(pa.float64()))
    at = table.schema.get_field_index("attempts")
    return table.set_column(at, "attempts", attempts.cast(pa.float64())).select(SCHEMA.names)


def _row(ordinal: int, trial: Trial) -> Json:
    """Return a trial as a row of a bundle; its error and its engine's description may name a server."""
    error = None if trial.error is None else without_secrets(trial.error)
    engine = trial.details.get("engine")
    if isinstance(engine, dict):
        engine = {name: without_secrets(value) if isinstance(value, str) else value for name, value in engine.items()}
    details = trial.details | ({"engine": engine} if engine is not None else {})
    return {**vars(trial), "ordinal": ordinal, "error": error, "details": canonical(details)}
