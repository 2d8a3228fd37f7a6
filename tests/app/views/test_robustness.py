"""The specification curve on the pages of P2, E1 and E2, and in the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from acting import commands_on
from made_up_phases import enrich
from made_up_snapshot import publish
from test_more_pages import shown, text_on

from app.components.robustness import finding, name_of
from app.report.html import page as report
from warehouse.queries import robustness, snapshot

STUDY, OTHERS = (
    "study",
    {"reversed": {"option_order": "reversed"}, "three": {"k": 3}, "another-question": {"n_test": 9}},
)


def with_specifications(con: duckdb.DuckDBPyConnection, run_id: str, phases: Sequence[str]) -> None:
    """Give the study a plan with settings, and two specifications and one other study beside it."""
    enrich(con, run_id, phases)
    found = con.execute(
        "SELECT plan_id, content FROM plans JOIN runs USING (plan_id) WHERE run_id = ?", [run_id]
    ).fetchone()
    assert found
    plan_id, content = found[0], json.loads(found[1])
    content["configs"] = {"p1": {"k": 5}, "p2": {"k": 5, "option_order": "balanced", "n_test": 12}}
    con.execute("UPDATE plans SET content = ? WHERE plan_id = ?", [json.dumps(content), plan_id])
    for number, (name, values) in enumerate(OTHERS.items(), 1):
        other = {**content, "configs": {**content["configs"], "p2": {**content["configs"]["p2"], **values}}}
        con.execute(
            "INSERT INTO plans SELECT * REPLACE (? AS plan_id, ? AS content) FROM plans WHERE plan_id = ?",
            [name, json.dumps(other), plan_id],
        )
        con.execute(
            "INSERT INTO runs SELECT * REPLACE (? AS run_id, ? AS plan_id, ? AS arguments_given, "
            "started_at + INTERVAL 1 HOUR AS started_at) FROM runs WHERE run_id = ?",
            [name, name, json.dumps({"scale": "demo", "config": {}, "specification_of": run_id}), run_id],
        )
        con.execute(
            "INSERT INTO verdicts SELECT * REPLACE (? AS run_id, ? AS status) FROM verdicts WHERE run_id = ? AND phase = 'p2'",
            [name, "PASS" if name == "three" else "FAIL", run_id],
        )
        con.execute(
            "INSERT INTO metrics SELECT * REPLACE (? AS run_id, value - ? AS value) FROM metrics WHERE run_id = ? AND phase = 'p2'",
            [name, number, run_id],
        )
    con.execute("UPDATE verdicts SET status = 'FAIL' WHERE run_id = ? AND phase = 'p2'", [run_id])
    for host, status in (("laptop", "FAIL"), ("pi-4", "PASS")):
        con.execute("INSERT INTO host_verdicts VALUES (?, 'p2', ?, ?, 'made up', '{}')", [run_id, host, status])


@pytest.fixture
def study(home: Path) -> Path:
    """A run of two phases with specifications of its P2."""
    publish(home, (STUDY, "p1 p2", None), more=with_specifications)
    return home


def test_the_curve_counts_the_specifications_of_this_study_alone(study: Path) -> None:
    """Another number of problems is another question; what differs is named, the study itself comes first."""
    rows = robustness.specifications(STUDY, "p2")
    assert [(name_of(r), r["conclusion"], r["same"]) for r in rows] == [
        ("as planned", "FAIL", True),
        ("memos 3", "PASS", False),
        ("options reversed", "FAIL", True),
    ]
    effects = [r["value"] for r in rows]
    assert effects[1] == pytest.approx(effects[0] - 2)
    assert finding(rows).startswith("FAIL stays in 2 of 3 specifications; the effect is")


def test_the_page_and_the_report_show_it(study: Path) -> None:
    """The title says in how many the verdict stays, and each host's own results are judged beside it."""
    page = shown("p2")
    assert "By the results of each host alone, the verdict stays on 1 of 2: laptop FAIL; pi-4 PASS." in text_on(page)
    assert "FAIL stays in 2 of 3 specifications" in text_on(page)
    assert "FAIL stays in 2 of 3 specifications" in report(STUDY)


def test_a_page_opens_with_the_study_and_not_with_its_latest_specification(study: Path) -> None:
    """A reader who started `lab robust` last finds the run that it is about."""
    assert snapshot.runs()[0]["run_id"] == STUDY


def test_without_specifications_the_page_names_the_command(home: Path) -> None:
    """Nothing is drawn of one point."""
    publish(home, ("alone", "p1 p2", None))
    page = shown("p2")
    assert "Whether this verdict survives other choices has not been tried" in text_on(page)
    assert any(command.startswith("lab robust p2 --scale") for command in commands_on(page))
