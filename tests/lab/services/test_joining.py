"""How a machine joins: the address, versions, packages, the way of its results; refused before anything is done."""

from __future__ import annotations

import socket
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_process import Run
from made_up_host import made_up_report

from common.errors import LabError
from lab.services import environments, join, processes
from lab.services.processes import Service
from warehouse.paths import Paths
from workpools import packages
from workpools.tiers import TIERS

ELSEWHERE = "http://192.0.2.7:4200/api"  # an address that is nobody's: RFC 5737


@pytest.mark.parametrize(
    ("given_url", "api"),
    [
        ("http://coordinator:4200", "http://coordinator:4200/api"),
        ("http://coordinator:4200/", "http://coordinator:4200/api"),
        ("http://coordinator:4200/api/", "http://coordinator:4200/api"),
        ("https://lab.example/prefect", "https://lab.example/prefect/api"),
        ("http://[::1]:4200", "http://[::1]:4200/api"),
    ],
)
def test_the_address_of_the_page_and_that_of_the_api_both_serve(given_url: str, api: str) -> None:
    """People copy what their browser shows; with one /api too few or too many nothing would answer."""
    assert join.api_of(given_url) == join.api_of(api) == api


@pytest.mark.parametrize(
    "url",
    [
        "",
        "coordinator",
        "coordinator:4200",
        "ftp://a",
        "http://",
        "http://a:99999",
        "http://a?b",
        "http://a/#b",
        "http://a/ b",
        "http://a\n",
    ],
)
def test_what_is_no_address_is_refused_with_one_that_is(url: str) -> None:
    """The most likely mistake of a newcomer is to leave out http://; the answer is the command to type."""
    with pytest.raises(LabError, match=r"http address|address of a server") as refused:
        join.api_of(url)
    assert refused.value.mend == "lab join http://coordinator:4200"


PARTS = st.integers(0, 20)


@settings(deadline=None)
@given(st.tuples(PARTS, PARTS, PARTS), st.tuples(PARTS, PARTS, PARTS), st.sampled_from(["", "rc1", ".dev2", "+3.gab"]))
def test_versions_fit_when_only_the_last_part_differs(a: Any, b: Any, suffix: str) -> None:
    """Prefect promises that for its minor versions alone; a worker that fails on each run would waste every shard."""
    ours, there = ".".join(map(str, a)), ".".join(map(str, b)) + suffix
    if a[:2] == b[:2]:
        join.check_versions(there, ours)
        return
    with pytest.raises(LabError) as refused:
        join.check_versions(there, ours)
    assert refused.value.what == f"the server runs Prefect {there}, this machine {ours}"
    assert refused.value.mend == f"on this machine: pip install 'prefect~={b[0]}.{b[1]}.0'"


def test_a_version_that_is_none_and_a_python_too_old_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are reported before a minute of measuring, with what to do."""
    with pytest.raises(LabError, match="is not a version of Prefect"):
        join.check_versions("<html>", "3.8.8")
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.1")
    with pytest.raises(LabError, match=r"this is Python 3\.10\.1, the project needs >=3\.11") as refused:
        join.check_versions("3.8.8", "3.8.8")
    assert "make setup" in refused.value.mend
    monkeypatch.setattr(packages, "PROJECT", "no-such-project")
    with pytest.raises(LabError, match="is not installed, so") as refused:
        join.check_versions("3.8.8", "3.8.8")
    assert refused.value.mend == "pip install -e '.[weak]'"


@pytest.mark.parametrize("ram_gb", [3, 6, 12])
def test_a_machine_serves_its_tier_and_those_it_was_asked_to_help(
    ram_gb: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --also small work would never wait for a big machine that is idle; above its tier it would run out of memory."""
    report = made_up_report("desk", ram_gb)
    lower = TIERS[: TIERS.index(report.tier) + 1]
    assert join.pools_for(report, []) == join.pools_for(report, [report.tier]) == (report.tier,)
    assert join.pools_for(report, lower) == tuple(reversed(lower))
    for tier in TIERS[len(lower) :]:
        with pytest.raises(LabError, match=f"--also {tier}: desk is {report.tier}") as refused:
            join.pools_for(report, [tier])
        assert refused.value.mend.startswith("choose one of: ")
    # The real check, against a project that needs what is not here.
    asks = [f"no-such-thing>=2; extra == '{report.tier}'", f"pytest>=9999; extra == '{report.tier}'"]
    monkeypatch.setattr(packages, "unmet", partial(packages.unmet, requires=asks))
    with pytest.raises(LabError, match=r"no-such-thing is not installed, .*; pytest .* is installed, ") as refused:
        join.pools_for(report, [])
    assert refused.value.mend == "pip install 'no-such-thing>=2' 'pytest>=9999'"


def test_an_unfit_machine_is_told_why(paths: Paths) -> None:
    """It would be given nothing; the reasons say what to free."""
    report = made_up_report("shed", 2)
    with pytest.raises(LabError) as refused:
        join.pools_for(report, ["weak"])
    assert refused.value.what.startswith("shed is unfit")
    assert "not weak: 2.00 GB RAM available, 3 needed" in refused.value.what


