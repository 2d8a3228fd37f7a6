"""Capability reports: what this machine says of itself, and what is believed of another's."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_reports import BASIC, ENHANCED, GOOD

from common import resources
from common.environment import HOST_PATTERN
from common.errors import LabError
from common.limits import MAX_REPORT_BYTES
from common.resources import Memory
from workpools import graphics, nearby, packages
from workpools.assess import CLOCK_SLACK, IDLE_KNOWN, CapabilityReport, assess, idle_memory, in_time, parse_report
from workpools.tiers import NEEDS, decide


def check_consistent(report: CapabilityReport, began: datetime) -> None:
    """The tier follows from the numbers shown, the numbers from this machine, and the file form gives the same back."""
    decision = decide(report.ram_available_gb, report.disk_free_gb)
    assert (report.tier, report.profiles) == (decision.tier, decision.profiles)
    assert report.reasons[: len(decision.reasons)] == decision.reasons
    assert set(report.profiles) == set(NEEDS)
    assert report.ram_available_gb and report.ram_total_gb and report.cores_physical
    assert 0 < report.ram_available_gb <= report.ram_total_gb
    assert math.isclose(report.ram_total_gb, psutil.virtual_memory().total / 1e9, abs_tol=0.01)
    assert 1 <= report.cores_physical <= report.cores_logical
    assert HOST_PATTERN.fullmatch(report.host)
    assert began <= report.created_at <= datetime.now(UTC)
    assert report.versions["numpy"]
    assert parse_report(report.model_dump_json(indent=1).encode()) == report


@pytest.fixture
def closed_port() -> int:
    """A loopback port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def nobody(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a Prefect server that is not there; neither is Ollama."""
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{closed_port}")
    return f"http://127.0.0.1:{closed_port}/api"


def test_a_quick_look_tells_the_tier_without_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    """A host is registered within seconds, and a speed that was not measured is absent, never a zero."""
    home = tmp_path / "home"
    monkeypatch.setenv("LAB_HOME", str(home))
    began = datetime.now(UTC)
    report = assess(quick=True, api_url=nobody)
    check_consistent(report, began)
    assert report.matrix_gflops is report.embedding_texts_per_s is report.disk_write_mb_s is None
    assert report.prefill_tokens_per_s is report.clock_offset_s is report.ollama_models is None
    assert {"embedder", "language_model", "lora"} <= set(report.engines)
    assert "ollama" not in report.engines
    assert {"smollm2-135m", "mlx/smollm2-135m"} <= set(report.models or ())
    assert report.unmet_requirements == []
    assert not any("not measured" in r for r in report.reasons)
    assert list(home.iterdir()) == []


# numpy and pyarrow come with the results store, in 0.2 s (measured).
HEAVY = {"torch", "transformers", "sentence_transformers", "pandas", "scipy", "prefect", "httpx", "mlx"}


def test_a_quick_look_imports_nothing_heavy(tmp_path: Path, nobody: str) -> None:
    """Under five seconds with its start: the import of torch alone would take them on a small machine."""
    script = "import sys\nfrom lab.main import main\nsys.argv[1:] = ['assess', '--quick']\ntry: main()\nfinally: print(*sys.modules)"
    environment = {**os.environ, "LAB_HOME": str(tmp_path / "home"), "PREFECT_API_URL": nobody}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


def test_what_does_not_answer_is_not_waited_for() -> None:
    """A name server or a driver that hangs holds up one thing that is looked at, not the assessment."""
    never = threading.Event()
    found = in_time({"hangs": never.wait, "answers": lambda: 7}, 0.5)
    assert found == {"hangs": None, "answers": 7}
    never.set()


def test_an_unfit_host_is_told_so_and_loads_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: str
) -> None:
    """Loading a model may bring down a machine that is too small for it; each thing that is wrong has its reason."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    small = Memory(8.0, 0.5, 1.0, "memory: a limit")
    monkeypatch.setattr(resources, "memory", lambda: small)
    silent = graphics.Cards((), ("NVIDIA's cards are not known, nvidia-smi (did not answer within 10 s)",), known=False)
    monkeypatch.setattr(graphics, "nvidia", lambda timeout_s: silent)
    monkeypatch.setattr(nearby, "clock_offset_s", lambda url: 77.0)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    report = assess(api_url=nobody)
    assert report.tier == "unfit"
    assert (report.ram_limit_gb, report.clock_offset_s) == (1.0, 77.0)
    assert report.matrix_gflops
    assert report.embedding_texts_per_s is report.prefill_tokens_per_s is None
    said = " | ".join(report.reasons)
    assert "not weak: 0.50 GB RAM available, 3 needed" in said
    for part in (
        "memory: a limit",
        "nvidia-smi (did not answer within 10 s)",
        "clock 77 s ahead",
        "engines not measured: this host is too small",
    ):
        assert part in said


def test_a_tier_rests_on_the_idle_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: str) -> None:
    """Assessed while a browser was open, a laptop became a weak machine for a day. What was free before counts for a month,
    if neither memory nor limit have changed since."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    idle, busy = Memory(8.0, 6.5, None), Memory(8.0, 4.0, None)

    def assessed(memory: Memory) -> CapabilityReport:
        monkeypatch.setattr(resources, "memory", lambda: memory)
        found = assess(quick=True, api_url=nobody)
        (tmp_path / f"capability_report_{found.host}.json").write_text(found.model_dump_json())
        return found

    first = assessed(idle)
    assert (first.tier, first.ram_idle_gb) == ("medium", 6.5)
    second = assessed(busy)
    assert (second.tier, second.ram_available_gb, second.ram_idle_gb) == ("medium", 4.0, 6.5)
    assert second.ram_idle_at == first.ram_idle_at
    assert any(r.startswith("memory: 4.00 GB available now, 6.50 when idle, on ") for r in second.reasons)
    old = second.model_copy(update={"ram_idle_at": datetime.now(UTC) - IDLE_KNOWN - timedelta(days=1)})
    for before in (
        None,
        old,
        second.model_copy(update={"ram_total_gb": 16.0}),
        second.model_copy(update={"ram_idle_gb": None}),
    ):
        assert idle_memory(busy, before).gb == 4.0
    assert idle_memory(Memory(8.0, 3.5, 4.0), second).gb == 3.5  # a limit since then
    assert idle_memory(Memory(8.0, 7.0, None), second).gb == 7.0


def test_what_a_tier_lacks_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: str) -> None:
    """The owner of a machine learns from the report which packages are missing, and the line that installs each."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setattr(resources, "memory", lambda: Memory(16.0, 14.0, None))
    monkeypatch.setattr(packages, "unmet", lambda tier: [packages.Unmet("peft>=0.18", f"peft is missing for {tier}")])
    report = assess(quick=True, api_url=nobody)
    assert report.unmet_requirements == ["peft>=0.18"]
    assert f"peft is missing for {report.tier}" in report.reasons


