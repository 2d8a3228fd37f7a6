"""`lab plan`: the table and the JSON of what a run will take, and what its reader learns beside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from lab_process import Run

from experiments.registry import PHASES
from flows.chain import open_run
from flows.plan import plan
from lab.commands.plan import LISTED
from warehouse.database import durations
from warehouse.database.connection import writing
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.assess import CapabilityReport
from workpools.example import EXAMPLE, example_reports
from workpools.tiers import decide

ALL = ("embedder", "language_model", "lora")
SMOKE = ("plan", "--scale", "smoke")


def register(
    home: Path,
    host: str,
    ram_gb: float = 16,
    gflops: float | None = 180.0,
    engines: tuple[str, ...] = ALL,
    speeds: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    decision = decide(ram_gb, 100)
    report = CapabilityReport(
        host=host,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        os="Linux",
        architecture="aarch64",
        python="3.11.2",
        versions={},
        cores_physical=4,
        cores_logical=4,
        ram_total_gb=32.0,
        ram_available_gb=float(ram_gb),
        disk_free_gb=100.0,
        gpus=[],
        engines=list(engines),
        matrix_gflops=gflops,
        tier=decision.tier,
        profiles=decision.profiles,
        reasons=decision.reasons,
        **speeds,
    )
    Store.configured(Paths(home)).put_report(host, report.model_dump_json().encode())


@pytest.fixture(autouse=True)
def lab_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOME", str(home))


def rows(shown: str) -> list[list[str]]:
    """Cells of the table's body."""
    lines = [line for line in shown.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_without_a_machine_there_is_no_plan(called: Run, home: Path) -> None:
    """A newcomer is told which command is missing; looking makes no warehouse."""
    done = called(*SMOKE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"no machine is registered in {home / 'results'}. on each machine: lab assess\n"
    assert not home.exists()


def test_the_table_shows_each_phase_with_pool_machines_shards_and_durations(called: Run, home: Path) -> None:
    """Before hours are spent a user sees who does what for how long; the table and the JSON tell the same."""
    register(home, "slow", 8, gflops=90.0)
    register(home, "fast", 16, gflops=360.0)
    words = (*SMOKE, "--set", "p2.n_test=12", "--set", "p2.per_unit=1")  # enough to be shared out
    done = called(*words)
    assert (done.returncode, done.stderr) == (0, "")
    body = rows(done.stdout)
    assert [r[0] for r in body if r[0]] == [p.upper() for p in PHASES]
    assert [r[1] for r in body if r[0]] == ["weak"] * 3 + ["medium"] * 2 + ["strong"]
    found = json.loads(called(*words, "--json").stdout)
    assert found["run_id"] == plan("smoke", {"p2": {"n_test": 12, "per_unit": 1}}).run.run_id
    assert f"run {found['run_id']} on 2 registered machines" in done.stdout
    assert found["machines"] == [{"machine": "fast", "tier": "strong"}, {"machine": "slow", "tier": "medium"}]
    listed = [m["machine"] for p in found["phases"] for m in p["machines"]]
    assert [r[2] for r in body] == listed
    assert [(int(r[3]), int(r[4])) for r in body] == [
        (m["shards"], m["units"]) for p in found["phases"] for m in p["machines"]
    ]
    assert body[-1][2:6] == ["fast", "3", "14", "2 (360 GFLOPS)"]
    for phase in found["phases"]:
        assert phase["expected_s"] == pytest.approx(sum(r["expected_s"] for r in phase["rounds"]))
        assert max(m["expected_s"] for m in phase["machines"]) <= phase["expected_s"] * (1 + 1e-9)
        assert sum(m["units"] for m in phase["machines"]) == sum(r["units"] for r in phase["rounds"])
        assert all(0 < r["lower_bound_s"] <= r["expected_s"] * (1 + 1e-9) for r in phase["rounds"])
        assert phase["last_run"] is None
    assert found["expected_s"] == pytest.approx(sum(p["expected_s"] for p in found["phases"]))
    assert found["no_machine"] == found["idle"] == []
    assert found["dominates"]["phase"] == "p2" and "The longest part: P2 solving, " in done.stdout
    assert " units on 2 machines, " in done.stdout
    assert "last run" not in done.stdout


def test_what_takes_longest_is_named_with_its_only_machine(called: Run, home: Path) -> None:
    """Another machine shortens a run only if it fits what dominates it."""
    register(home, "slow", 8, gflops=9.0)
    register(home, "fast", 16, gflops=360.0)
    shown = called(*SMOKE, "--set", "e2.n_test=12").stdout
    assert (
        "The longest part: E2 evaluation, " in shown and "all of it on fast, the only machine that can run it." in shown
    )
    assert "Not used, since it cannot run a phase or would save too little: slow.\n" in shown


def test_a_set_value_changes_the_plan(called: Run, home: Path) -> None:
    """The plan is of the run that the same words start, so that more problems take longer in it."""
    register(home, "a")
    few, many = (
        json.loads(called(*SMOKE, "--set", f"p2.n_test={n}", "--json").stdout)["phases"][1]["expected_s"]
        for n in (4, 40)
    )
    assert many > 3 * few
    assert called(*SMOKE, "--set", "p2.n_tests=4").returncode == 2


def test_phases_without_a_machine_are_named_with_what_is_missing(called: Run, home: Path) -> None:
    """A network of small machines can begin; that it cannot end, and why, is said before and not found out after."""
    register(home, "pi-4", 4, gflops=None)
    register(home, "shed", 2)
    done = called(*SMOKE)
    assert done.returncode == 0
    assert [r[1] for r in rows(done.stdout) if r[0]] == ["weak"] * 3 + ["none fits"] * 3
    assert ", without E0, E1, E2.\n" in done.stdout
    assert (
        "E0 has no machine: e0_e1 needs a medium worker (5 GB RAM available, 10 GB disk); registered: weak 1, medium 0, strong 0.\n"
        in done.stdout
    )
    assert "Not used, since it cannot run a phase or would save too little: shed.\n" in done.stdout
    assert "Not measured, so speed 1 is assumed: pi-4. On these machines: lab assess\n" in done.stdout
    found = json.loads(called(*SMOKE, "--json").stdout)
    assert (found["no_machine"], found["idle"]) == (["e0", "e1", "e2"], ["shed"])
    assert [p["expected_s"] is None for p in found["phases"]] == [False] * 3 + [True] * 3
    register(home, "pi-4", 4, engines=())
    nothing = called(*SMOKE)
    assert (nothing.returncode, "What dominates" in nothing.stdout) == (0, False)
    assert "P1 has no machine" in nothing.stdout and "pi-4 lacks embedder" in nothing.stdout


def test_e2_for_a_medium_machine_is_another_plan(called: Run, home: Path) -> None:
    """In other numbers it is another experiment, under other ids: the plan without a strong machine says how to ask for it."""
    register(home, "laptop", 8, engines=(*ALL, "bitsandbytes"))
    done = called(*SMOKE)
    assert [r[1] for r in rows(done.stdout) if r[0]][-1] == "none fits"
    assert "machines of medium run it in other numbers, by another plan: --set e2.precision=int8.\n" in done.stdout
    other = (*SMOKE, "--set", "e2.precision=int8")
    assert [r[1] for r in rows(called(*other).stdout) if r[0]][-1] == "medium, int8"
    found, first = (json.loads(called(*asked, "--json").stdout) for asked in (other, SMOKE))
    assert [r["precision"] for r in found["phases"][-1]["rounds"]] == ["int8"] * 3
    assert found["run_id"] != first["run_id"]


def test_both_durations_are_shown_and_auto_takes_what_all_machines_are_twice_as_fast_in(
    called: Run, home: Path
) -> None:
    """A machine without the instructions would slow the whole run down; whoever chooses sees both durations."""

    def speeds(host: str, full: float | None, half: float | None) -> None:
        register(home, host, speeds={"prefill_tokens_per_s": full, "prefill_bfloat16_tokens_per_s": half})

    def precision() -> str:
        return str(
            json.loads(called(*SMOKE, "--set", "precision=auto", "--json").stdout)["phases"][1]["rounds"][0][
                "precision"
            ]
        )

    assert "none is registered" in called(*SMOKE, "--set", "precision=auto").stderr
    speeds("a", 400.0, 1600.0)
    assert precision() == "bfloat16"
    text = called(*SMOKE).stdout
    assert re.search(r"In float32 \S.*, in bfloat16 \S.*: choose with --set precision=bfloat16 or auto\.\n", text)
    each = json.loads(called(*SMOKE, "--json").stdout)["by_precision_s"]
    assert 0 < each["bfloat16"] < each["float32"]
    speeds("b", 400.0, 700.0)
    assert precision() == "float32"
    speeds("b", 400.0, None)
    assert precision() == "float32" and "choose with" not in called(*SMOKE).stdout


def test_after_a_run_the_plan_shows_how_long_it_took(called: Run, home: Path) -> None:
    """Predicted beside actual, for the phases that were worked on to their end, so that a plan can be judged."""
    register(home, "a")
    with writing(Paths(home)) as con:
        run = open_run(con, plan("smoke"))
        for phase, predicted in (("p1", 60.0), ("p2", 90.0)):
            durations.save_prediction(con, run.run_id, phase, predicted)
        durations.finish_prediction(con, run.run_id, "p1", 200.0)
    done = called(*SMOKE)
    assert [r[8] for r in rows(done.stdout) if r[0]] == ["3 min 20 s, expected 1 min 0 s", "", "", "", "", ""]
    phases = json.loads(called(*SMOKE, "--json").stdout)["phases"]
    assert phases[0]["last_run"] == {"predicted_s": 60.0, "actual_s": 200.0}
    assert [p["last_run"] for p in phases[1:]] == [None] * 5
    assert "last run" not in called("plan", "--scale", "demo").stdout


def test_a_damaged_report_is_named_and_the_others_are_planned_with(called: Run, home: Path) -> None:
    """One torn file must not hide the rest of the network, and nothing in it steers the terminal."""
    register(home, "a")
    Store.configured(Paths(home)).put_report("b", b'{"report_version": 2, "\x1b[2J')
    done = called(*SMOKE)
    assert done.returncode == 0
    assert "on 1 registered machine " in done.stdout
    assert done.stderr.startswith("b: capability report") and "\x1b" not in done.stderr


def test_a_large_network_keeps_the_table_short(called: Run, home: Path) -> None:
    """With many machines the table names those that take longest and counts the rest; the JSON has all of them."""
    for i in range(LISTED + 4):
        register(home, f"host-{i:02}", 4, gflops=180.0 + i)
    command = (*SMOKE, "--set", "p2.n_test=60", "--set", "p2.per_unit=1")
    body = rows(called(*command).stdout)
    start = [r[0] for r in body].index("P2")
    assert [r[2] for r in body[start:]].index("and 4 more") == LISTED
    machines = json.loads(called(*command, "--json").stdout)["phases"][1]["machines"]
    assert len(machines) == LISTED + 4
    assert [m["expected_s"] for m in machines] == sorted((m["expected_s"] for m in machines), reverse=True)


def test_the_example_shows_three_machines_against_one(called: Run, home: Path) -> None:
    """Without any machine a reader sees what unequal machines bring: each of the three does what it can, together they are
    no slower than the best alone, and what a machine cannot do alone is said."""
    assert [(r.host, r.ram_total_gb, r.tier) for r in example_reports()] == [
        ("pi-4", 4, "weak"),
        ("laptop", 8, "medium"),
        ("desktop", 16, "strong"),
    ]
    text = called(*SMOKE, "--example").stdout
    found: dict[str, Any] = json.loads(called(*SMOKE, "--example", "--json").stdout)
    assert not home.exists()
    assert found["alone"]["pi-4"] == {"expected_s": None, "no_machine": ["e0", "e1", "e2"]}
    assert found["alone"]["laptop"] == {"expected_s": None, "no_machine": ["e2"]}
    alone = found["alone"]["desktop"]["expected_s"]
    assert found["expected_s"] <= alone
    assert list(found["alone"]) == [name for name, *_ in EXAMPLE]
    lines = text[text.index("The same on one machine") :].splitlines()
    assert lines[1].split() == ["pi-4", "cannot", "run", "E0,", "E1,", "E2"]
    assert lines[2].split() == ["laptop", "cannot", "run", "E2"]
    saved = 100 * (1 - found["expected_s"] / alone)
    assert lines[3].endswith(f"the three together save {saved:.0f} %")