def test_results_that_would_not_reach_the_coordinator_are_not_made(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker elsewhere without a way for results cannot even read its units: it would take shards and fail each."""
    here = "http://127.0.0.1:4321/api"
    with pytest.raises(LabError, match="never reach the coordinator") as refused:
        join.results_note(paths, ELSEWHERE)
    assert refused.value.mend.startswith("export LAB_RESULTS_URL=")
    note = join.results_note(paths, here)
    assert note and str(paths.home / "results") in note and "export LAB_RESULTS_URL=" in note
    us = psutil.Process()
    for name, port, silent in (("server", 4321, True), ("server", 4322, False), ("page", 4321, False)):
        processes.record(paths, [Service(name, us.pid, us.create_time(), port)])
        assert (join.results_note(paths, here) is None) is silent
    monkeypatch.setenv("LAB_RESULTS_URL", str(paths.home / "elsewhere"))
    assert join.results_note(paths, ELSEWHERE) is None


def test_this_machines_own_addresses_are_known() -> None:
    """They distinguish a coordinator from a machine whose results have to travel."""
    own = [a.address for each in psutil.net_if_addrs().values() for a in each if a.family == socket.AF_INET]
    assert own
    for name in ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", *own):  # noqa: S104
        assert join.is_local(f"http://{name}:4200/api"), name
    assert not join.is_local(ELSEWHERE)
    assert not join.is_local(f"http://{'a' * 70}/api")


def test_a_worker_for_another_server_is_not_taken_for_ours(paths: Paths) -> None:
    """Kept silently, the machine would go on working for the old coordinator, or deliver where nobody looks."""
    ours = environments.prefect_environment(paths, 4321) | {"LAB_RESULTS_URL": "/shared", "LAB_HOST": "desk"}
    command = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(100)"]
    service = processes.start(paths, "worker-weak", command, ours)
    try:
        # Until the program runs, the system shows the environment of its parent.
        assert processes.wait_until(lambda: (paths.home / "logs" / "worker-weak.log").read_text(), 30, service)
        same = ours | {"PREFECT_API_URL": "http://localhost:4321/api"}
        join.check_same_server(service, same, "http://a")
        for name, value in (
            ("PREFECT_API_URL", "http://127.0.0.1:4322/api"),
            ("PREFECT_API_URL", ELSEWHERE),
            ("LAB_RESULTS_URL", "/other"),
            ("LAB_RESULTS_URL", ""),
            ("LAB_HOST", "pi-4"),
        ):
            with pytest.raises(LabError) as refused:
                join.check_same_server(service, ours | {name: value}, "http://a b")
            assert refused.value.what == f"worker-weak runs with {name} {ours[name]} instead of {value or 'unset'}"
            assert refused.value.mend == "lab down, then: lab join 'http://a b'"
    finally:
        processes.stop([service])
    join.check_same_server(service, {}, "http://a")


class FakeServer(BaseHTTPRequestHandler):
    """Answers every question with the same body, as a server of another version or another program does."""

    body = b'"2.20.1"'

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b'"2.20.1"',
            f"the server runs Prefect 2.20.1, this machine {version('prefect')}. on this machine: pip install 'prefect~=2.20.0'",
        ),
        (b"<html>\x1b[2J", "is not a Prefect server"),
        (b'{"a": 1}', "is not a version of Prefect"),
    ],
    ids=["older", "a page", "other JSON"],
)
def test_a_server_of_another_kind_is_refused_before_anything_is_done(
    called: Run, home: Path, body: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line instead of a worker that fails at each run; the machine is neither measured nor registered."""
    monkeypatch.setattr(FakeServer, "body", body)
    with HTTPServer(("127.0.0.1", 0), FakeServer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            done = called("join", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    assert not home.exists()


def test_mistakes_are_told_in_a_line(called: Run, home: Path, closed_port: int) -> None:
    """Exit code 2, what was wrong, what to type; nothing is started or written."""
    nobody = f"http://127.0.0.1:{closed_port}"
    asked = {"PREFECT_API_URL": f"{nobody}/api"}
    for arguments, said in (
        (["join", "coordinator:4200"], "'coordinator:4200' is not an http address. lab join http://coordinator:4200"),
        (["join", nobody], f"no Prefect server answers at {nobody}/api. start one: lab up"),
        (["join", nobody, "--also", "tiny"], "there is no tier 'tiny'. choose one of: weak, medium, strong"),
        (["hosts"], f"no Prefect server answers at {nobody}/api. "),
        (["drain", "pi-4"], f"no Prefect server answers at {nobody}/api. "),
        (["undrain", "pi-4"], f"no Prefect server answers at {nobody}/api. "),
        (["drain", "Pi 4"], "invalid host name 'Pi 4'"),
        (["undrain", "../x"], "invalid host name '../x'"),
    ):
        done = called(*arguments, **asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr and done.stderr.count("\n") == 1
    assert not home.exists()
