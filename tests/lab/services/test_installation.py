"""A machine that joins has the coordinator's code, versions and results store, and a name of its own; else it is told how."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_host import made_up_report
from pydantic_core import to_jsonable_python

from common.errors import LabError
from lab.services import join, upgrade
from lab.services.upgrade import refuse_other, steps
from warehouse.delivery.results_store import Store, UnreachableError
from workpools import installation as of
from workpools.hosts import WorkerState
from workpools.installation import Installation, differences, installation, publish, published

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
THEIRS = Installation(
    host="desktop",
    commit="a" * 40,
    dirty=False,
    version="0.1.0",
    code={"p1": "c1", "e2": "c2"},
    packages={"torch": "2.13.0"},
)
PI = THEIRS.model_copy(update={"host": "pi-4"})


class FakeVariables:
    """Prefect's variables in a dictionary."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def read_variable_by_name(self, name: str) -> Any:
        return SimpleNamespace(value=self.found[name]) if name in self.found else None

    def create_variable(self, variable: Any) -> None:
        assert variable.name not in self.found
        self.found[variable.name] = variable.value

    def update_variable(self, variable: Any) -> None:
        assert variable.name in self.found
        self.found[variable.name] = variable.value


def test_what_lab_up_tells_is_read_again_and_other_words_are_refused() -> None:
    """Anybody may edit a variable in Prefect's page; what is not known counts as not told, a wrong one as an error."""
    client = FakeVariables()
    assert published(client) is None
    for _ in range(2):
        publish(client, own := installation())
    assert published(client) == own and differences(own, own) == []
    assert set(own.code) == {"p1", "p2", "p3", "e0", "e1", "e2"} and "torch" in own.packages
    for wrong in (
        [],
        "x",
        to_jsonable_python(own) | {"commit": "$(reboot)"},
        to_jsonable_python(own) | {"host": "a b"},
    ):
        client.found[of.VARIABLE] = wrong
        with pytest.raises(LabError, match="is not what lab up writes") as refused:
            published(client)
        assert refused.value.mend == "on the coordinator: lab up"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"commit": "b" * 40}, ["commit bbbbbbbbbbbb, there aaaaaaaaaaaa"]),
        ({"commit": "wheel-0.1.0"}, []),
        ({"commit": "wheel-0.0.9", "version": "0.0.9"}, ["version 0.0.9, there 0.1.0"]),
        ({"code": {"p1": "c1", "e2": "x"}}, ["other code of e2"]),
        ({"code": {}, "dirty": True}, ["other code of p1, e2 (it has changes that are in no commit)"]),
        ({"packages": {"torch": "2.13.9+cpu", "mlx": "9"}}, []),
        ({"packages": {"torch": "2.12.1"}}, ["torch 2.12.1, there 2.13.0"]),
        ({"packages": {}}, []),
    ],
)
def test_what_another_installation_is(change: dict[str, Any], found: list[str]) -> None:
    """What would be given back at each start is refused before; what moves no number, or belongs to other tiers, is not."""
    own = PI.model_copy(update=change)
    assert differences(own, THEIRS) == found
    if not found:
        refuse_other(own, THEIRS, "http://desktop:4200")
        return
    with pytest.raises(LabError, match="pi-4 has another installation than its coordinator desktop: ") as refused:
        refuse_other(own, THEIRS, "http://desktop:4200")
    assert found[0] in refused.value.what and refused.value.mend == "lab join http://desktop:4200 --upgrade"


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_upgrade_moves_a_checkout_to_the_coordinators_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit comes from where the checkout was cloned; pip installs what differs. Nothing is done twice."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    git(there, "init")
    for text in ("one", "two"):
        (there / "file").write_text(text)
        git(there, "add", ".")
        git(there, "commit", "-m", text)
        if text == "one":
            git(tmp_path, "clone", str(there), str(here))
    theirs = THEIRS.model_copy(update={"commit": git(there, "rev-parse", "HEAD"), "packages": {"torch": "2.14.0+cpu"}})
    own = PI.model_copy(update={"commit": git(here, "rev-parse", "HEAD")})
    installed: list[Sequence[str]] = []

    def do(command: Sequence[str], folder: Path | None) -> None:
        if command[0] == "git":
            upgrade._run(command, folder)
        else:
            installed.append(command)

    monkeypatch.setattr(upgrade, "checkout", lambda: here)
    assert upgrade.upgrade(own, theirs, lambda text: None, do)
    assert (here / "file").read_text() == "two" and git(here, "rev-parse", "HEAD") == theirs.commit
    code, packages = installed
    assert code[:4] == packages[:4] == [sys.executable, "-m", "pip", "install"]
    assert code[-2:] == ["-e", str(here)] and packages[4:] == ["torch==2.14.0"]
    assert not upgrade.upgrade(theirs, theirs, lambda text: None, do) and len(installed) == 2
    with pytest.raises(LabError, match=r"git merge .* failed: ") as failed:
        upgrade.upgrade(own, theirs.model_copy(update={"commit": "f" * 40}), lambda text: None, do)
    assert failed.value.mend == "run it by hand, then this command again"


