"""The tier weak: P1 runs where nothing but the extra weak is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from front_door import bare_environment

# What the other extras bring; the extra weak must do without each of them.
ABSENT = (
    "peft",
    "mlx",
    "mlx_lm",
    "streamlit",
    "plotly",
    "ollama",
    "bitsandbytes",
    "accelerate",
    "fsspec",
    "paramiko",
    "s3fs",
)
# Found by no finder, so that importing one fails and find_spec gives None, as in an environment without it.
WITHOUT = f"""
import json, sys
ABSENT = {ABSENT!r}
class Hidden:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else self.finder.find_spec(name, path, target)
    def __getattr__(self, name): return getattr(self.finder, name)
sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
from lab.main import main
sys.argv = ["lab", *sys.argv[1:]]
try:
    main()
finally:
    print(json.dumps(sorted(set(ABSENT) & {{m.split(".")[0] for m in sys.modules}})))
"""


def without(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """lab in a process that finds none of ABSENT."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], env=bare_environment(home), capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_p1_runs_with_the_extra_weak_alone(tmp_path: Path) -> None:
    """A Pi installs little: an import of peft, MLX, Streamlit or Ollama on P1's way would take it out of the laboratory."""
    done = without(tmp_path / "home", "run", "p1", "--scale", "smoke")
    assert done.returncode in (0, 3), done.stderr  # 3: the gate said no, after all was computed
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert any(word in done.stdout for word in ("PASS", "FAIL", "INCONCLUSIVE"))


def test_what_is_hidden_cannot_be_imported(tmp_path: Path) -> None:
    """The test above rests on it: in such a process doctor finds the other tiers' packages absent and says how to get them."""
    done = without(tmp_path / "home", "doctor", "--json", "--tier", "weak")
    checks = {c["name"]: c for c in json.loads(done.stdout[: done.stdout.rindex("}") + 1])["checks"]}
    for name in ("LoRA through peft", "8-bit and 4-bit", "mlx/...", "ollama/...", "the page"):
        assert checks[name]["state"] == "absent" and checks[name]["mend"], name
    assert checks["embeddings"]["state"] == "found"
