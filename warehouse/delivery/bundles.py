"""Result bundles: one immutable Parquet file a unit, its manifest inside, its SHA-256 in its name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from common.canonical_json import canonical
from common.environment import checked_host
from common.errors import LabError
from common.files import file_sha256, finish, plain_file, reporting_full_disk, temporary_for
from common.limits import MAX_BUNDLE_BYTES, MAX_PLAIN_BYTES
from common.urls import without_secrets
from experiments.contract import Attachment, Json, Trial, Unit
from warehouse.delivery.signing import signature

SCHEMA_VERSION = 1
MAX_ATTEMPT = 10_000
MAX_ROWS = 1_000_000  # E1 at full scale is 1,350 trials over all its units
BATCH_ROWS = 2048  # a vector of DuckDB's
ROW_BYTES = 128  # of memory that an empty row takes; in Parquet it takes none
FILE_BYTES = 2**20  # the same for a file
# Only these are written. With a dictionary or a shared prefix, rows could be far larger than the metadata claims.
ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED"}
LOOK_ROWS = 32  # checked at once; more is no faster
MARK = secrets.token_hex(16)  # a string that no bundle can hold
BETWEEN = f',"{MARK}",'.encode()
PHASE = re.compile(r"[a-z][a-z0-9_]{0,31}")
ATTACHMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
NAME = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})(?:\.([0-9a-f]{64}))?\.parquet")  # unit, SHA-256, signature
COLUMNS = (
    "ordinal int32, problem_id string, condition string, seed int32, attempts int32, solved bool, answer string, "
    "truth string, tokens_in int32, tokens_out int32, latency_s float64, error string, details string, "
    "attachment large_binary"
)
SCHEMA = pa.schema([pa.field(*column.split()) for column in COLUMNS.split(", ")])
FIELDS = tuple(SCHEMA.names[1:-2])  # of a trial, its details left out
MANIFEST_TYPES: dict[str, type] = {
    **dict.fromkeys(("unit_id", "phase", "host", "started_at", "finished_at"), str),
    **dict.fromkeys(("attempt", "schema_version", "n_trials"), int),
    "provenance": dict,
    "attachments": list,
}


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


def _row(ordinal: int, trial: Trial) -> Json:
    """Return a trial as a row of a bundle; its error and its engine's description may name a server."""
    error = None if trial.error is None else without_secrets(trial.error)
    engine = trial.details.get("engine")
    if isinstance(engine, dict):
        engine = {name: without_secrets(value) if isinstance(value, str) else value for name, value in engine.items()}
    details = trial.details | ({"engine": engine} if engine is not None else {})
    return {**vars(trial), "ordinal": ordinal, "error": error, "details": canonical(details)}


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle; nothing in it is trusted.

    Raises:
        BadBundle: a check failed, with the reason.
        OSError, MemoryError: it cannot be read now, which says nothing about its content.
    """
    named = NAME.fullmatch(path.name)
    if not named:
        raise BadBundle("the name is not <unit id>.<sha256>.parquet")
    with plain_file(path) as source:
        size = source.seek(0, os.SEEK_END)
        if size > MAX_BUNDLE_BYTES:
            raise BadBundle(f"{size} bytes, more than {MAX_BUNDLE_BYTES}")
        source.seek(0)
        content = source.read()
    if hashlib.sha256(content).hexdigest() != named[2]:
        raise BadBundle("the content does not match the SHA-256 in the name")
    try:
        # From memory, so that whatever Arrow says now is of the content; and without its threads for files.
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            _check_claims(file)
            manifest = _manifest(file.schema_arrow.metadata or {}, named[1])
            table = read_bounded(file)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise BadBundle(f"not readable as Parquet: {str(error)[:200]}") from error
    if table["ordinal"].null_count:
        raise BadBundle("a row has no ordinal")
    ordinals = table["ordinal"].to_numpy()
    split = int(np.count_nonzero(ordinals >= 0))
    in_order = np.concatenate([np.arange(split), -1 - np.arange(len(ordinals) - split)])
    if not np.array_equal(ordinals, in_order) or split != manifest["n_trials"]:
        raise BadBundle(f"{split} trials, {manifest['n_trials']} announced, or out of order")
    trials = table.slice(0, split)
    for name in ("problem_id", "condition", "details"):
        if trials[name].null_count:
            raise BadBundle(f"a trial has no {name}")
    for text in unsure(trials["details"]):
        check_details(text)
    return Bundle(manifest, trials, _attachments(table, split, manifest), named[2], size, named[3])


def memory_needed(path: Path) -> int:
    """Return the bytes of memory that the bundle's metadata claims; reading refuses more. 0 if it is no bundle."""
    try:
        status = path.lstat()
        if NAME.fullmatch(path.name) and stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BUNDLE_BYTES:
            return claimed_bytes(pq.read_metadata(path))
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError):
        pass  # reported when it is read
    return 0


def claimed_bytes(claims: pq.FileMetaData) -> int:
    plain = sum(claims.row_group(i).total_byte_size for i in range(claims.num_row_groups))
    return int(plain + ROW_BYTES * claims.num_rows + FILE_BYTES)