@pytest.mark.parametrize(
    ("own", "theirs", "why"),
    [
        ({"commit": "b" * 40, "dirty": True}, {}, "has changes that are in no commit"),
        ({}, {"commit": "wheel-0.2.0", "version": "0.2.0"}, "the coordinator runs version 0.2.0"),
        ({"code": {}}, {"dirty": True}, "the checkout of desktop has changes that are in no commit"),
    ],
)
def test_upgrade_leaves_work_of_ones_own_alone(own: Any, theirs: Any, why: str) -> None:
    """A command that throws away uncommitted changes, or guesses at a commit, costs more than it saves."""
    with pytest.raises(LabError, match=why):
        steps(PI.model_copy(update=own), THEIRS.model_copy(update=theirs), Path("/somewhere"))


def test_a_wheel_is_upgraded_with_pip() -> None:
    """An installation without a checkout has no commits to go to."""
    own, theirs = (
        x.model_copy(update={"commit": f"wheel-{v}", "version": v}) for x, v in ((PI, "0.1"), (THEIRS, "0.2"))
    )
    ((command, folder),) = steps(own, theirs, None)
    assert (command[1:], folder) == (["-m", "pip", "install", "llm-memory-experiments==0.2"], None)


def test_a_store_that_is_not_the_coordinators_is_refused(tmp_path: Path) -> None:
    """An empty folder where the mount should be, or the store of an earlier laboratory: no unit would be in it."""
    own = Store(tmp_path / "results", tmp_path / "spool", tmp_path / "archive")
    with pytest.raises(
        LabError, match="is not the coordinator's results store: it has no report of desktop"
    ) as refused:
        join.check_same_store(own, "desktop")
    assert "LAB_RESULTS_URL" in refused.value.mend
    own.put_report("desktop", made_up_report("desktop").model_dump_json().encode())
    join.check_same_store(own, "desktop")

    def away() -> dict[str, bytes]:
        raise UnreachableError("no route", "lab doctor")

    own.transport.reports = away  # type: ignore[method-assign]
    with pytest.raises(UnreachableError, match="no route"):
        join.check_same_store(own, "desktop")


Beats = Callable[[int], list[WorkerState]]


def worker(seconds: int, online: bool = True) -> WorkerState:
    return WorkerState("weak", "pi-4", online, NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("later", "refused"),
    [
        (lambda i: [worker(15 if i > 2 else 0)], True),  # its next heartbeat has come
        (lambda i: [worker(0, online=i < 2)], False),  # it ended, and the server has noticed
        (lambda i: [worker(0)], False),  # it ended just now
    ],
    ids=["works", "ended", "silent"],
)
def test_the_second_machine_of_a_name_is_refused(later: Beats, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take what is meant for the other, and their results and reports would be one machine's. A machine that
    joins again after lab down is not its own namesake."""
    clock = iter(range(10_000))
    monkeypatch.setattr(join, "worker_states", lambda client: later(next(clock)))
    monkeypatch.setattr(join.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(join.time, "monotonic", lambda: float(next(clock)))
    before = join._beats(None, "pi-4")
    assert set(before) == {"weak"}
    said: list[str] = []
    if not refused:
        join.refuse_namesake(None, "pi-4", before, 0.0, said.append)
        return
    with pytest.raises(LabError, match="another machine named pi-4 works for this server") as error:
        join.refuse_namesake(None, "pi-4", before, 0.0, said.append)
    assert error.value.mend.startswith("export LAB_HOST=") and len(said) == 1
    join.refuse_namesake(None, "other", {}, 0.0, said.append)
