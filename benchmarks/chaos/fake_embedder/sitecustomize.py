"""Put FakeEmbedder in place of the packaged embedder's encoder as well, so that its model is not loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class _Fake(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "experiments.backends.bert_encoder":
            return spec_from_file_location(name, Path(__file__).with_name("fake_bert_encoder.py"))
        return None


sys.meta_path.insert(0, _Fake())
