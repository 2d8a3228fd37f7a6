"""Capability reports: what this machine says of itself, and what is believed of another's."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.environment import HOST_PATTERN
from experiments.errors import LabError
from workpools import assess as assessing
from workpools.assess import MAX_REPORT_BYTES, CapabilityReport, assess, parse_report
from workpools.tiers import NEEDS, decide

GOOD: dict[str, Any] = {
    "report_version": 1, "host": "pi-4", "created_at": "2026-11-24T06:00:00Z", "os": "Linux 6.1", "architecture": "aarch64",
    "python": "3.11.2", "versions": {"numpy": "2.4.6"}, "cores_physical": 4, "cores_logical": 4, "ram_total_gb": 8.0,
    "ram_available_gb": 6.5, "disk_free_gb": 50, "gpus": [], "engines": ["embedder"], "matrix_gflops": 12.5,
    "embedding_texts_per_s": None, "disk_write_mb_s": 30, "tier": "medium",
    "profiles": {"prerequisites": True, "e0_e1": True, "e2_quantized": True, "e2": False},
    "reasons": ["not strong: 6.50 GB RAM available, 12 needed"],
}  # fmt: skip


def check_consistent(report: CapabilityReport, began: datetime) -> None:
    """The tier follows from the numbers shown, the numbers from this machine, and the file form gives the same back."""
    decision = decide(report.ram_available_gb, report.disk_free_gb)
    assert (report.tier, report.profiles, report.reasons) == (decision.tier, decision.profiles, decision.reasons)
    assert set(report.profiles) == set(NEEDS)
    assert 0 < report.ram_available_gb <= report.ram_total_gb
    assert math.isclose(report.ram_total_gb, psutil.virtual_memory().total / 1e9, abs_tol=0.01)
    assert 1 <= report.cores_physical <= report.cores_logical
    assert HOST_PATTERN.fullmatch(report.host)
    assert began <= report.created_at <= datetime.now(UTC)
    assert report.versions["numpy"]
    assert parse_report(report.model_dump_json(indent=1).encode()) == report


def test_a_quick_look_tells_the_tier_without_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is registered within seconds, and a speed that was not measured is absent, never a zero."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    began, started = datetime.now(UTC), time.monotonic()
    report = assess(quick=True)
    assert time.monotonic() - started < 5
    check_consistent(report, began)
    assert report.matrix_gflops is report.embedding_texts_per_s is report.disk_write_mb_s is None


@pytest.mark.slow
def test_measuring_gives_speeds_that_this_machine_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are of the right order: a unit mixed up (operations for pairs, bytes for megabytes) would leave the range."""
    home = tmp_path / "home"
    monkeypatch.setenv("LAB_HOME", str(home))
    began, started = datetime.now(UTC), time.monotonic()
    report = assess()
    assert time.monotonic() - started < 60
    check_consistent(report, began)
    assert report.matrix_gflops
    assert report.disk_write_mb_s
    assert 0.5 < report.matrix_gflops < 20_000
    assert 1 < report.disk_write_mb_s < 50_000
    assert "embedder" in report.engines
    assert report.embedding_texts_per_s
    assert 0.2 < report.embedding_texts_per_s < 20_000
    assert list(home.iterdir()) == []


def test_what_answers_on_ollamas_port_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that speaks no HTTP on that port is no ollama, and no reason for a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(assessing, "OLLAMA_TAGS", f"http://127.0.0.1:{listening.getsockname()[1]}/api/tags")

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 smtp here\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        engines = assessing._engines()
        thread.join()
    assert "ollama" not in engines
    assert {"embedder", "language_model", "lora"} <= set(engines)


def with_values(**values: Any) -> bytes:
    return json.dumps({**GOOD, **values}).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()


