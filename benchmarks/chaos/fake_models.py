"""Embedders that load no engine, for processes whose machines are tested and not their models."""

from __future__ import annotations

import os
from pathlib import Path

EMBEDDERS = [f"fake-{i}" for i in range(30)]
FAKE = Path(__file__).with_name("fake_embedder")


def embedders(home: Path, pause_s: float = 0.005) -> dict[str, str]:
    """Put EMBEDDERS into a hub's cache in `home`; return the environment that finds it and FakeEmbedder.

    Args:
        pause_s: of FakeEmbedder at each text, so that a process can be stopped in the middle of a unit.
    """
    for name in EMBEDDERS:
        folder = home / "hub" / "hub" / f"models--sentence-transformers--{name}"
        for path, content in (("refs/main", "0" * 40), (f"snapshots/{'0' * 40}/model.safetensors", name)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
    path = os.pathsep.join((str(FAKE), *filter(None, [os.environ.get("PYTHONPATH")])))
    return {"HF_HOME": str(home / "hub"), "PYTHONPATH": path, "FAKE_EMBEDDER_PAUSE_S": str(pause_s)}
