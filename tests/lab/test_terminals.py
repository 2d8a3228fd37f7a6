"""Terminals and homes that are not as usual: other encodings, forty columns, no HOME, no git, names that are not in UTF-8."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from common import environment
from common.environment import code_commit, expanded, home_folder, lab_home
from common.errors import LabError
from lab.exit_codes import EXIT_MISTAKE
from lab.tables import print_table

ROOT = Path(__file__).resolve().parents[2]
LABEL = "über 手机 😀"
# Prints through the command line's own output, and then the rest of the script's argument.
SCRIPT = """
import sys
from lab import main
main.app = lambda **named: exec(sys.argv[1])
main.main()
"""


def run(script: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONIO", "PYTHONUTF", "LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, script], env={**variables, **settings}, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "Windows", "C"],
)
def test_an_output_without_the_characters_gets_them_escaped(settings: dict[str, str]) -> None:
    """A label in Chinese ended lab data check in a traceback; what programs read stays JSON and TOML."""
    printed = f"print({json.dumps(LABEL, ensure_ascii=False)!a}); print('name \\udcff', file=sys.stderr)"
    done = run(printed, **settings)
    assert (done.returncode, done.stderr.decode().strip()) == (0, "name \\udcff")
    encoding = settings.get("PYTHONIOENCODING", "ascii").partition(":")[0]
    text = done.stdout.decode(encoding)
    assert tomllib.loads(f"x = {text}")["x"] == LABEL
    assert json.loads(text.replace("\\U0001f600", "😀")) == LABEL


def test_a_name_that_is_not_in_utf_8_is_one_line() -> None:
    """DuckDB and Arrow cannot be given such a name; it was a traceback from wherever it came to them."""
    done = run("import duckdb; duckdb.execute(\"COPY (SELECT 1) TO '/srv/d\\udce9/x' (FORMAT parquet)\")")
    assert done.returncode == EXIT_MISTAKE
    assert done.stderr.decode() == "/srv/d\\udce9/x is not a name in UTF-8. Rename it, or give another\n"


@pytest.mark.skipif(sys.platform == "win32", reason="names are UTF-16 there")
def test_a_home_that_is_not_in_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python can open it, DuckDB cannot; with names read in another encoding the two would use different folders."""
    monkeypatch.setenv("LAB_HOME", os.fsdecode(b"/srv/h\xff"))
    with pytest.raises(LabError, match=re.escape("/srv/h\\xff is not a name in UTF-8")):
        lab_home()
    monkeypatch.setenv("LAB_HOME", "/srv/höme")
    assert lab_home() == Path("/srv/höme")
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LAB_HOME": "/srv/höme"}
    done = run("from common.environment import lab_home; lab_home()", **other)
    assert (done.returncode, done.stderr.decode()) == (
        EXIT_MISTAKE,
        "ascii cannot name /srv/h\\u00f6me. export PYTHONUTF8=1\n",
    )


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with --user has neither HOME nor a name for its user: commands ended in a traceback of pathlib."""

    def unknown(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    assert (home_folder(), expanded("~/x")) == (Path.home(), Path.home() / "x")
    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(LabError, match="this user has no home folder: HOME is not set"):
        home_folder()
    with pytest.raises(LabError, match="the home folder that '~/x' begins with is not known"):
        expanded("~/x")


def test_home_folders_are_asked_in_one_place() -> None:
    """Anywhere else they would end in a traceback again."""
    rooms = ("app", "common", "experiments", "flows", "lab", "warehouse", "workpools")
    asking = {
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"expanduser\(|Path\.home\(", path.read_text(encoding="utf-8"))
    }
    assert asking == {"common/environment.py"}


def git(folder: Path, script: str) -> None:
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the fake is a shell script")
def test_a_checkout_whose_commit_is_not_known_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git, or with one that hangs on a network; a checkout of another user is read all the same."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(environment, "checkout", lambda: tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    commit = code_commit.__wrapped__
    with pytest.raises(LabError, match="git is not installed"):
        commit()
    monkeypatch.setattr(environment, "GIT_S", 0.2)
    git(tmp_path, "exec /bin/sleep 60")
    with pytest.raises(LabError, match=r"git did not answer within 0 s\. git -C "):
        commit()
    monkeypatch.setattr(environment, "GIT_S", 60.0)
    git(tmp_path, f'[ "$2" = "safe.directory={tmp_path}" ] && [ "$3" = rev-parse ] && echo c0ffee')
    assert commit() == ("c0ffee", False)


def test_a_table_on_a_narrow_terminal_is_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On forty columns the cells of lab plan were two letters wide."""
    columns, row = tuple("abcdefghi"), ("p1", "", *("measured",) * 6, "[x]")
    print_table("plan", columns, [row])
    assert " measured " in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table("plan", columns, [row, row])
    one = ["a: p1", *(f"{name}: measured" for name in "cdefgh"), "i: [x]", ""]
    assert capsys.readouterr().out.splitlines() == ["plan", *one, *one]
