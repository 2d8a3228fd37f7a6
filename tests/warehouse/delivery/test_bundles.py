"""Bundles: what is written comes back bit for bit, and nothing that is not a whole bundle is believed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.canonical_json import canonical
from common.errors import LabError
from experiments.contract import Attachment, Trial, Unit
from warehouse.delivery import reading
from warehouse.delivery.bundles import SCHEMA, SCHEMA_1, BadBundle, write_bundle
from warehouse.delivery.reading import read_bundle, read_head

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
INT32 = st.integers(-(2**31), 2**31 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
TRIALS = st.builds(
    Trial,
    problem_id=TEXT,
    condition=TEXT,
    seed=st.none() | INT32,
    attempts=st.none() | st.floats(1, 1e6),
    solved=st.none() | st.booleans(),
    answer=st.none() | TEXT,
    truth=st.none() | TEXT,
    tokens_in=st.none() | INT32,
    tokens_out=st.none() | INT32,
    latency_s=st.none() | st.floats(allow_nan=False),
    error=st.none() | TEXT,
    details=st.dictionaries(TEXT, JSON, max_size=4),
)
ATTACHMENTS = st.lists(st.binary(max_size=200), max_size=3).map(
    lambda contents: [Attachment(f"file-{i}.bin", hashlib.sha256(c).hexdigest(), c) for i, c in enumerate(contents)]
)


def unit_called(label: str) -> Unit:
    unit_id = hashlib.sha256(label.encode()).hexdigest()[:32]
    return Unit(unit_id, "p1", 1, {"n": 1}, {"label": label}, {"code": "c", "data": "d", "models": {}})


def write(folder: Path, trials: list[Trial], attachments: list[Attachment] | None = None, label: str = "a") -> Path:
    return write_bundle(
        folder,
        unit_called(label),
        trials,
        attachments or [],
        host="pi-4",
        attempt=1,
        started_at=START,
        finished_at=START,
        provenance={"code_commit": "abc", "dirty": False, "versions": {}},
    )


def bits(value: Any) -> Any:
    """A value in which 0.0 and -0.0, or 1 and 1.0 and True, differ."""
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items()}
    if isinstance(value, list):
        return [bits(v) for v in value]
    return ("double", struct.pack("<d", value)) if isinstance(value, float) else (type(value).__name__, value)


def rewrite(path: Path, folder: Path, change: Any, **options: Any) -> Path:
    """`path` with its table or manifest changed by `change`, under a name that fits its new content."""
    file = pq.ParquetFile(path)
    table, manifest = file.read(), json.loads(file.schema_arrow.metadata[b"manifest"])
    table = change(table, manifest) if change else table
    text = canonical(manifest) if not isinstance(manifest, str) else manifest
    return hostile(folder, table.replace_schema_metadata({"manifest": text}), **options)


def hostile(folder: Path, table: pa.Table, label: str = "a", **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "new"
    pq.write_table(table, temporary, **{"use_dictionary": False, "compression": "zstd", **options})
    digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    return temporary.rename(folder / f"{unit_called(label).unit_id}.{digest}.parquet")


def with_column(table: pa.Table, name: str, values: Any, kind: pa.DataType | None = None) -> pa.Table:
    column = values if isinstance(values, pa.Array) else pa.array(values, kind or SCHEMA.field(name).type)
    return table.set_column(table.schema.get_field_index(name), name, column)


NOT_UTF8 = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"\xff\xfe", b"ok"], pa.binary()).buffers())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trials=st.lists(TRIALS, max_size=5), attachments=ATTACHMENTS)
def test_what_is_written_comes_back(tmp_path: Path, trials: list[Trial], attachments: list[Attachment]) -> None:
    """Every value of every trial, floats to the last bit, and every attachment survive the way through a bundle."""
    bundle = read_bundle(write(tmp_path / "spool", trials, attachments))
    rows = bundle.trials.drop_columns(["ordinal", "attachment"]).to_pylist()
    found = [Trial(**{**row, "details": json.loads(row["details"])}) for row in rows]
    assert [bits(vars(t)) for t in found] == [bits(vars(t)) for t in trials]
    assert list(bundle.attachments) == attachments
    assert bundle.manifest["n_trials"] == len(trials)
    assert bundle.manifest["provenance"]["code_commit"] == "abc"


def test_a_bundle_of_version_1_is_read(tmp_path: Path) -> None:
    """Archives hold years of work: whole attempts become numbers, and the first guess was right where one sufficed."""
    trials = [Trial("p", "none", attempts=n, error=None if n else "x") for n in (1, 4, None)]

    def older(table: pa.Table, manifest: dict[str, Any]) -> pa.Table:
        manifest["schema_version"] = 1
        return table.drop_columns(["first_right"]).cast(SCHEMA_1)

    found = read_bundle(rewrite(write(tmp_path / "spool", trials), tmp_path / "old", older)).trials
    assert found.schema == SCHEMA
    assert found["attempts"].to_pylist() == [1.0, 4.0, None]
    assert found["first_right"].to_pylist() == [1.0, 0.0, None]


def test_a_bundle_holds_no_password_of_the_engines_server(tmp_path: Path) -> None:
    """Every trial named Ollama's address as it was set, and bundles go to all machines; a problem's own text stays."""
    engine = {"engine": "ollama", "device": "http://alice:s3cret@127.0.0.1:22501", "numbers": "Q4_1"}
    text = "Is http://me:pw@example.org a URL?"
    error = "OllamaError: Ollama at http://alice:s3cret@127.0.0.1:22501 refuses"
    found = read_bundle(write(tmp_path, [Trial("p", "none", error=error, details={"engine": engine, "prompt": text})]))
    (row,) = found.trials.to_pylist()
    assert row["error"] == "OllamaError: Ollama at http://127.0.0.1:22501 refuses"
    assert json.loads(row["details"]) == {"engine": engine | {"device": "http://127.0.0.1:22501"}, "prompt": text}


def test_the_name_is_the_content(tmp_path: Path) -> None:
    """The file is named by unit and hash, zstd inside, and no temporary file stays behind."""
    path = write(tmp_path, [Trial("p", "none")])
    assert path.name == f"{unit_called('a').unit_id}.{hashlib.sha256(path.read_bytes()).hexdigest()}.parquet"
    assert pq.ParquetFile(path).metadata.row_group(0).column(1).compression == "ZSTD"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_bundle_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """NaN in details is refused at the source, where the mistake is, and no half file remains."""
    with pytest.raises(ValueError, match="JSON compliant"):
        write(tmp_path, [Trial("p", "none", details={"x": math.nan})])
    with pytest.raises(LabError, match="invalid host name"):
        write_bundle(
            tmp_path, unit_called("a"), [], host="../x", attempt=1, started_at=START, finished_at=START, provenance={}
        )
    assert list(tmp_path.iterdir()) == []


def _manifest_with(**values: Any) -> Any:
    def change(table: pa.Table, manifest: dict[str, Any]) -> pa.Table:
        manifest.update(values)
        return table

    return change


def _manifest_without(key: str) -> Any:
    def change(table: pa.Table, manifest: dict[str, Any]) -> pa.Table:
        del manifest[key]
        return table

    return change


BROKEN = {
    "newer schema": (_manifest_with(schema_version=3), "schema version 3, this warehouse knows 2"),
    "no host": (_manifest_without("host"), "manifest.host is missing"),
    "host with a path": (_manifest_with(host="../../etc"), "invalid host name"),
    "attempt is true": (_manifest_with(attempt=True), "manifest.attempt"),
    "attempt too large": (_manifest_with(attempt=2**40), "out of range"),
    "provenance is text": (_manifest_with(provenance="x"), "manifest.provenance"),
    "no time": (_manifest_with(started_at="yesterday"), "manifest"),
    "another unit": (_manifest_with(unit_id="f" * 32), "another unit"),
    "another count": (_manifest_with(n_trials=1), "1 announced"),
    "phase with a path": (_manifest_with(phase="../p1"), "manifest.phase"),
    "attachment lost": (_manifest_with(attachments=[]), "attachments do not match"),
    "attachment with a path": (
        _manifest_with(attachments=[{"name": "../x", "sha256": "0" * 64, "size_bytes": 1}]),
        "plain file name",
    ),
    "attachment with another hash": (
        _manifest_with(attachments=[{"name": "x", "sha256": "0" * 64, "size_bytes": 7}]),
        "SHA-256",
    ),
    "a column missing": (lambda t, m: t.drop_columns(["seed"]), "columns"),
    "a column of another type": (lambda t, m: with_column(t, "seed", ["1", "2", None], pa.string()), "columns"),
    "ordinals doubled": (lambda t, m: with_column(t, "ordinal", [0, 0, -1]), "out of order"),
    "an ordinal missing": (lambda t, m: with_column(t, "ordinal", [0, None, -1]), "no ordinal"),
    "no problem": (lambda t, m: with_column(t, "problem_id", ["p", None, None]), "no problem_id"),
    "details with NaN": (lambda t, m: with_column(t, "details", ["{}", '{"a":NaN}', None]), "not JSON"),
    "details with infinity": (lambda t, m: with_column(t, "details", ["{}", '{"a":1e999}', None]), "JSON"),
    "details with half a surrogate": (
        lambda t, m: with_column(t, "details", ["{}", '{"a":"\\ud800"}', None]),
        "not JSON",
    ),
    "details without end": (lambda t, m: with_column(t, "details", ["{}", "[" * 100_000, None]), "not JSON"),
    "details as a list": (lambda t, m: with_column(t, "details", ["{}", "[]", None]), "not an object"),
    "text that is no UTF-8": (lambda t, m: with_column(t, "problem_id", NOT_UTF8), "UTF8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_inconsistency_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    """A file whose hash is right and whose content is not is refused, and the reason says what is wrong."""
    change, reason = BROKEN[name]
    content = b"adapter"
    attachment = Attachment("a.safetensors", hashlib.sha256(content).hexdigest(), content)
    good = write(tmp_path / "good", [Trial("p", "none", seed=1), Trial("q", "none")], [attachment])
    unchanged = rewrite(good, tmp_path / "same", None)
    assert read_bundle(unchanged).manifest["n_trials"] == 2
    with pytest.raises(BadBundle, match=reason):
        read_bundle(rewrite(good, tmp_path / "bad", change))


def test_encodings_that_can_swell_are_refused(tmp_path: Path) -> None:
    """A dictionary lets a few kilobytes stand for gigabytes of rows; it is refused before any data is read."""
    good = write(tmp_path, [Trial("p" * 1000, "none")] * 50)
    with pytest.raises(BadBundle, match="encoding"):
        read_bundle(rewrite(good, tmp_path / "bad", None, use_dictionary=True))
    with pytest.raises(BadBundle, match="encoding"):
        read_bundle(rewrite(good, tmp_path / "bad", None, column_encoding={"details": "DELTA_BYTE_ARRAY"}))


def test_limits_hold_before_the_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size on disk, plain size and rows are limited by what the file says before it is read, and again as it is read."""
    path = write(tmp_path, [Trial("p" * 5000, "none")] * 100)  # half a megabyte, zstd makes little of it
    for limit, value, reason in (
        ("MAX_BUNDLE_BYTES", 1000, "bytes, more than 1000"),
        ("MAX_PLAIN_BYTES", 100_000, "uncompressed, more than"),
        ("MAX_ROWS", 99, "100 rows"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(reading, limit, value)
            with pytest.raises(BadBundle, match=reason):
                read_bundle(path)
    smaller = replace(read_head(path), plain_bytes=100_000)
    with pytest.raises(BadBundle, match="claims less"):
        read_bundle(path, smaller)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_torn_or_changed_file_is_never_believed(tmp_path: Path, data: st.DataObject) -> None:
    """Cut off or with bytes changed, and even named by its new hash, a file is refused or still says the same."""
    whole = write(tmp_path / "whole", [Trial("p", "none", latency_s=0.1)], label="torn")
    content = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    folder = tmp_path / "torn"
    folder.mkdir(exist_ok=True)
    named_as_before = folder / whole.name
    named_as_before.write_bytes(content)
    with pytest.raises(BadBundle, match="does not match the SHA-256"):
        read_bundle(named_as_before)
    renamed = folder / f"{unit_called('torn').unit_id}.{hashlib.sha256(content).hexdigest()}.parquet"
    named_as_before.rename(renamed)
    try:
        bundle = read_bundle(renamed)
    except BadBundle:
        return
    assert bundle.manifest["unit_id"] == unit_called("torn").unit_id
    assert bundle.trials.num_rows == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Not Parquet, empty, or called otherwise: refused with a reason, not with a traceback of another library."""
    text = b"not a bundle"
    path = tmp_path / f"{'a' * 32}.{hashlib.sha256(text).hexdigest()}.parquet"
    path.write_bytes(text)
    with pytest.raises(BadBundle, match="not readable as Parquet"):
        read_bundle(path)
    other = tmp_path / "notes.parquet"
    other.write_bytes(text)
    with pytest.raises(BadBundle, match="the name is not"):
        read_bundle(other)
    with pytest.raises(FileNotFoundError):  # of its content nothing is known
        read_bundle(tmp_path / f"{'b' * 32}.{'0' * 64}.parquet")


@settings(max_examples=400)
@given(st.dictionaries(TEXT, JSON, max_size=4) | JSON, st.sampled_from(["ours", "orjson's", "Python's"]))
def test_the_fast_look_at_details_never_passes_what_the_slow_one_refuses(value: Any, how: str) -> None:
    """Two libraries read JSON here: where they differ in a number or a letter, the one that names things must decide."""
    if how == "orjson's":
        if any(isinstance(n, int) and abs(n) >= 2**63 for n in numbers_in(value)):
            return  # orjson writes none of these
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    else:
        text = canonical(value) if how == "ours" else json.dumps(value)
    if not reading.unsure(pa.chunked_array([[text]])):
        assert isinstance(value, dict) and json.loads(text) == value
        reading.check_details(text)


def numbers_in(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        return [n for inner in (value.values() if isinstance(value, dict) else value) for n in numbers_in(inner)]
    return [value]


def test_what_a_bundle_needs_in_memory_is_known_before_it_is_read(tmp_path: Path) -> None:
    """The collector reads as many bundles at once as memory has room for; one that needs more than it claims is refused
    while it is read, and a pipe in the inbox does not hold it up."""
    path = write(tmp_path, [Trial("p", "none", details={"text": "x" * i}) for i in range(500)])
    head = read_head(path)
    assert head.needed_bytes > read_bundle(path).trials.nbytes > 125_000
    with pytest.raises(BadBundle, match="more than 100000 bytes uncompressed, its metadata claims less"):
        read_bundle(path, replace(head, plain_bytes=100_000))
    pipe = tmp_path / f"{'0' * 32}.{'0' * 64}.parquet"
    os.mkfifo(pipe)
    for read in (read_head, read_bundle):
        with pytest.raises(OSError, match="not a plain file"):
            read(pipe)
