"""Reports of older layouts: read as what they say, in today's units and by today's rules, or refused by field."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from made_up_reports import BASIC, ENHANCED, GOOD

from common.errors import LabError
from workpools.assess import parse_report
from workpools.report import CapabilityReport
from workpools.tiers import decide


def read(report: dict[str, Any]) -> CapabilityReport:
    return parse_report(json.dumps(report).encode())


def changed(report: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a dotted path; `...` takes the field away."""
    new = copy.deepcopy(report)
    *folders, name = path.split(".")
    inside = new
    for folder in folders:
        inside = inside[folder]
    if value is ...:
        del inside[name]
    else:
        inside[name] = value
    return new


def test_version_1_is_refused_by_name() -> None:
    """An old report gets the command that writes a new one, instead of an error about some other field."""
    with pytest.raises(LabError, match=r"'report_version' = 1: Input should be 2") as refused:
        read(GOOD | {"report_version": 1})
    assert refused.value.mend == "lab assess, on that machine"


def test_fields_that_are_not_used_are_ignored() -> None:
    """Releases of the old scripts differ in fields that decide nothing here; their hosts are registered all the same."""
    for report, path in ((BASIC, "root"), (BASIC, "system.gpu_type"), (ENHANCED, "results.network")):
        assert read(changed(report, path, [1])) == read(report)
    assert read(changed(ENHANCED, "results.llm.ollama.run", "x")) == read(ENHANCED)
    assert read(changed(ENHANCED, "results.llm", ...)).engines == []


def test_the_basic_layout_is_read_in_gigabytes() -> None:
    """5.5 GiB are 5.91 GB: counted as GB the machine would seem smaller than it is; nothing it does not say is filled in."""
    report = read(BASIC)
    assert (report.host, report.python, report.os, report.architecture) == (
        "old-laptop-ac161abf",
        "3.12.3",
        "Linux",
        "x86_64",
    )
    assert (report.ram_total_gb, report.ram_available_gb, report.disk_free_gb) == (8.59, 5.91, 107.64)
    assert (report.cores_physical, report.cores_logical) == (4, 8)
    assert report.gpus == ["NVIDIA GeForce GTX 1050, 4096 MiB", "NVIDIA GeForce GTX 1060, 6144 MiB"]
    assert (report.tier, report.profiles) == ("medium", decide(5.91, 107.64).profiles)
    assert report.reasons[0] == "not strong: 5.91 GB RAM available, 12 needed"
    assert "from an older layout" in report.reasons[1]
    assert len(report.reasons) == 2
    assert report.engines == []
    assert {report.matrix_gflops, report.embedding_texts_per_s, report.disk_write_mb_s, report.ollama_models} == {None}
    assert read(changed(BASIC, "system.gpu", ...)).gpus == read(changed(BASIC, "system.gpu", None)).gpus == []
    assert read(changed(BASIC, "system.cpu_count_physical", None)).cores_physical is None


def test_the_enhanced_layout_is_read_with_the_speeds_that_mean_the_same() -> None:
    """Its texts and tokens a second count other texts, and characters; taken over they would promise a machine ten times as fast."""
    report = read(ENHANCED)
    assert (report.host, report.os, report.python) == ("desk", "Linux 6.8", "3.12.3")
    assert (report.ram_total_gb, report.ram_available_gb, report.disk_free_gb) == (34.36, 21.47, 429.5)
    assert (report.cores_physical, report.cores_logical) == (None, 16)
    assert report.gpus == ["NVIDIA GeForce RTX 3060, 12288 MiB"]
    assert (report.tier, report.engines) == ("strong", ["embedder", "ollama"])
    assert report.ollama_models == ["llama3:8b", "phi3:mini"]
    assert (report.matrix_gflops, report.disk_write_mb_s) == (100.0, 104.9)
    assert "matrix_gflops is a lower bound" in report.reasons[-1]
    assert (report.embedding_texts_per_s, report.prefill_tokens_per_s) == (None, None)
    none = changed(ENHANCED, "results.llm.ollama", {"available": False, "error": "Ollama not installed"})
    assert (read(none).engines, read(none).ollama_models) == (["embedder"], None)
    other = changed(ENHANCED, "results.llm.embeddings", {"status": "error", "error": "no network"})
    assert read(other).engines == ["ollama"]
    assert read(changed(ENHANCED, "results.system.gpu", None)).gpus == []


