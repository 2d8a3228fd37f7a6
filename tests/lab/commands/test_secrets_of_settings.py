"""Secrets in the URLs of settings: a small run, and all that it leaves, prints and logs."""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from fake_ollama import MODEL, fake_ollama
from lab_process import Run

from benchmarks.chaos.fake_models import EMBEDDERS, embedders

ROOT = Path(__file__).resolve().parents[3]
USER, PASSWORD = "usr-4Zq8", "pw-7KxV2v9"  # alone, so that a part is found as well
OTHERS = {"LAB_HOST", "PREFECT_SERVER_DATABASE_CONNECTION_URL"}  # a name of a machine; written for the server, not read


def planted(ollama_port: int, closed_port: int) -> dict[str, str]:
    """Every URL setting with a user and a password."""
    who = f"{USER}:{PASSWORD}@127.0.0.1"
    return {
        "OLLAMA_HOST": f"http://{who}:{ollama_port}",
        "PREFECT_API_URL": f"http://{who}:{closed_port}/api",
        "LAB_DATABASE_URL": f"postgresql+asyncpg://{who}:{closed_port}/lab",
        "LAB_RESULTS_URL": f"git+ssh://{who}:{closed_port}/results.git",
    }


def texts(home: Path) -> Iterator[tuple[Path, str]]:
    """Yield the text of every file, with what is compressed in it."""
    for path in (p for p in sorted(home.rglob("*")) if p.is_file()):
        content = path.read_bytes()
        yield path, content.decode("latin-1")
        if path.suffix == ".parquet":
            yield path, str(pq.read_table(path).to_pylist()) + str(pq.read_schema(path).metadata)
        elif path.suffix == ".duckdb":
            with duckdb.connect(path, read_only=True) as con:
                for (table,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    yield path, str(con.execute(f'SELECT * FROM "{table}"').fetchall())
        elif path.suffix == ".gz":
            yield path, gzip.decompress(content).decode("latin-1")
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield path, archive.read(name).decode("latin-1")


def leaks(text: str) -> bool:
    return USER in text or PASSWORD in text


def test_each_url_setting_that_the_code_reads_is_planted() -> None:
    """A setting that is new, and not in the test below, would be free to leak."""
    folders = "app common experiments flows lab warehouse workpools".split()
    code = "\n".join(p.read_text() for folder in folders for p in (ROOT / folder).rglob("*.py"))
    found = set(re.findall(r"\"((?:LAB|PREFECT|OLLAMA|HF|AWS)_[A-Z_]*(?:URL|HOST|ENDPOINT|URI))\"", code))
    assert found - OTHERS == set(planted(1, 2))


@pytest.mark.slow
def test_no_secret_of_a_setting_is_left_printed_or_logged(lab: Run, called: Run, home: Path, closed_port: int) -> None:
    """The user and the password of Ollama's server were in every trial, so in bundles, snapshots, exports and reports."""
    with fake_ollama() as port:
        settings = planted(port, closed_port) | embedders(home)
        own = {name: value for name, value in settings.items() if name != "LAB_RESULTS_URL"}
        values = (f"model=ollama/{MODEL}", f"p1.embedders={json.dumps(EMBEDDERS[:1])}", "p2.n_test=2", "p2.n_memory=8")
        small = ["--scale", "smoke", *(word for value in values for word in ("--set", value))]
        said = [lab("run", phase, *small, **own) for phase in ("p1", "p2")]
        assert " units done" in said[1].stderr and "Traceback" not in said[1].stderr, said[0].stderr + said[1].stderr
        # In processes of their own what loads engines, and here all else.
        said += [lab(*command.split(), **settings) for command in ("doctor", "assess --quick --json")]
        said += [lab("run", "p2", *small, **own | {"OLLAMA_HOST": settings["PREFECT_API_URL"]})]
        for command in (
            "status",
            "results",
            "verify",
            "spool",
            f"export trials --format json --out {home / 'trials.json'}",
            f"report --out {home / 'report.html'}",
            f"backup {home / 'backup.tar'}",
        ):
            said.append(called(*command.split(), **own))
            assert said[-1].returncode == 0, said[-1].stderr
        token = {"LAB_RESULTS_URL": f"git+https://{PASSWORD}@127.0.0.1:{closed_port}/results.git"}
        said += [called(command, **settings) for command in ("sync", "spool", "hosts", "plan")]
        said += [called("sync", **own | token)]
    with duckdb.connect(home / "snapshot.duckdb", read_only=True) as con:
        devices = con.execute("SELECT DISTINCT details->>'$.engine.device' FROM trials").fetchall()
    assert (f"http://127.0.0.1:{port}",) in devices
    for done in said:
        assert not leaks(done.stdout + done.stderr), done.args
        assert "Traceback" not in done.stderr, done.stderr
    assert [path for path, text in texts(home) if leaks(text)] == []


@pytest.mark.parametrize(
    "value",
    [
        "http://{0}@host/x",
        "sftp://{0}@host/x",
        "file://{0}@host/x",
        "git+https://{0}@host/x.git",
        "git+ssh://{0}@host/x.git?y",
        "quack://{0}@host:1",
        "s3://{0}@bucket/x",
        "http://{0}@[host",
        "{0}@host/x",
    ],
)
def test_a_results_url_that_is_refused_is_not_shown_whole(called: Run, value: str) -> None:
    """A value with a mistake is shown, so that it can be found; the password is none of that."""
    done = called("sync", LAB_RESULTS_URL=value.format(f"{USER}:{PASSWORD}"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert not leaks(done.stdout + done.stderr), done.stderr


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "LAB_DATABASE_URL", "LAB_RESULTS_URL"])
def test_a_unit_of_the_system_holds_no_password(called: Run, name: str) -> None:
    """Everybody on the machine can read the file that starts lab."""
    done = called("service", "install", "--dry-run", **{name: f"git+https://{USER}:{PASSWORD}@host/x.git"})
    assert not leaks(done.stdout + done.stderr)
    assert (done.returncode, "LAB_RESULTS_URL holds a password" in done.stderr) == (
        (2, True) if name == "LAB_RESULTS_URL" else (0, False)
    )