def _check_claims(file: pq.ParquetFile) -> None:
    """Check the metadata before any data is read: columns, rows, uncompressed size, encodings."""
    if file.schema_arrow.remove_metadata() != SCHEMA:
        raise BadBundle("the columns are not a bundle's")
    claims = file.metadata
    if claims.num_rows > MAX_ROWS:
        raise BadBundle(f"{claims.num_rows} rows, more than {MAX_ROWS}")
    groups = [claims.row_group(i) for i in range(claims.num_row_groups)]
    plain = sum(g.total_byte_size for g in groups)
    if plain > MAX_PLAIN_BYTES:
        raise BadBundle(f"{plain} bytes uncompressed, more than {MAX_PLAIN_BYTES}")
    for column in (g.column(i) for g in groups for i in range(g.num_columns)):
        if other := set(column.encodings) - ENCODINGS:
            raise BadBundle(f"column encoding {', '.join(sorted(other))} is not a bundle's")


def read_bounded(file: pq.ParquetFile) -> pa.Table:
    """Read all rows in small steps, since the size in the metadata is only a claim."""
    batches, plain, most = [], 0, min(MAX_PLAIN_BYTES, claimed_bytes(file.metadata))
    for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        plain += batch.nbytes
        if plain > most:
            raise BadBundle(f"more than {most} bytes uncompressed, its metadata claims less")
        batches.append(batch)
    table = pa.Table.from_batches(batches, schema=SCHEMA)
    table.validate(full=True)
    return table


def _manifest(metadata: dict[bytes, bytes], unit_id: str) -> Json:
    try:
        manifest = json.loads(metadata[b"manifest"])
        if canonical(manifest).encode() != metadata[b"manifest"]:
            raise BadBundle("the manifest is not canonical JSON")
    except (KeyError, ValueError, RecursionError) as error:
        raise BadBundle("no readable manifest") from error
    if not isinstance(manifest, dict):
        raise BadBundle("the manifest is not an object")
    for key, kind in MANIFEST_TYPES.items():
        if not isinstance(manifest.get(key), kind) or isinstance(manifest.get(key), bool):
            raise BadBundle(f"manifest.{key} is missing or not of type {kind.__name__}")
    if manifest["schema_version"] > SCHEMA_VERSION:
        raise BadBundle(f"schema version {manifest['schema_version']}, this warehouse knows {SCHEMA_VERSION}")
    if min(manifest["schema_version"], manifest["attempt"]) < 1 or manifest["attempt"] > MAX_ATTEMPT:
        raise BadBundle("manifest.schema_version or manifest.attempt is out of range")
    if not PHASE.fullmatch(manifest["phase"]):
        raise BadBundle("manifest.phase is not a phase's name")
    if manifest["unit_id"] != unit_id:
        raise BadBundle("the manifest names another unit than the file")
    try:
        checked_host(manifest["host"])
        datetime.fromisoformat(manifest["started_at"])
        datetime.fromisoformat(manifest["finished_at"])
    except (LabError, ValueError) as error:
        raise BadBundle(f"manifest: {str(error)[:200]}") from error
    return manifest


def unsure(details: pa.ChunkedArray) -> list[str]:
    """Return the texts that may not be I-JSON objects (see `check_details`): orjson checks many at once, ten times faster."""
    texts, found = details.cast(pa.binary()).to_pylist(), []
    for start in range(0, len(texts), LOOK_ROWS):
        some = texts[start : start + LOOK_ROWS]
        if not _sure(some):
            found += [text.decode() for text in some if not _sure([text])]
    return found


def _sure(texts: Sequence[bytes]) -> bool:
    """Return True if each text is an object without repeated names. orjson refuses NaN and half surrogate pairs."""
    # Between two texts is a string that no text can hold, so each text must be exactly one value of the list.
    listed = b"[" + BETWEEN.join(texts) + b"]"
    try:
        values = orjson.loads(listed)
        found = values[::2]
        apart = len(values) == 2 * len(texts) - 1 and all(v == MARK for v in values[1::2])
        if not apart or any(type(v) is not dict for v in found):
            return False
        # A name is followed by a colon: with as many colons as names, no repeated name was dropped. If texts hold colons or
        # objects hold objects: a text that lost a name would be shorter when it is written again.
        same: bool = listed.count(b":") == sum(map(len, found)) or orjson.dumps(values) == listed
    except (ValueError, TypeError):
        return False
    return same


def check_details(text: str) -> None:
    """Check that a text is an I-JSON object (RFC 7493): no repeated names, numbers that fit a double, whole characters."""
    try:
        details = json.loads(text, object_pairs_hook=_named_once)
        if not isinstance(details, dict):
            raise BadBundle("a trial's details are not an object")
        canonical(details).encode()  # refuses infinity, NaN and half surrogate pairs
    except (ValueError, RecursionError) as error:
        raise BadBundle("a trial's details are not JSON") from error


def _named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadBundle("a trial's details have a repeated name")
    return found


def _attachments(table: pa.Table, split: int, manifest: Json) -> tuple[Attachment, ...]:
    contents = table["attachment"].slice(split).to_pylist()
    if len(contents) != len(manifest["attachments"]):
        raise BadBundle("attachments do not match the manifest")
    found = []
    for content, entry in zip(contents, manifest["attachments"], strict=True):
        if not isinstance(entry, dict) or content is None or not isinstance(entry.get("name"), str):
            raise BadBundle("an attachment is missing or unnamed")
        if not ATTACHMENT.fullmatch(entry["name"]):
            raise BadBundle("an attachment's name is not a plain file name")
        sha256 = hashlib.sha256(content).hexdigest()
        if entry.get("sha256") != sha256 or entry.get("size_bytes") != len(content):
            raise BadBundle("an attachment does not match its SHA-256")
        found.append(Attachment(entry["name"], sha256, content))
    return tuple(found)
