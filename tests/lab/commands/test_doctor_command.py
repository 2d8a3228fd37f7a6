"""lab doctor: what this machine's tier needs, found or missing, each missing one with the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from common.resources import Memory
from lab.commands import doctor as commands_doctor
from lab.commands.doctor import Check, checks, doctor
from warehouse.database.connection import writing
from warehouse.paths import Paths
from workpools import packages


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LAB_HOME of its own, and ports on which nothing listens."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.delenv("LAB_RESULTS_URL", raising=False)


def named(found: list[Check], name: str) -> Check:
    return next(c for c in found if c.name == name)


def test_every_kind_is_looked_at_and_what_is_not_found_can_be_mended() -> None:
    """A line that says missing without a command leaves the user where he was."""
    found = checks("strong")
    kinds = {"machine", "package", "engine", "model", "extension", "service", "setting", "permission", "results"}
    assert kinds <= {c.kind for c in found} <= kinds | {"size"}
    assert all(c.mend for c in found if c.state != "found")
    assert named(found, "smollm2-135m").state == named(found, "all-MiniLM-L6-v2").state == "found"
    assert named(found, "ollama/...").state == "absent" and named(found, "ollama/...").mend == "ollama serve"
    assert named(found, "Prefect server").detail == "http://127.0.0.1:9/api"


def test_what_a_tier_does_without_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pi of the tier weak is whole without bitsandbytes; without peft no machine is, since P3 trains."""
    monkeypatch.setattr("workpools.assess.find_spec", lambda name: None if name == "peft" else object())
    monkeypatch.setattr(commands_doctor, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    states = {
        tier: (named(checks(tier), "LoRA through peft").state, named(checks(tier), "8-bit and 4-bit").state)
        for tier in ("weak", "medium", "strong")
    }
    assert states == {"weak": ("missing", "absent"), "medium": ("missing", "missing"), "strong": ("missing", "absent")}


def test_an_unmet_requirement_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own metadata says what a tier needs; an old version is as bad as none."""
    lacking = packages.unmet("weak", ["gguf>=0.17", "peft>=9; extra == 'weak'"], lambda name: "0.18")
    monkeypatch.setattr(packages, "unmet", lambda tier: lacking)
    one = named(checks("weak"), "peft>=9")
    assert (one.state, one.mend) == ("missing", "pip install 'peft>=9'")
    assert "peft 0.18 is installed" in one.detail


def test_a_folder_that_cannot_be_written_is_a_missing_permission(tmp_path: Path) -> None:
    """Found before a run, not by its first bundle."""
    (tmp_path / "spool").write_text("a file where a folder belongs")
    one = named(checks("weak"), "write spool")
    assert one.state == "missing" and "File exists" in one.detail and "chown" in one.mend


def test_a_way_to_the_results_needs_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """rsync is asked for only where results go by rsync."""
    assert "rsync" not in {c.name for c in checks("weak")}
    monkeypatch.setenv("LAB_RESULTS_URL", "rsync+ssh://host/results")
    monkeypatch.setattr(commands_doctor.shutil, "which", lambda program: None)
    found = checks("weak")
    assert (named(found, "rsync").state, named(found, "rsync").mend) == ("missing", "apt install rsync")


def test_results_that_this_version_cannot_use_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warehouse of a newer version, or an address that leads nowhere, is found here and not by the first run."""
    with writing(Paths(tmp_path), publish=True) as con:
        con.execute("INSERT INTO schema_migrations VALUES (99, '0099_x.sql', 'x', now())")
    one = named(checks("weak"), "schema")
    assert one.state == "missing" and "schema 99" in one.detail and one.mend == "git pull && make setup"
    monkeypatch.setenv("LAB_RESULTS_URL", "ftp://pi/x")
    one = named(checks("weak"), "where they go")
    assert one.state == "missing" and "'ftp://pi/x'" in one.detail and one.mend


def test_each_part_of_the_memory_has_its_size(tmp_path: Path) -> None:
    """Where a full disk comes from is seen at once; a part that is not there takes no line."""
    with writing(Paths(tmp_path), publish=True):
        pass
    Paths(tmp_path).embeddings.write_bytes(bytes(2_000_000))
    found = {c.name: c.detail for c in checks("weak") if c.kind == "size"}
    assert found["embeddings"] == "2 MB" and {"warehouse", "snapshot", "records"} <= set(found)
    assert "quarantine" not in found
    assert named(checks("weak"), "schema").state == "found"


def test_a_machine_that_is_unfit_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory for any tier is the first thing a user must hear."""
    monkeypatch.setattr(commands_doctor, "memory", lambda: Memory(2.0, 1.0, None))
    one = checks()[0]
    assert (one.name, one.state) == ("tier unfit", "missing") and "1.00 GB RAM available" in one.detail
    assert one.detail.endswith("; it cannot run P1, P2, P3, E0, E1, E2")


def test_a_small_machine_is_told_what_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner would wait for phases that never come."""
    for ram, cannot in ((4.0, "; it cannot run E0, E1, E2"), (6.5, "; it cannot run E2"), (14.0, "")):
        monkeypatch.setattr(commands_doctor, "memory", lambda ram=ram: Memory(16.0, ram, None))
        one = checks()[0]
        assert one.state == "found" and one.detail.partition("; it cannot")[2] == cannot.partition("; it cannot")[2]


def test_scripts_get_json_and_an_exit_code(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """1 when something is missing, 0 when not, and the same checks as people read."""
    whole = [Check("engine", "one", "found"), Check("engine", "two", "absent", "by choice", "pip install two")]
    monkeypatch.setattr(commands_doctor, "checks", lambda tier: whole)
    assert doctor(as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "checks": [
            {"kind": "engine", "name": "one", "state": "found", "detail": "", "mend": ""},
            {"kind": "engine", "name": "two", "state": "absent", "detail": "by choice", "mend": "pip install two"},
        ],
    }
    whole.append(Check("model", "three", "missing", "gone", "pip install three"))
    assert doctor(as_json=True) == 1 and json.loads(capsys.readouterr().out)["ok"] is False
    assert doctor() == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  missing  three                        gone; pip install three",
        "1 missing",
    ]


def test_a_wrong_tier_is_the_users_mistake() -> None:
    """Checked against nothing, every machine would be well."""
    with pytest.raises(Exception, match=r"unknown tier 'huge'\. choose one of: weak, medium, strong"):
        doctor(tier="huge")


def test_doctor_imports_no_engine_where_nothing_is_to_be_measured() -> None:
    """torch takes seconds and a gigabyte: a small machine asks what it lacks without it."""
    import subprocess

    code = (
        "import sys; from lab.commands import doctor as d; d.checks('weak');"
        "print([m for m in ('torch', 'transformers', 'mlx', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
