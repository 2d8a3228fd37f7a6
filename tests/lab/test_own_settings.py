"""Settings and packages of the user's other projects change nothing in what lab starts and asks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, tracked

from common.environment import TOP_LEVEL, own_first
from common.errors import LabError
from lab import own_settings
from lab.services import environments, processes, up
from warehouse.paths import Paths

# What Prefect makes of its settings in a process of lab.
ASK = """
import json
from lab.own_settings import keep_others_out
keep_others_out()
from prefect.settings import get_current_settings
found = get_current_settings()
print(json.dumps([found.api.url, found.api.key and "key", found.client.max_retries, found.logging.level, found.server.analytics_enabled]))
"""
PROFILE = 'active = "other"\n[profiles.other]\nPREFECT_API_KEY = "pnu_0"\nPREFECT_API_URL = "http://cloud/api"\n'


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A home and working folder with Prefect's and Streamlit's files of other projects, and packages of our names."""
    files = {
        ".prefect/profiles.toml": PROFILE,
        ".streamlit/config.toml": '[server]\nbaseUrlPath = "other"\nenableXsrfProtection = false\n',
        ".env": "PREFECT_API_KEY=pnu_1\nPREFECT_API_REQUEST_TIMEOUT=none\nPREFECT_PROFILES_PATH=.prefect/profiles.toml\n",
        "prefect.toml": "[client\nmax_retries = ",
        "pyproject.toml": '[tool.prefect]\nclient.max_retries = -1\nprofiles_path = ".prefect/profiles.toml"\n',
        **{f"{name}/__init__.py": f"raise SystemExit('the user\\'s own {name}')" for name in TOP_LEVEL},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def environment(hostile: Path, **more: str) -> dict[str, str]:
    path = f"{hostile}{os.pathsep}{ROOT}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    return (
        kept
        | {"HOME": str(hostile), "USERPROFILE": str(hostile), "PYTHONPATH": path, "PREFECT_LOGGING_LEVEL": "no"}
        | more
    )


def test_files_and_variables_of_prefect_are_not_read(hostile: Path) -> None:
    """A key of Prefect's cloud was sent to the lab's own server, and a damaged file of another project was a traceback."""
    url = "http://127.0.0.1:9/api"
    own = environment(
        hostile, PREFECT_API_URL=url, PREFECT_API_KEY="pnu_2", PREFECT_PROFILE="none", PYTHONPATH=str(ROOT)
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASK], cwd=hostile, env=own, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [url, None, 5, "INFO", False]


def test_the_command_finds_its_own_packages(hostile: Path) -> None:
    """PYTHONPATH comes before what is installed, so the user's own package lab was run, or failed."""
    code = "import llm_memory_experiments as own; own.main()"
    for arguments in ([], ["data", "check", "--help"]):
        command = [sys.executable, "-P", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}", *arguments]
        own = environment(hostile, PYTHONPATH=str(hostile))
        done = subprocess.run(command, cwd=hostile, env=own, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "") and "own" not in done.stdout.partition("your own")[0]


def test_only_folders_with_our_names_come_later(hostile: Path, tmp_path: Path) -> None:
    """A cluster brings its packages by PYTHONPATH, which stays in front of ours unless it hides them."""
    (tmp_path / "cluster" / "torch").mkdir(parents=True)
    cluster, own, user = str(tmp_path / "cluster"), str(ROOT), str(hostile)
    assert own_first([cluster, own, user]) == [cluster, own, user]
    assert own_first([cluster, user]) == [cluster, own, user]
    assert own_first([cluster]) == [cluster]


def test_no_module_is_looked_for_in_the_working_folder() -> None:
    """`python -m` takes a user's own package lab from the folder that the command was called in; python() does not."""
    code = {n: (ROOT / n).read_text(encoding="utf-8") for n in tracked(".py") if n.partition("/")[0] in TOP_LEVEL}
    found = {(n, call) for n, text in code.items() for call in re.findall(r'sys\.executable, "-m", "[a-z.]+"', text)}
    # pip of this environment, and Prefect's own command of an engine, which it starts in a folder of its own.
    assert {call.split('"')[3] for _, call in found} == {"pip", "prefect.engine"}, found


def test_what_is_started_gets_no_settings_but_ours(
    hostile: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user set for other servers moved the page, started four servers, or had the page trust names of others."""
    others = (
        "PREFECT_API_KEY",
        "PREFECT_LOGGING_LEVEL",
        "STREAMLIT_SERVER_BASE_URL_PATH",
        "UVICORN_ROOT_PATH",
        *own_settings.OF_SERVERS,
    )
    for name in others:
        monkeypatch.setenv(name, "4")
    monkeypatch.setenv("PYTHONPATH", str(hostile))
    monkeypatch.chdir(hostile)
    started: list[tuple[list[str], dict[str, str], Path]] = []
    monkeypatch.setattr(processes, "start", lambda *given: started.append((given[2], given[3], given[-1])))
    server = environments.prefect_environment(paths, 4200)
    up._start_page(paths, 8501, up.Listener(), server)
    ((words, page, folder),) = started
    assert not (server | page).keys() & set(others)
    for own in (server, page):
        assert own["PYTHONPATH"] == f"{ROOT}{os.pathsep}{hostile}" and own["PYTHONSAFEPATH"] == "1"
    for command in (words, up.server_command(4200, up.Listener()), up.worker_command("weak")):
        assert command[1:3] == ["-P", "-m"]
    script = "import lab, flows, streamlit.config as c; print(c.get_option('server.enableXsrfProtection'))"
    asked = [sys.executable, "-c", script]
    done = subprocess.run(asked, env=page, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True", "the file in the user's home says False"


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"a": 1}', '{"a": "b"}'),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", "a: b", "{}"),
        ("PREFECT_API_SSL_CERT_FILE", "/nonexistent", __file__),
        ("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "perhaps", "true"),
    ],
)
def test_how_to_reach_a_server_is_read_or_refused(
    name: str, wrong: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is passed on to Prefect fails there while it is imported, with a page of text."""
    monkeypatch.setattr(os, "environ", dict(os.environ) | {name: wrong})
    with pytest.raises(LabError, match=f"{name} is not") as refused:
        own_settings.keep_others_out()
    assert refused.value.mend == f"unset {name}"
    os.environ[name] = right
    own_settings.keep_others_out()
    assert os.environ[name] == right
