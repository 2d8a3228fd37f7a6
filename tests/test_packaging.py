"""The wheel: built from a clean checkout, it holds all that runs, and runs where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT, tracked

HOUSE = ("app", "common", "experiments", "flows", "lab", "warehouse", "workpools")
pytestmark = pytest.mark.slow
# What an installed wheel is asked, in a process that sees no checkout.
ASK = """
import importlib, json
import lab, yaml
from experiments.protocol.code_version import code_version
from common.environment import checkout, code_commit, lab_home
from experiments.registry import PHASES
from common.environment import project_files
from warehouse.database.connection import migrations
folder = project_files()
entrypoints = [d["entrypoint"].split(":") for d in yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]]
flows = [getattr(importlib.import_module(module), name) for module, name in entrypoints]
print(json.dumps({
    "where": lab.__file__, "checkout": checkout() is not None, "commit": code_commit()[0], "home": str(lab_home()),
    "folder": str(folder), "settings": (folder / ".streamlit" / "config.toml").is_file(), "migrations": len(migrations()),
    "flows": sorted({importlib.import_module(m).__file__ for m, _ in entrypoints}), "n_flows": len(flows),
    "versions": {p: code_version(p, "big_o") for p in PHASES},
}))
"""
VERSIONS = """
import json, experiments
from experiments.protocol.code_version import code_version
from experiments.registry import PHASES
print(json.dumps([experiments.__file__, {p: code_version(p, "big_o") for p in PHASES}]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    root = tmp_path_factory.mktemp("packaging")
    for name in tracked():
        (root / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / "src" / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(root / "dist"), str(root / "src")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, cwd=root)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return root / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def answer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the installed wheel says of itself."""
    root = tmp_path_factory.mktemp("installed")
    # Without --ignore-installed pip would first remove the project from the environment that these tests run in.
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--ignore-installed",
        "--no-index",
        "--prefix",
        str(root / "prefix"),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    (site,) = (root / "prefix").rglob("site-packages")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LAB_"))}
    environment = kept | {"PYTHONPATH": str(site), "HOME": str(root), "PREFECT_HOME": str(root / "prefect")}
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=False, cwd=root, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"root": str(root), "site": str(site)}


def test_the_wheel_holds_every_file_of_the_house_and_nothing_else(wheel: Path, built: Path) -> None:
    """A migration or a style that stayed behind breaks only where nobody develops; a test or a secret has no business there."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = built.parent / "src"
    inside = {str(p.relative_to(source)) for top in HOUSE for p in (source / top).rglob("*") if p.is_file()}
    assert inside | {"llm_memory_experiments.py"} <= names
    others = {n for n in names - inside if ".dist-info/" not in n} - {"llm_memory_experiments.py"}
    assert {n.partition(".data/data/share/llm-memory-experiments/")[2] for n in others} == {
        "prefect.yaml",
        ".streamlit/config.toml",
    }


def test_the_source_archive_builds_the_same_wheel(built: Path) -> None:
    """The wheel is built from it; what it lacked would be lacking there."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {n.partition("/")[2] for n in opened.getnames()}
    assert {"pyproject.toml", "prefect.yaml", "README.md", ".streamlit/config.toml"} <= names


def test_without_a_checkout_it_finds_what_it_needs(answer: dict[str, Any]) -> None:
    """`pip install .` is how every machine but the developer's gets it: flows, deployments, migrations and the page's settings."""
    assert Path(answer["where"]).is_relative_to(answer["site"]) and not answer["checkout"]
    assert all(Path(f).is_relative_to(answer["site"]) for f in answer["flows"])
    assert answer["n_flows"] >= 11
    assert answer["folder"].endswith("share/llm-memory-experiments") and answer["settings"]
    assert answer["migrations"] == len(list((ROOT / "warehouse" / "migrations").glob("*.sql")))
    assert answer["commit"] == "wheel-0.1.0"
    assert Path(answer["home"]) == Path(answer["root"]) / ".local" / "share" / "llm-memory-experiments"


def test_the_installed_command_finds_its_own_packages(answer: dict[str, Any], tmp_path: Path) -> None:
    """PYTHONPATH comes before what is installed: the user's own package lab was run, or failed."""
    for name in HOUSE:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('of the user')")
    script = Path(answer["root"]) / "prefix" / "bin" / "lab"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{answer['site']}",
    }
    command = [sys.executable, str(script), "data", "make", "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "") and "lab data make" in done.stdout


def test_a_unit_has_the_same_id_in_a_wheel_and_in_a_checkout(answer: dict[str, Any], built: Path) -> None:
    """Otherwise a machine that installed the wheel would compute everything again, under other names."""
    source = str(built.parent / "src")
    done = subprocess.run(
        [sys.executable, "-c", VERSIONS],
        capture_output=True,
        text=True,
        check=True,
        cwd=source,
        timeout=200,
        env=os.environ | {"PYTHONPATH": source},
    )
    where, versions = json.loads(done.stdout)
    assert where.startswith(source)
    assert answer["versions"] == versions


def test_pip_installs_a_folder_as_the_images_do(built: Path, wheel: Path, tmp_path: Path) -> None:
    """`pip install .`, from a clean checkout or from what a Dockerfile copies of it, installs what the wheel holds."""
    lines = (ROOT / "docker" / "Dockerfile.weak").read_text().splitlines()
    for source in [w for line in lines if line.startswith("COPY ") for w in line.split()[1:-1]]:
        found = built.parent / "src" / source
        (shutil.copytree if found.is_dir() else shutil.copyfile)(found, tmp_path / source)
    asked = ["-q", "--no-deps", "--ignore-installed", "--no-build-isolation", "--prefix", str(tmp_path / "prefix"), "."]
    subprocess.run([sys.executable, "-m", "pip", "install", *asked], check=True, timeout=200, cwd=tmp_path)
    (site,) = (tmp_path / "prefix").rglob("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        packages = {n for n in archive.namelist() if n.partition("/")[0] in HOUSE}
    assert {n for n in packages if not (site / n).is_file()} == set()
    assert (tmp_path / "prefix" / "share" / "llm-memory-experiments" / "prefect.yaml").is_file()