@pytest.mark.parametrize(
    ("report", "path", "ram_path"),
    [
        (ENHANCED, "results.eligibility.machine_tier", "results.system.memory.available_gb"),
        (BASIC, "capabilities.e2_full", "system.ram_available_gb"),
    ],
    ids=["enhanced", "basic"],
)
def test_a_tier_follows_from_memory_and_not_from_what_a_report_claims(
    report: dict[str, Any], path: str, ram_path: str
) -> None:
    """A report that calls a small machine strong would be given work that brings it down; the difference is among the reasons."""
    small = read(changed(changed(report, ram_path, 2.0), path, True if "e2" in path else 3))
    assert small.tier == "unfit"
    assert "the older script gave tier 3 of 3; by memory and disk it is 0" in small.reasons
    # 11.5 GiB are 12.35 GB, enough for today's rule though not for the older script's.
    larger = read(changed(changed(report, ram_path, 11.5), path, False if "e2" in path else 2))
    assert larger.tier == "strong"
    assert "the older script gave tier 2 of 3; by memory and disk it is 3" in larger.reasons


@pytest.mark.parametrize(("report", "path"), [(BASIC, "timestamp"), (ENHANCED, "metadata.timestamp")])
def test_a_time_without_a_zone_is_the_earliest_that_it_can_be(report: dict[str, Any], path: str) -> None:
    """A report of a zone far east must not pass for newer than one that was made after it; with a zone it is exact."""
    assert read(changed(report, path, "2025-01-02 06:00:00")).created_at == datetime(2025, 1, 1, 16, tzinfo=UTC)
    assert read(changed(report, path, "2025-01-02T06:00:00+02:00")).created_at == datetime(2025, 1, 2, 4, tzinfo=UTC)
    assert read(changed(report, path, "0001-01-01 00:00:00")).created_at.year == 1
    with pytest.raises(LabError, match=r"'created_at' = .*future"):
        read(changed(report, path, "9999-12-31 23:59:59"))


REFUSED = {
    "a path for a host": (BASIC, "hostname", "../../etc", "'hostname' = '../../etc': not the name"),
    "an absolute path": (ENHANCED, "metadata.hostname", "/tmp/x", "'metadata.hostname' = '/tmp/x': not the name"),  # noqa: S108
    "dots for a host": (BASIC, "hostname", "..", "'hostname' = '..': not the name"),
    "an end of line in a host": (BASIC, "hostname", "desk\n", r"'hostname' = 'desk\\n': not the name"),
    "no host": (ENHANCED, "metadata.hostname", ..., "'metadata.hostname': Field required"),
    "no time": (BASIC, "timestamp", "yesterday", "'timestamp' = 'yesterday': Invalid isoformat"),
    "a long time": (BASIC, "timestamp", "1" * 10_000, "'timestamp' = '1111"),
    "a number for a time": (ENHANCED, "metadata.timestamp", 1736000000, "'metadata.timestamp' = 1736000000"),
    "a text for a number": (BASIC, "system.ram_available_gb", "16", "'system.ram_available_gb' = '16'"),
    "a number for a truth": (BASIC, "capabilities.prerequisites", 1, "'capabilities.prerequisites' = 1"),
    "a negative memory": (
        ENHANCED,
        "results.system.memory.available_gb",
        -1,
        "'results.system.memory.available_gb' = -1",
    ),
    "an endless disk": (BASIC, "system.disk_free_gb", float("inf"), "'system.disk_free_gb' = inf"),
    "more memory than there can be": (BASIC, "system.ram_gb", 1e300, r"'system.ram_gb' = 1e\+300"),
    "no cores": (ENHANCED, "results.system.cpu.logical_cores", 0, "'results.system.cpu.logical_cores' = 0"),
    "no eligibility": (ENHANCED, "results.eligibility", ..., "'results.eligibility.machine_tier': Field required"),
    "an unknown tier": (ENHANCED, "results.eligibility.machine_tier", 4, "'results.eligibility.machine_tier' = 4"),
    "a truth for a tier": (ENHANCED, "results.eligibility.machine_tier", True, "machine_tier' = True"),
    "another layout": (ENHANCED, "metadata.report_version", "3.0", "'metadata.report_version' = '3.0'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_in_an_older_report_is_named(name: str) -> None:
    """Older reports are other machines' words as well: none of them is believed more than a new one."""
    report, path, value, said = REFUSED[name]
    with pytest.raises(LabError, match=said) as refused:
        read(changed(report, path, value))
    assert len(refused.value.what) < 400
    assert "\n" not in refused.value.what
