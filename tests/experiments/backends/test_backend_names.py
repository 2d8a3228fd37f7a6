"""A model's name chooses its backend, an unknown or missing one names the command that helps, and a backend is one module."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file

from common.errors import LabError
from common.files import file_sha256
from experiments.backends import catalog, protocols, weights
from experiments.backends.protocols import Missing
from experiments.backends.sizing import Size, gguf_size
from experiments.protocol import code_version as code
from experiments.protocol.code_version import code_version
from flows.local import run_local
from flows.plan import plan
from warehouse.paths import Paths

PACKAGED = "smollm2-135m"
NAMES = {
    "wheel": PACKAGED,
    "hf": "hf/org/model",
    "gguf": "gguf/some.gguf",
    "mlx": "mlx/org/model",
    "ollama": "ollama/phi3",
}


ENGINES = dict.fromkeys(("wheel", "hf", "gguf"), "transformers")


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    # A port where nothing listens.
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")


def tiny_folder(folder: Path, value: float = 1.0) -> Path:
    """Two parameters' worth of a model: enough to be found and measured, not to be loaded."""
    folder.mkdir(parents=True)
    save_file(
        {"layer.weight": np.full((2, 3), value, np.float32), "norm": np.ones(3, np.float32)}, folder / "m.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    return folder


@pytest.mark.parametrize(("prefix", "name"), NAMES.items())
def test_each_prefix_means_its_own_engine(prefix: str, name: str) -> None:
    """The name alone chooses the engine; a wrong one would compute another model's answers."""
    assert catalog.prefix_of(name) == prefix
    assert catalog.backend(name).__name__ == f"experiments.backends.{ENGINES.get(prefix, prefix)}_backend"
    assert catalog.is_language_model(name)


def test_a_backend_is_one_module_with_what_the_protocol_asks() -> None:
    """A function missing or with other arguments would fail in the middle of a unit."""
    assert set(catalog.BACKENDS) == set(NAMES)
    wanted = {
        n: list(inspect.signature(f).parameters)[1:]
        for n, f in inspect.getmembers(protocols.Backend, inspect.isfunction)
    }
    wanted = {n: parameters for n, parameters in wanted.items() if not n.startswith("_")}
    own = {
        "local_models",
        "missing",
        "digest",
        "check_chat",
        "counter",
        "load",
        "trainer",
        "versions",
        "precisions",
        "refusal",
    }
    assert set(wanted) == own
    for name in NAMES.values():
        module = catalog.backend(name)
        assert isinstance(module, ModuleType)
        assert {n: list(inspect.signature(getattr(module, n)).parameters) for n in wanted} == wanted


@pytest.mark.parametrize(
    "name", ["smolm", "vllm/phi3", "hf/", "wheel/smollm2-135m", "gguf/model.bin", "hf/a b", "hf/a/b/c"]
)
def test_a_name_that_means_nothing_lists_what_is_here(name: str) -> None:
    """The user sees at once which names this machine has, and nothing was loaded or asked of a network."""
    with pytest.raises(LabError, match=f"unknown model .*this machine has: {PACKAGED}") as caught:
        catalog.backend(name).digest(name)
    assert caught.value.mend


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("hf/org/model", "hf download org/model"),
        ("mlx/org/model", "hf download org/model"),
        ("gguf/some.gguf", "put it into"),
        ("ollama/phi3", "ollama serve"),
        ("hf/./model", "write hf//"),
    ],
)
def test_a_model_that_is_not_here_comes_with_what_mends_it(name: str, mend: str) -> None:
    """Nothing is downloaded unasked: the command is named, and it is the user who runs it."""
    with pytest.raises(LabError) as caught:
        catalog.backend(name).digest(name)
    assert mend in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "lacks"),
    [("mlx", Missing("mlx-lm", "pip install mlx-lm")), ("wheel", Missing("torch", "pip install torch"))],
)
def test_a_missing_engine_is_reported_before_anything_is_computed(
    prefix: str, lacks: Missing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every trial would fail with it; and a model that cannot be loaded is none that this machine has."""
    name = f"mlx/{PACKAGED}" if prefix == "mlx" else PACKAGED
    catalog.check_engine(name)
    monkeypatch.setattr(catalog.backend(name), "missing", lambda prefix: lacks)
    with pytest.raises(LabError, match=f"not installed: {lacks.what}; this machine has: .*{lacks.command}") as caught:
        catalog.check_engine(name)
    assert f"has: {name}" not in str(caught.value) and f", {name}" not in str(caught.value)


def test_a_run_with_a_model_that_cannot_be_loaded_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty failed trials and an INCONCLUSIVE verdict said before what one line says; P1 asks no language model."""
    torch = Missing("torch", "pip install torch")
    monkeypatch.setattr("experiments.backends.transformers_backend.missing", lambda prefix: torch)
    with pytest.raises(LabError, match="not installed: torch"):
        run_local(Paths.local(), plan("smoke"), "p2", lambda *_: None)
    assert not Paths.local().warehouse.exists()


def test_a_folders_digest_is_of_its_contents(tmp_path: Path) -> None:
    """Two hosts agree on a model by it: another weight or chat template is another model, another path or a README is not."""
    first, second = tiny_folder(tmp_path / "a"), tiny_folder(tmp_path / "b")
    digest = catalog.digest_of(f"hf/{first}")
    assert digest == catalog.digest_of(f"hf/{second}") == catalog.digest_of(f"mlx/{second}")
    (second / "README.md").write_text("words")
    assert catalog.digest_of(f"hf/{second}") == digest
    (second / "chat_template.jinja").write_text("{{ messages }}")
    assert catalog.digest_of(f"hf/{second}") != digest
    assert catalog.digest_of(f"hf/{tiny_folder(tmp_path / 'c', 2.0)}") != digest


def test_a_packaged_model_is_the_same_weights_for_mlx() -> None:
    """mlx/smollm2-135m needs no hub: the GGUF file of the package, so the same digest."""
    assert catalog.digest_of(f"mlx/{PACKAGED}") == catalog.digest_of(PACKAGED)
    assert f"mlx/{PACKAGED}" in catalog.local_models() and catalog.local_models()[0] == PACKAGED


def test_a_gguf_file_is_found_in_the_labs_folder_or_by_its_path() -> None:
    """Where the user drops it, and what is listed, must be the same place; its size is read without unpacking it."""
    place = weights.gguf_folder() / "own.gguf"
    place.parent.mkdir()
    writer = GGUFWriter(place, "llama")
    for name, shape in (
        ("token_embd.weight", (7, 4)),
        ("blk.0.attn_output.weight", (4, 4)),
        ("output_norm.weight", (4,)),
    ):
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "gguf/own.gguf" in catalog.local_models()
    assert catalog.digest_of("gguf/own.gguf") == catalog.digest_of(f"gguf/{place}") == file_sha256(place)
    assert gguf_size(place) == Size(matrices=16, others=32)


def test_the_size_is_read_from_headers(tmp_path: Path) -> None:
    """It is asked before anything is loaded."""
    found = weights.size(f"hf/{tiny_folder(tmp_path / 'a')}")
    assert (found.matrices, found.others) == (6, 3)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The versions before any edit."""
    return versions()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that code_version reads."""
    place = tmp_path / "experiments"
    shutil.copytree(code.PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", place)
    code_version.cache_clear()
    yield place
    code_version.cache_clear()


def versions() -> dict[str, str]:
    return {prefix: code_version("p2", "big_o", models=(name,)) for prefix, name in NAMES.items()}


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("ollama_backend.py", "TOP = 20", "TOP = 19", {"ollama"}),
        ("mlx_lm_engine.py", "GROUP = 64", "GROUP = 32", {"mlx"}),
        (
            "transformers_backend.py",
            "PeftTrainer(name, precision)",
            "PeftTrainer(name, Precision.FLOAT32)",
            {"wheel", "hf", "gguf"},
        ),
        ("transformers_lm.py", "WINDOW_TOKENS = 2048", "WINDOW_TOKENS = 1024", {"wheel", "hf", "gguf", "mlx"}),
        ("catalog.py", '"smollm2-135m": P', '"other": Package("a", "b", "c"), "smollm2-135m": P', set()),
    ],
)
def test_another_engine_changes_no_unit_that_does_without_it(
    before: dict[str, str], copy: Path, file: str, old: str, new: str, changed: set[str]
) -> None:
    """Days of trials of one engine must not be redone because another was mended or added."""
    path = copy / "backends" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    (copy / "backends" / "new_backend.py").write_text("def local_models():\n    return []\n", encoding="utf-8")
    code_version.cache_clear()
    after = versions()
    assert {prefix for prefix in before if before[prefix] != after[prefix]} == changed
