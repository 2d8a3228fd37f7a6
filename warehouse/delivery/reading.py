"""Read bundles that others wrote: nothing in them is trusted, and all is bounded before it takes memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.canonical_json import canonical
from common.environment import checked_host
from common.errors import LabError
from common.files import plain_file
from common.limits import MAX_ATTACHMENT_BYTES, MAX_BUNDLE_BYTES, MAX_PLAIN_BYTES
from experiments.contract import Attachment, Json
from warehouse.delivery.bundles import MAX_ATTEMPT, NAME, SCHEMA, SCHEMA_1, SCHEMA_VERSION, BadBundle, Bundle, upgraded
from warehouse.delivery.parquet_pages import unpacked_bytes

MAX_ROWS = 1_000_000  # E1 at full scale is 1,350 trials over all its units
MAX_TEXT_BYTES = 4 * 2**20  # of one text; details with a prompt, or with a vector of 4,096 numbers, have less than 0.1
MAX_FOOTER_BYTES = 4 * 2**20  # with the manifest, which is a kilobyte or two
TAIL_BYTES = 2**16  # read at first, to find the footer
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
MAX_BYTES = {f.name: MAX_TEXT_BYTES for f in SCHEMA if f.type == pa.string()} | {"attachment": MAX_ATTACHMENT_BYTES}
MANIFEST_TYPES: dict[str, type] = {
    **dict.fromkeys(("unit_id", "phase", "host", "started_at", "finished_at"), str),
    **dict.fromkeys(("attempt", "schema_version", "n_trials"), int),
    "provenance": dict,
    "attachments": list,
}


@dataclass(frozen=True)
class Head:
    """What the name and the footer of a bundle say; its rows were not read."""

    manifest: Json
    sha256: str
    signature: str | None
    size_bytes: int
    claims: pq.FileMetaData  # columns, rows and sizes
    plain_bytes: int  # of the data uncompressed, as the metadata claims; reading refuses more
    footer: bytes  # the end of the file, from which the rest was read

    @property
    def needed_bytes(self) -> int:
        """Memory that the bundle takes when it is read."""
        return self.size_bytes + self.plain_bytes


def read_head(path: Path) -> Head:
    """Read and check the name and the footer of a bundle; neither its rows nor its SHA-256 are looked at.

    Raises:
        BadBundle: a check failed, with the reason.
        OSError: the file cannot be read now.
    """
    named = _named(path)
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        end = file.read()
        try:
            if (length := _footer_bytes(end)) > len(end):
                file.seek(max(0, size - length))
                end = file.read()
            return _head(named, end, size)
        except BadBundle:
            _content(path, named)  # says so if the file is torn, which shows in many ways here
            raise


def read_bundle(path: Path, head: Head | None = None) -> Bundle:
    """Read and check a bundle; nothing in it is trusted.

    Args:
        head: what `read_head` returned for it; None: it is read now.

    Raises:
        BadBundle: a check failed, with the reason.
        OSError: the file cannot be read now.
    """
    named = _named(path)
    content = _content(path, named)
    if head is None:
        head = _head(named, content[-_footer_bytes(content) :], len(content))
    elif not content.endswith(head.footer):
        raise OSError(errno.EAGAIN, "the file changed while it was read", str(path))
    with _reading():
        for group in map(head.claims.row_group, range(head.claims.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if unpacked_bytes(content, column) > (most := column.total_uncompressed_size):
                    raise BadBundle(f"more than {most} bytes uncompressed in a column, its metadata claims less")
        with pq.ParquetFile(pa.BufferReader(content), metadata=head.claims) as file:
            table = _table(file, head.plain_bytes)
    return _checked(head, table)


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what pyarrow says of wrong content into BadBundle; that memory or threads are lacking is no fault of the content."""
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise BadBundle(f"not readable as Parquet: {str(error)[:200]}") from error


def _checked(head: Head, table: pa.Table) -> Bundle:
    """Check the rows against the manifest, and each value."""
    manifest = head.manifest
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
    attachments = _attachments(table, split, manifest)
    return Bundle(manifest, trials, attachments, head.sha256, head.size_bytes, head.signature)