REFUSED = {
    "oversized": (
        b" " * MAX_REPORT_BYTES + with_values(),
        f"of {MAX_REPORT_BYTES + len(with_values())} bytes, at most",
    ),
    "empty": (b"", "not JSON"),
    "half": (with_values()[:-20], "not JSON"),
    "another text": (b"tier: medium", "not JSON"),
    "not UTF-8": (with_values().replace(b"pi-4", b"pi-\xff"), "not JSON"),
    "half a surrogate": (with_values(os="\ud800"), "not JSON"),
    "too deep": (b'{"versions":' + b'{"a":' * 50_000, "not JSON"),
    "deep and whole": (with_values(gpus=json.loads("[" * 900 + "]" * 900)), "not JSON: .*recursion"),
    "a list": (b"[]", r"= \[\]: Input should be an object"),
    "a missing field": (without("tier"), "'tier': Field required"),
    "an unknown field": (with_values(root=True), "'root' = True: Extra inputs"),
    "a text for a number": (with_values(ram_total_gb="8"), "'ram_total_gb' = '8'"),
    "a number for a text": (with_values(python=3.11), "'python' = 3.11"),
    "a truth for a number": (with_values(cores_logical=True), "'cores_logical' = True"),
    "no number": (with_values(matrix_gflops=float("nan")), "'matrix_gflops' = nan"),
    "an endless number": (with_values(disk_free_gb=float("inf")), "'disk_free_gb' = inf"),
    "a negative number": (with_values(disk_free_gb=-1), "'disk_free_gb' = -1"),
    "no cores": (with_values(cores_physical=0), "'cores_physical' = 0"),
    "an unknown tier": (with_values(tier="huge"), "'tier' = 'huge'"),
    "another version": (with_values(report_version=2), "'report_version' = 2"),
    "no time zone": (with_values(created_at="2026-11-24T06:00:00"), "'created_at' = '2026-11-24T06:00:00'"),
    "a wrong type inside": (with_values(profiles={"e2": "yes"}), r"'profiles\.e2' = 'yes'"),
    "a wrong type in a list": (with_values(gpus=["a", None]), r"'gpus\.1' = None"),
    "a path for a host": (with_values(host="../../etc/cron.d/x"), r"host name '\.\./\.\./etc"),
    "an absolute path": (with_values(host="/tmp/x"), "host name '/tmp/x'"),  # noqa: S108
    "a host with an end of line": (with_values(host="pi-4\n"), r"host name 'pi-4\\n'"),
    "a host with dots": (with_values(host="pi.local"), "host name 'pi.local'"),
    "no host": (with_values(host=""), "host name ''"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_report_is_refused_and_the_field_named(name: str) -> None:
    """Reports come from other machines: nothing wrong in them is believed, and their owner learns which field it is."""
    content, said = REFUSED[name]
    with pytest.raises(LabError, match=said) as refused:
        parse_report(content)
    assert len(refused.value.what) < 400
    assert "\n" not in refused.value.what
    assert refused.value.mend


def test_a_good_report_is_believed_as_it_is() -> None:
    """Every field arrives with the value written, whole numbers for real ones included."""
    report = parse_report(with_values())
    assert {k: getattr(report, k) for k in GOOD if k != "created_at"} == {
        k: v for k, v in GOOD.items() if k != "created_at"
    }
    assert report.created_at == datetime(2026, 11, 24, 6, tzinfo=UTC)


FINITE = st.floats(0, 1e9, allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REPORTS = st.builds(
    CapabilityReport,
    host=st.from_regex(HOST_PATTERN, fullmatch=True), created_at=st.datetimes(timezones=st.just(UTC)),
    os=TEXT, architecture=TEXT, python=TEXT, versions=st.dictionaries(TEXT, TEXT, max_size=3),
    cores_physical=st.integers(1, 512), cores_logical=st.integers(1, 512), ram_total_gb=FINITE.filter(bool),
    ram_available_gb=FINITE, disk_free_gb=FINITE, gpus=st.lists(TEXT, max_size=3), engines=st.lists(TEXT, max_size=3),
    matrix_gflops=st.none() | FINITE, embedding_texts_per_s=st.none() | FINITE, disk_write_mb_s=st.none() | FINITE,
    tier=st.sampled_from(["weak", "medium", "strong", "unfit"]), profiles=st.dictionaries(TEXT, st.booleans(), max_size=3),
    reasons=st.lists(TEXT, max_size=3),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(report=REPORTS)
def test_any_report_comes_back_from_its_file_form(report: CapabilityReport) -> None:
    """What a host writes is what the coordinator reads, to the last digit and letter."""
    assert parse_report(report.model_dump_json(indent=1).encode()) == report


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_mutated_report_parses_or_is_refused_and_nothing_else(data: st.DataObject) -> None:
    """No change of a field, a key or a byte gets past the refusals, or ends in anything but a report or a LabError."""
    changed: dict[Any, Any] = dict(GOOD)
    for name in data.draw(st.lists(st.sampled_from(list(GOOD)), max_size=2)):
        changed[name] = data.draw(JSON)
    for name in data.draw(st.lists(st.sampled_from(list(GOOD)), max_size=1)):
        changed.pop(name)
    changed |= data.draw(st.dictionaries(st.text(max_size=8), JSON, max_size=1))
    content = bytearray(json.dumps(changed).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = parse_report(bytes(content))
    except LabError:
        return
    assert HOST_PATTERN.fullmatch(report.host)
    assert report.created_at - datetime.now(UTC) < timedelta.max
    assert parse_report(report.model_dump_json().encode()) == report


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes) -> None:
    """Noise in the place of a report is a LabError."""
    with pytest.raises(LabError):
        parse_report(content)


def test_a_full_disk_has_no_speed_and_keeps_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a full disk is still told that it is unfit, and does not keep the 64 MB that filled it."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert assessing._disk_speed(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
