"""The page Hosts: do the machines agree, what does each do now, who did what."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import made_up_hosts
import pytest
from made_up_hosts import RUN, names_of
from streamlit.testing.v1 import AppTest

from app.components import machines, matrix
from app.prefect_api import FlowRun, Machine, Now
from warehouse.database.agreement import Mark, PhaseAgreement, RunAgreement, Work
from warehouse.queries import hosts

PAGE = str(Path(__file__).resolve().parents[3] / "app/views/hosts.py")
Once = Callable[[str, Callable[[Path], None]], Path]
AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def deviating(once: Once, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three hosts that computed all units; pi-4 answers otherwise in about a quarter of P2 and E1. No server answers."""

    def make(folder: Path) -> None:
        made_up_hosts.publish(folder, names_of(3), "replicate", "pi-4")

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    made = once("three-hosts", make)
    return Path(shutil.copy(made / "snapshot.duckdb", home))


def shown(**query: str) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def text_of(page: AppTest) -> str:
    parts = [
        *(h.proto.body for h in page.get("html")),
        *(c.value for c in page.caption),
        *(m.value for m in page.markdown),
    ]
    return unescape(re.sub(r"<[^>]+>", " ", " ".join(parts)))


def cells(page: AppTest) -> list[str]:
    """The words of the matrix, row by row."""
    html = " ".join(h.proto.body for h in page.get("html"))
    return re.findall(r'lab-mark lab-[a-z]+"><i></i>([^<]+)<', html)


def test_the_page_answers_which_machine_deviates_and_opens_its_trials(deviating: Path) -> None:
    """Three machines had run everything, and the page said that everything ran on one, so that none was compared."""
    page = shown()
    text = text_of(page)
    assert "53 of 210 shared E1 trials differ. desktop and laptop agree." in text
    assert cells(page) == [
        *["reference"] * 6,
        *["same"] * 6,
        *["same", "43 of 144 differ", "none", "same", "53 of 210 differ", "none"],
    ]
    assert "210 trials of 14 problems, pi-4 with desktop" in text  # the phase with most of them is open
    assert re.search(r"pi-4 *answered O\(", text) and re.search(r"desktop *answered O\(", text)


def test_a_cell_of_the_matrix_is_a_link_to_its_trials(deviating: Path) -> None:
    """What a cell opens is in the address, so that it can be sent to somebody."""
    html = " ".join(h.proto.body for h in shown().get("html"))
    links = re.findall(r'<a href="([^"]+)"', html)
    assert f"?run={RUN}&amp;phase=p2&amp;with=pi-4#differences" in links
    opened = text_of(shown(run=RUN, phase="p2", **{"with": "pi-4"}))
    assert "144 trials of 12 problems, pi-4 with desktop" in opened
    agreeing = text_of(shown(run=RUN, phase="p2", **{"with": "laptop"}))
    assert "Trials that differ" not in agreeing and "36 equal" not in agreeing


@pytest.mark.parametrize("name", "overview p1 p2 p3 e0 e1 e2 runs trials compare provenance".split())
def test_every_page_shows_a_run_that_each_host_computed(deviating: Path, name: str) -> None:
    """P1 has no accuracy with families apart here, and its page failed for want of it."""
    page = AppTest.from_file(str(Path(PAGE).with_name(f"{name}.py")), default_timeout=60).run()
    assert not page.exception and text_of(page)


def test_hosts_with_other_problems_have_a_share_and_no_verdict(home: Path) -> None:
    """In mode split a mark of agreement would be about the problems, not about the machines."""
    made_up_hosts.publish(home, names_of(3), "split")
    page = shown()
    assert "different problems: not a test" in text_of(page)
    assert set(cells(page)) == {"2 of 6 units", "3 of 6 units", "none"}


def test_many_hosts_are_folded_after_those_that_differ(home: Path) -> None:
    """Fifty rows of equal machines hid the one that matters."""
    names = [f"h{i:02}" for i in range(50)]
    work = [Work("e1", n, 1, 0, 1) for n in names]
    many = RunAgreement([], work, {"e1": PhaseAgreement("e1", {"h40": Mark("differs")}, True)})
    assert matrix.ordered(many, names)[:2] == ["h40", "h00"]


def test_what_a_machine_does_now_is_one_phrase() -> None:
    """Online, offline since when, at work with the time left: each in words."""
    run = FlowRun("e1 · shard 3 of 4 · pi-4", "Running", "RUNNING", "weak", "pi-4", AT)
    now = Now(AT, under_way=[run])
    offline = Machine("laptop", "offline", (), AT - timedelta(minutes=5), ())
    online = Machine("pi-4", "online", ("weak",), AT, ())
    left = [{"host": "pi-4", "phase": "e1", "units": 3, "left_s": 360.0}]
    assert machines.doing(now, online, "pi-4", left, AT) == "e1 · shard 3 of 4, 6 min 0 s left"
    assert machines.doing(now, online, "pi-4", [], AT) == "e1 · shard 3 of 4"
    assert machines.doing(now, offline, "laptop", left, AT) == "offline for 5 min 0 s"
    assert machines.doing(Now(AT), online, "pi-4", left, AT) == "idle"
    assert machines.doing(now, None, "desktop", left, AT) == "not joined"
    assert machines.doing(None, online, "pi-4", left, AT) == "not known: the server does not answer"


def test_time_left_is_the_work_that_was_sent_at_the_pace_of_the_host(home: Path) -> None:
    """A weak host's time left at the pace of a strong one would be a twelfth of it."""
    made_up_hosts.publish(home, names_of(3), "replicate", decided="p1 p2 p3 e0")
    left = {(r["host"], r["phase"]): (r["units"], r["left_s"]) for r in hosts.left(RUN)}
    assert left["desktop", "e1"] == (3, pytest.approx(36.0))
    assert left["pi-4", "e1"] == (3, pytest.approx(36.0 / 0.08))
    assert {phase for _, phase in left} == {"e1"}


def test_speed_is_that_of_the_same_work_else_what_was_assessed() -> None:
    """A host that ran nothing yet still has a place among the others."""
    means = [{"phase": "p1", "host": "a", "mean_s": 1.0}, {"phase": "p1", "host": "b", "mean_s": 4.0}]
    reports = {h: {"prefill_tokens_per_s": v} for h, v in (("a", 100.0), ("c", 50.0), ("d", None))}
    assert machines.speeds(means, reports) == {"a": 1.0, "b": 0.25, "c": 0.5}
