"""lab assess: what it prints and keeps, and reports of other machines that it registers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lab_process import Run

from lab.commands.machine import describe
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.assess import CapabilityReport, parse_report

# A report of the basic script from before this project, with made-up numbers.
OLD: dict[str, Any] = {
    "timestamp": "2025-01-02 06:00:00",
    "hostname": "Old-Laptop.local",
    "system": {
        "platform": "Linux",
        "processor": "",
        "architecture": "x86_64",
        "python_version": "3.12.3 (main)",
        "cpu_count": 8,
        "cpu_count_physical": 4,
        "ram_gb": 8,
        "ram_available_gb": 5.5,
        "disk_free_gb": 100,
    },
    "benchmark": {},
    "capabilities": {"prerequisites": True, "e0_e1": True, "e2_full": False, "e2_quantized": False},
}


def test_an_older_report_of_another_machine_is_registered(called: Run, home: Path, tmp_path: Path) -> None:
    """A machine that was assessed before this project counts as it is; the coordinator takes the report in as any other."""
    source = tmp_path / "capability_report_Old-Laptop.json"
    source.write_text(json.dumps(OLD))
    done = called("assess", "--from", str(source))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "old-laptop: medium"
    assert "not strong: 5.91 GB RAM available, 12 needed" in done.stdout
    kept = home / "results" / "hosts" / "capability_report_old-laptop.json"
    assert parse_report(kept.read_bytes()) == parse_report(source.read_bytes())
    assert json.loads(kept.read_bytes())["report_version"] == 2
    paths = Paths(home)
    taken = collect(paths, Store(home / "results", paths.spool, paths.bundles))
    assert taken.quarantined == []
    assert (paths.reports / kept.name).read_bytes() == kept.read_bytes()


def test_what_cannot_be_registered_is_told_in_one_line(called: Run, home: Path, tmp_path: Path) -> None:
    """A hostile report ends with its field named and is not kept; an option that would do nothing is refused."""
    source = tmp_path / "report.json"
    source.write_text(json.dumps(OLD | {"hostname": "../../etc/cron.d/x"}))
    for arguments, said in (
        (["--from", str(source)], "'hostname' = '../../etc/cron.d/x': not the name of a host"),
        (["--from", str(source), "--quick"], f"lab assess --from {source}"),
        (["--from", str(tmp_path / "none.json")], "none.json"),
        (["--from", str(tmp_path)], str(tmp_path)),
    ):
        done = called("assess", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (home / "results").exists()
    assert list(home.glob("capability_report_*")) == []


@pytest.mark.parametrize("known", [True, False], ids=["all known", "nothing known"])
def test_only_what_is_known_is_printed(known: bool) -> None:
    """A speed that was not measured is left out; a zero that was measured is shown, since it says a lot."""
    more: dict[str, Any] = {
        "matrix_gflops": 0.0,
        "embedding_texts_per_s": 21.44,
        "prefill_tokens_per_s": 449.6,
        "disk_write_mb_s": 0.0,
        "ram_limit_gb": 4.0,
        "cpu_flags": ["avx2", "fma"],
        "ollama_models": [],
        "clock_offset_s": -7.5,
        "models": ["smollm2-135m", "ollama/phi3"],
        "prefill_bfloat16_tokens_per_s": 1203.0,
    }
    report = CapabilityReport(
        host="desk",
        created_at=datetime(2025, 1, 2, tzinfo=UTC),
        os="Linux",
        architecture="x86_64",
        python="3.11.2",
        versions={},
        cores_physical=4,
        cores_logical=8,
        ram_total_gb=32.0,
        ram_available_gb=3.5,
        disk_free_gb=100.0,
        gpus=["A", "B"],
        engines=[],
        tier="weak",
        profiles={},
        reasons=["because"],
        **(more if known else {}),
    )
    lines = list(describe(report))
    assert lines[0] == "desk: weak"
    assert lines[-1] == "  because"
    assert ("  memory     3.5 of 32.0 GB available, limited to 4.0 GB" in lines) is known
    assert ("  disk       100 GB free, writes 0 MB/s" in lines) is known
    assert ("  processor  4 cores, 0 GFLOPS" in lines) is known
    assert [
        line in lines
        for line in (
            "  has        avx2 fma",
            "  embeds     21.4 texts/s",
            "  reads      450 tokens/s, 1.2e+03 in bfloat16",
            "  Ollama     has no models",
            "  clock      -7.5 s to the Prefect server's",
            "  models     smollm2-135m",
        )
    ] == [known] * 6
    assert "  GPU        A; B" in lines