def test_an_address_that_is_none_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt PREFECT_API_URL would otherwise only be found when the worker is started."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", "desk:4200")
    with pytest.raises(LabError, match="PREFECT_API_URL = 'desk:4200'"):
        assess(quick=True)
    assert not (tmp_path / "home").exists()


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
    "a list": (b"[]", r"report = \[\]: Input should be an object"),
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
    "a later version": (with_values(report_version=3), "'report_version' = 3: Input should be 2"),
    "a truth for a version": (with_values(report_version=True), "'report_version' = True"),
    "a text for a version": (with_values(report_version="2"), "'report_version' = '2'"),
    "no version": (without("report_version"), "'report_version': Field required"),
    "a text for a list": (with_values(ollama_models="phi3"), "'ollama_models' = 'phi3'"),
    "a negative speed": (with_values(prefill_tokens_per_s=-1), "'prefill_tokens_per_s' = -1"),
    "from the future": (
        with_values(created_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat()),
        r"'created_at' = '.*': lies in the future by this machine's clock, of which 10 minutes are allowed",
    ),
    "from the end of time": (
        with_values(created_at="9999-12-31T23:59:59-23:59"),
        "'created_at' = .* not a time that UTC can express",
    ),
    "no time zone": (with_values(created_at="2025-01-02T06:00:00"), "'created_at' = '2025-01-02T06:00:00'"),
    "a wrong type inside": (with_values(profiles={"e2": "yes"}), r"'profiles\.e2' = 'yes'"),
    "more than any machine has": (with_values(matrix_gflops=10**400), "'matrix_gflops' = 1000"),
    "a number with too many digits to print": (
        with_values(ram_total_gb=None).replace(b"null", b"9" * 5000, 1),
        "capability",
    ),
    "so many cores": (with_values(cores_logical=10**10), "'cores_logical' = 10000000000: .* less than or equal"),
    "a long text": (with_values(os="x" * 1001), "'os' = 'xxx.* at most 1000 characters"),
    "a long text in a list": (with_values(reasons=["x" * 1001]), r"'reasons\.0' = "),
    "a long list": (with_values(models=["x"] * 1001), "'models' = .* at most 1000 items"),
    "a number for a list": (with_values(gpus=5), "'gpus' = 5"),
    "a time out of UTC": (with_values(created_at="0001-01-01T00:00:00+14:00"), "'created_at' = .*not a time that UTC"),
    "a wrong type in a list": (with_values(gpus=["a", None]), r"'gpus\.1' = None"),
    "a path for a host": (
        with_values(host="../../etc/cron.d/x"),
        r"'host' = '\.\./\.\./etc/cron\.d/x': a host name has",
    ),
    "an absolute path": (with_values(host="/tmp/x"), "'host' = '/tmp/x'"),  # noqa: S108
    "a host with an end of line": (with_values(host="pi-4\n"), r"'host' = 'pi-4\\n'"),
    "a host with dots": (with_values(host="pi.local"), "'host' = 'pi.local'"),
    "no host": (with_values(host=""), "'host' = ''"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_report_is_refused_and_the_field_named(name: str) -> None:
    """Reports come from other machines: nothing wrong in them is believed, and their owner learns which field it is."""
    content, said = REFUSED[name]
    with pytest.raises(LabError, match=said) as refused:
        parse_report(content)
    check_refusal(refused.value)


def test_a_good_report_is_believed_as_it_is() -> None:
    """Every field arrives with the value written, whole numbers for real ones included."""
    report = parse_report(with_values())
    assert {k: getattr(report, k) for k in GOOD if k != "created_at"} == {
        k: v for k, v in GOOD.items() if k != "created_at"
    }
    assert report.created_at == datetime(2025, 1, 2, 6, tzinfo=UTC)


FINITE = st.floats(0, 1e9, allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REPORTS = st.builds(
    CapabilityReport,
    host=st.from_regex(HOST_PATTERN, fullmatch=True),
    created_at=st.datetimes(max_value=datetime(2025, 1, 1), timezones=st.just(UTC)),
    os=TEXT,
    architecture=TEXT,
    python=TEXT,
    versions=st.dictionaries(TEXT, TEXT, max_size=3),
    cores_physical=st.integers(1, 512),
    cores_logical=st.integers(1, 512),
    ram_total_gb=FINITE.filter(bool),
    ram_available_gb=FINITE,
    disk_free_gb=FINITE,
    gpus=st.lists(TEXT, max_size=3),
    engines=st.lists(TEXT, max_size=3),
    matrix_gflops=st.none() | FINITE,
    embedding_texts_per_s=st.none() | FINITE,
    disk_write_mb_s=st.none() | FINITE,
    tier=st.sampled_from(["weak", "medium", "strong", "unfit"]),
    profiles=st.dictionaries(TEXT, st.booleans(), max_size=3),
    reasons=st.lists(TEXT, max_size=3),
    ram_limit_gb=st.none() | FINITE,
    cpu_flags=st.none() | st.lists(TEXT, max_size=2),
    unmet_requirements=st.none() | st.lists(TEXT, max_size=2),
    prefill_tokens_per_s=st.none() | FINITE,
    ollama_models=st.none() | st.lists(TEXT, max_size=2),
    clock_offset_s=st.none() | st.floats(-1e9, 1e9),
    models=st.none() | st.lists(TEXT, max_size=2),
    mlx_lora=st.none() | TEXT,
)


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


def check_refusal(error: LabError) -> None:
    """One line that names a field; or says that there is none, since it is no JSON or too much of it."""
    no_field = ("capability report is not JSON: ", "capability report of ", "capability report = ")
    assert re.match(r"capability report: ['\"]", error.what) or error.what.startswith(no_field), error.what
    assert "\n" not in error.what
    assert len(error.what) < 400
    assert error.mend


def paths(inside: Any) -> list[tuple[dict[str, Any], str]]:
    """Every object with each of its keys, at any depth."""
    if not isinstance(inside, dict):
        return []
    return [(inside, key) for key in inside] + [p for value in inside.values() for p in paths(value)]


@settings(max_examples=400, deadline=None)
@given(data=st.data(), layout=st.sampled_from([GOOD, BASIC, ENHANCED]))
def test_a_mutated_report_parses_or_is_refused_and_nothing_else(data: st.DataObject, layout: dict[str, Any]) -> None:
    """No change of a field, a key or a byte, in any layout, ends in anything but a report or a LabError that names it."""
    changed = copy.deepcopy(layout)
    for _ in range(data.draw(st.integers(0, 2))):
        inside, key = data.draw(st.sampled_from(paths(changed)))
        inside[key] = data.draw(JSON)
    for _ in range(data.draw(st.integers(0, 1))):
        inside, key = data.draw(st.sampled_from(paths(changed)))
        del inside[key]
    if data.draw(st.booleans()) and (left := paths(changed)):
        data.draw(st.sampled_from(left))[0].update(data.draw(st.dictionaries(st.text(max_size=8), JSON, max_size=1)))
    content = bytearray(json.dumps(changed).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = parse_report(bytes(content))
    except LabError as error:
        check_refusal(error)
        return
    assert HOST_PATTERN.fullmatch(report.host)
    assert report.created_at <= datetime.now(UTC) + CLOCK_SLACK
    assert parse_report(report.model_dump_json().encode()) == report


@settings(max_examples=100, deadline=None)
@given(value=JSON)
def test_random_json_is_refused_or_is_a_report(value: Any) -> None:
    """Whatever another machine sends in the place of a report, its fields are looked at one by one."""
    with pytest.raises(LabError) as refused:
        parse_report(json.dumps(value).encode())
    check_refusal(refused.value)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes) -> None:
    """Noise in the place of a report is a LabError."""
    with pytest.raises(LabError) as refused:
        parse_report(content)
    check_refusal(refused.value)
