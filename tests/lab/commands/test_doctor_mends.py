"""lab doctor finds what a run would stumble over, and what it says mends it: each mend is carried out here."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from common.environment import code_commit
from experiments.contract import Trial, Unit
from lab.checks import Check
from lab.commands import doctor, doctor_models, doctor_system
from lab.main import app
from lab.network import secrets
from warehouse.database.connection import writing
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.signing import add_key
from warehouse.paths import Paths
from workpools.graphics import Cards

POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A LAB_HOME and a hub's cache of its own, and ports on which nothing listens."""
    for name, value in {
        "LAB_HOME": str(tmp_path / "home"),
        "LAB_SECRETS": str(tmp_path / "secrets"),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "OLLAMA_HOST": "127.0.0.1:9",
        "LAB_RESULTS_URL": "",
        "LAB_DATABASE_URL": "",
        "LAB_RAM_GB": "8",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = Paths.local()
    (found.home / "models").mkdir(parents=True)
    return found


def look(name: str) -> Check | None:
    """The check of this name; no more is looked at than it takes."""
    home = Paths.local()
    parts = (doctor_system.files(home), doctor_system.database_files(home), doctor._services(), doctor._results())
    found = chain(
        doctor._known_machine()[1], *parts, doctor_models.models(), doctor._engines("weak"), doctor_system.settings()
    )
    return next((c for c in found if c.name == name and c.kind != "size"), None)


def carry_out(mend: str, patch: pytest.MonkeyPatch) -> None:
    """Do what a mend says: a command of lab or of the system, or a variable for the shell."""
    command = re.split(r"; for a new store: |, then |; ", mend)
    words = shlex.split(command[-1] if "new store" in mend else command[0])
    if words[0] == "lab":
        app(words[1:], prog_name="lab", standalone_mode=False)
    elif words[0] in ("export", "unset"):
        name, _, value = words[1].partition("=")
        patch.setenv(name, value) if words[0] == "export" else patch.delenv(name)
    else:
        subprocess.run(words, check=True, timeout=60)


def readable_key(home: Paths) -> None:
    secrets.save_key("http://pi:4200/api", "k" * 43).chmod(0o644)


def readable_signing_key(home: Paths) -> None:
    add_key(home, "pi-4").chmod(0o644)


def damaged_record(home: Paths) -> None:
    (home.home / "services.json").write_text('[{"name": ')


def stopped_conversion(home: Paths) -> None:
    (home.home / "models" / "x-1.making-99999999").mkdir()


def waiting_bundle(home: Paths) -> None:
    unit, now = Unit("a" * 32, "p1", 1, {}, {}, {"code": "x"}, (), (), 1, 1.0), datetime.now(UTC)
    given: dict[str, Any] = {"host": "pi-4", "attempt": 1, "started_at": now, "finished_at": now, "provenance": {}}
    write_bundle(home.spool, unit, [Trial("x", "y")], **given)


def damaged_snapshot(home: Paths) -> None:
    with writing(home):
        pass
    home.snapshot.write_bytes(b"x" * 5000)


def not_mounted(home: Paths) -> None:
    os.environ["LAB_RESULTS_URL"] = str(home.home.parent / "share")  # the fixture takes it back


def setting(name: str, value: str) -> Callable[[Paths], None]:
    def fault(home: Paths) -> None:
        os.environ[name] = value

    return fault


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (readable_key, "keys of servers", "can be read by others"),
        (readable_signing_key, "keys of hosts", "other users may read the key"),
        (damaged_record, "started by lab", "is damaged"),
        (stopped_conversion, "unfinished conversions", "1 conversions of weights were stopped"),
        (waiting_bundle, "waiting bundles", "1 bundles wait since"),
        (damaged_snapshot, "schema", "cannot be read"),
        (not_mounted, "where they go", "not mounted"),
        (setting("LAB_DATABASE_URL", "mysql://x"), "database", "does not begin with postgresql+asyncpg"),
        (setting("LAB_RAM_GB", "much"), "memory", "LAB_RAM_GB = 'much' is not a number"),
        (setting("PREFECT_API_URL", "htp://x"), "Prefect server", "htp://x"),
        (setting("OLLAMA_HOST", "http://localhost:port"), "ollama/...", "OLLAMA_HOST is no address"),
    ],
)
def test_what_is_wrong_is_found_and_its_mend_mends_it(
    fault: Callable[[Paths], None], name: str, words: str, home: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these ended a run, or a start of lab, some time after doctor had said that nothing is missing."""
    fault(home)
    wrong = look(name)
    assert wrong and wrong.state != "found" and words in wrong.detail
    carry_out(wrong.mend, monkeypatch)
    after = look(name)
    # Nothing listens there, but the address is one.
    mended = ("found", "absent") if name in ("Prefect server", "ollama/...") else ("found",)
    assert after is None or (after.state in mended and words not in after.detail)


def test_models_that_would_not_load_are_found(home: Paths, tmp_path: Path) -> None:
    """A pointer, a download that was cut off, a page saved in its place, a configuration of other bytes; and a base model."""
    from gguf import GGUFWriter
    from numpy import zeros

    whole = home.home / "models" / "whole.gguf"
    writer = GGUFWriter(whole, "llama")
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("blk.0.attn_q.weight", zeros((8, 8), dtype="float32"))
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    (home.home / "models" / "cut.gguf").write_bytes(whole.read_bytes()[:-64])
    (home.home / "models" / "page.gguf").write_bytes(b"<!DOCTYPE html>")
    header = (2).to_bytes(8, "little") + b"{}"
    config = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()
    for name, weights, content in (
        ("lfs", POINTER, config),
        ("bytes", header, b"\xff" + config),
        ("base", header, config),
    ):
        folder = tmp_path / "hub" / f"models--org--{name}"
        (folder / "snapshots" / "1").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("1")
        (folder / "snapshots" / "1" / "config.json").write_bytes(content)
        (folder / "snapshots" / "1" / "model.safetensors").write_bytes(weights)
    found = {c.name: c for c in doctor_models.models()}
    assert {n: found[n].state for n in ("gguf/whole.gguf", "gguf/cut.gguf", "gguf/page.gguf")} == {
        "gguf/whole.gguf": "found",
        "gguf/cut.gguf": "missing",
        "gguf/page.gguf": "missing",
    }
    assert found["gguf/whole.gguf"].detail == "optional"
    assert "cut off" in found["gguf/cut.gguf"].detail and found["gguf/cut.gguf"].mend.startswith("get cut.gguf again")
    assert found["hf/org/lfs"].mend.endswith("lfs pull") and found["hf/org/bytes"].state == "missing"
    assert found["hf/org/base"].state == "found" and "--set p3.model=smollm2-135m" in found["hf/org/base"].detail


def test_a_terminal_that_is_not_utf8_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and labels of other scripts would be shown as escapes; the mend works whatever the locale is."""

    class FakeTerminal:
        encoding = "ANSI_X3.4-1968"

    monkeypatch.setattr(sys, "stdout", FakeTerminal())
    wrong = next(c for c in doctor_system.settings() if c.name == "output")
    monkeypatch.undo()
    assert wrong.state == "absent" and "ansi" in wrong.detail
    carry_out(wrong.mend, monkeypatch)
    command = [sys.executable, "-X", "utf8=0", "-S", "-c", "import sys; print(sys.stdout.encoding)"]
    shown = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "utf-8"


def test_packages_of_the_same_names_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another project's `app` or `common` in the same environment is imported in place of this one's, or this one's of its."""
    both = {"app": ["llm-memory-experiments", "my-site"], "lab": ["llm_memory_experiments"], "common": ["other"]}
    monkeypatch.setattr(doctor_system.metadata, "packages_distributions", lambda: both)
    wrong = next(c for c in doctor_system.settings() if c.name == "names of packages")
    assert (
        wrong.state == "missing"
        and wrong.detail == "app is a package of my-site as well; common is a package of other as well"
    )
    assert wrong.mend.endswith("pip uninstall my-site other")


def test_a_disk_without_locks_is_found(home: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards would run at once, or none: NFS without its lock service, some shares."""

    def refusing(path: Path, wait_s: float) -> Any:
        if path.is_relative_to(home.home):
            raise OSError(37, "No locks available", str(path))
        return locked(path, wait_s)

    locked = doctor_system.locked_file
    monkeypatch.setattr(doctor_system, "locked_file", refusing)
    wrong = next(c for c in doctor_system.files(home) if c.name == "locks")
    assert wrong.state == "missing" and "No locks available" in wrong.detail and "LAB_HOME" in wrong.mend
    assert not (home.home / f"{doctor_system.TRIAL}.lock").exists()
    assert next(c for c in doctor_system.files(Paths(home.home.parent)) if c.name == "locks").state == "found"


def test_a_checkout_without_git_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run stores the commit, and the first of them said that git is missing."""
    code_commit.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    wrong = next(c for c in doctor_system.settings() if c.name == "commit")
    monkeypatch.undo()
    code_commit.cache_clear()
    assert wrong.state == "missing" and "git is not installed" in wrong.detail and wrong.mend == "apt-get install git"


def test_a_card_that_is_broken_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work would be placed on it, or nobody would know why none is."""
    lost = Cards(("NVIDIA A, 24564 MiB",), ("NVIDIA B cannot be used, nvidia-smi: [GPU is lost]",))
    monkeypatch.setattr(doctor_system.graphics, "nvidia", lambda timeout_s: lost)
    card = next(c for c in doctor_system.hardware() if c.name == "graphics cards")
    assert card.state == "absent" and "GPU is lost" in card.detail and card.mend.endswith("lab assess")