def _named(path: Path) -> re.Match[str]:
    if named := NAME.fullmatch(path.name):
        return named
    raise BadBundle("the name is not <unit id>.<sha256>.parquet")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is not too large for a bundle."""
    with plain_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BUNDLE_BYTES:
            raise BadBundle(f"{size} bytes, more than {MAX_BUNDLE_BYTES}")
        yield file


def _content(path: Path, named: re.Match[str]) -> bytes:
    """Return the bytes of a bundle, which are those that its name promises."""
    with _opened(path) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != named[2]:
        raise BadBundle("the content does not match the SHA-256 in the name")
    return content


def _footer_bytes(end: bytes) -> int:
    """Return the length of the footer that `end` ends with, its mark and its length included.

    Raises:
        BadBundle: it ends with none, or with one that is too long.
    """
    if len(end) < 8 or end[-4:] != b"PAR1":
        raise BadBundle("not readable as Parquet: it has no footer")
    length = 8 + int.from_bytes(end[-8:-4], "little")
    if length > MAX_FOOTER_BYTES:
        raise BadBundle(f"a footer of {length} bytes, more than {MAX_FOOTER_BYTES}")
    return length


def _head(named: re.Match[str], end: bytes, size: int) -> Head:
    footer = end[-_footer_bytes(end) :]
    with _reading(), pq.ParquetFile(pa.BufferReader(footer)) as file:
        plain = _check_claims(file)
        manifest = _manifest(file.schema_arrow.metadata or {}, named[1])
        return Head(manifest, named[2], named[3], size, file.metadata, plain, footer)


def _check_claims(file: pq.ParquetFile) -> int:
    """Check the metadata before any data is read: columns, rows, encodings, size of values and of all; return the last."""
    schema = file.schema_arrow.remove_metadata()
    if schema not in (SCHEMA, SCHEMA_1):
        raise BadBundle("the columns are not a bundle's")
    claims = file.metadata
    if claims.num_rows > MAX_ROWS:
        raise BadBundle(f"{claims.num_rows} rows, more than {MAX_ROWS}")
    plain = ROW_BYTES * claims.num_rows + FILE_BYTES
    for group in map(claims.row_group, range(claims.num_row_groups)):
        columns = [group.column(i) for i in range(group.num_columns)]
        for column, name in zip(columns, schema.names, strict=True):
            if other := set(column.encodings) - ENCODINGS:
                raise BadBundle(f"column encoding {', '.join(sorted(other))} is not a bundle's")
            most = MAX_BYTES.get(name, 0)
            if most and column.total_uncompressed_size > group.num_rows * most + FILE_BYTES:
                raise BadBundle(f"a value of {name} has more than {most} bytes, as its metadata claims")
        plain += max(group.total_byte_size, sum(column.total_uncompressed_size for column in columns))
    if plain > MAX_PLAIN_BYTES:
        raise BadBundle(f"{plain} bytes uncompressed, more than {MAX_PLAIN_BYTES}")
    return int(plain)


def _table(file: pq.ParquetFile, most: int) -> pa.Table:
    """Read all rows in small steps, and check the size of each value: that in the metadata is only a claim."""
    batches, plain = [], 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        plain += batch.nbytes
        if plain > most:
            raise BadBundle(f"more than {most} bytes uncompressed, its metadata claims less")
        for name, allowed in MAX_BYTES.items():
            if (pc.max(pc.binary_length(batch.column(name))).as_py() or 0) > allowed:
                raise BadBundle(f"a value of {name} has more than {allowed} bytes")
        batches.append(batch)
    table = pa.Table.from_batches(batches, schema=file.schema_arrow.remove_metadata())
    table.validate(full=True)
    return upgraded(table)


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
    # Parsed, a text may take thirty times its bytes, so large ones are looked at alone.
    rows = LOOK_ROWS if max(map(len, texts), default=0) < MAX_TEXT_BYTES // LOOK_ROWS else 1
    for start in range(0, len(texts), rows):
        some = texts[start : start + rows]
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
