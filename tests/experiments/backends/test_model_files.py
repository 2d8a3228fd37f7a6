"""Models as people really have them: what cannot be loaded is refused in one line, before anything is computed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from common.errors import LabError
from experiments.backends import catalog, ollama_backend, weights
from experiments.backends.model_cache import Backends, loading, no_files
from experiments.backends.model_files import has_chat_template
from experiments.backends.protocols import Scores, Unavailable
from experiments.registry import PHASES
from flows.plan import plan

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n"


def folder(path: Path, **config: Any) -> Path:
    """A folder with the files of a model, without weights."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
    header = b'{"__metadata__":{}}'
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def pointer(path: Path) -> None:
    (path / "model.safetensors").write_bytes(POINTER)


def damaged(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"\xff" * 64)


def shards(path: Path) -> None:
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors").rename(path / names["a"])
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def cut(path: Path) -> None:
    (path / "config.json").write_text('{"architectures": ["Llama')


def kind(**config: Any) -> Callable[[Path], None]:
    return lambda path: (path / "config.json").write_text(json.dumps(config)) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (pointer, "is a Git LFS pointer, not the weights"),
        (damaged, "model.safetensors is no safetensors file"),
        (shards, "lacks 1 of its files, first model-00002-of-00002.safetensors"),
        (cut, "cannot be read"),
        (kind(architectures=["X"], auto_map={"AutoModelForCausalLM": "x.X"}), "wants to run code of its own"),
        (kind(architectures=["BertModel"]), "holds a BertModel, no causal language model"),
        (kind(architectures=["MambaForCausalLM"]), "cannot score several options after one prompt"),
        (kind(architectures=["BloomForCausalLM"]), "cannot score several options after one prompt"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_before_the_plan(
    spoil: Callable[[Path], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was a traceback after minutes of other phases; the pointer a MemoryError."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    made = folder(tmp_path / "model")
    spoil(made)
    with pytest.raises(LabError, match=words) as raised:
        plan("smoke", {"p2": {"model": f"hf/{made}"}})
    assert "\n" not in str(raised.value) and not (tmp_path / "home").exists()


def test_a_gguf_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A download that was stopped, or a page that was saved in its place."""
    file = tmp_path / "x.gguf"
    file.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(LabError, match=r"x\.gguf is no GGUF file"):
        weights.digest(f"gguf/{file}")
    file.write_bytes(POINTER)
    with pytest.raises(LabError, match="is a Git LFS pointer"):
        catalog.digest_of(f"gguf/{file}")


def test_a_gguf_file_that_is_never_converted_is_refused_before_the_plan(tmp_path: Path) -> None:
    """A whole file of an architecture that transformers does not know failed in every unit, with exit code 0."""
    from gguf import GGUFWriter

    writer = GGUFWriter(file := tmp_path / "x.gguf", "gemma3n")
    writer.add_name("x")
    writer.add_tensor("token_embd.weight", np.zeros((16, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        LabError, match=r"x\.gguf cannot be converted: ValueError: GGUF model with architecture gemma3n"
    ) as raised:
        plan("smoke", {"p2": {"model": f"gguf/{file}"}})
    assert raised.value.mend.startswith("choose another model")


def test_a_model_that_cannot_chat_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P3 said so after its training. Phases that only complete texts take such a model."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    model = f"hf/{folder(tmp_path / 'model')}"
    with pytest.raises(LabError, match=f"model '{model}' has no chat template") as raised:
        plan("smoke", {phase: {"model": model} for phase in PHASES})
    assert "--set p3.model=smollm2-135m" in raised.value.mend
    without = {phase: {"model": model} for phase in PHASES if phase != "p3"}
    assert plan("smoke", without).content["configs"]["p2"]["model"] == model


@pytest.mark.parametrize(
    ("file", "content", "has"),
    [
        ("tokenizer_config.json", b'{"chat_template": "{{ messages }}"}', True),
        ("tokenizer_config.json", b'{"chat_template": [{"name": "default", "template": "x"}]}', True),
        ("tokenizer_config.json", b'{"chat_template": null}', False),
        ("tokenizer_config.json", b'{"cut', False),
        ("chat_template.jinja", b"{{ messages }}", True),
        ("model.gguf", b"GGUF\3\0\0\0...tokenizer.chat_template...", True),
        ("model.gguf", b"GGUF\3\0\0\0...tokenizer.ggml.tokens...", False),
    ],
)
def test_a_chat_template_is_found_where_it_may_stand(file: str, content: bytes, has: bool, tmp_path: Path) -> None:
    """In the tokenizer's configuration, as newer models have it in a file of its own, or in a GGUF file's metadata."""
    (tmp_path / file).write_bytes(content)
    assert has_chat_template(tmp_path / file if file.endswith(".gguf") else tmp_path) is has


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OSError(28, "No space left on device")]
)
def test_what_the_machine_lacks_is_no_fault_of_the_model(error: Exception) -> None:
    """A failed trial would be the unit's result; a bigger machine, or this one later, may compute it."""
    with pytest.raises(type(error)) as raised, loading("hf/any"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", [RuntimeError("size mismatch\nfor many\nlayers"), KeyError("gemma3n"), ValueError()])
def test_any_error_of_a_library_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials fail with it and are delivered, so that a pipeline tries nothing again elsewhere."""

    class FakeBackend:
        def load(self, *of: object) -> Any:
            raise error

        def trainer(self, name: str, *of: object) -> Any:
            if name == "hf/untrainable":
                return self
            raise error

        def train(self, *of: object) -> Any:
            raise error

    monkeypatch.setattr("experiments.backends.catalog.backend", lambda name: FakeBackend())
    settings: Any = None
    for ask in (
        lambda: Backends(no_files).language_model("hf/any"),
        lambda: Backends(no_files).train("hf/any", [], [], settings, 1),
        lambda: Backends(no_files).train("hf/untrainable", [], [], settings, 1),
    ):
        with pytest.raises(
            Unavailable, match=f"model 'hf/(any|untrainable)' cannot be used: {type(error).__name__}: "
        ) as raised:
            ask()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("answer", [AttributeError("no attribute 'batch_repeat_interleave'"), float("nan"), -math.inf])
def test_a_model_that_loads_and_cannot_score_is_found_at_once(
    answer: Exception | float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some architectures load, and fail at the first question, in the middle of a unit; damaged weights answer NaN."""

    class FakeModel:
        scores = True

        def score(self, *of: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return Scores((-1.0, answer), 1, 1, 0.0)

    class FakeBackend:
        def load(self, *of: object) -> Any:
            return FakeModel()

    monkeypatch.setattr("experiments.backends.catalog.backend", lambda name: FakeBackend())
    made = Backends(no_files)
    with pytest.raises(
        Unavailable, match=r"cannot be used: (AttributeError|ValueError: it gives answers no probability)"
    ):
        made.language_model("hf/any")
    assert made.models == {}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<!DOCTYPE html><title>Login</title>"),
        (200, b'{"error": "Unexpected endpoint or method. (GET /api/tags)"}'),
        (200, b'{"models": [{"name": "a:latest", "model": "a:latest"}]}'),
        (404, b'{"detail": "Not Found"}'),
    ],
)
def test_something_else_at_ollama_host_is_said_as_such(
    status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page to log in, or another server's JSON, is no model that is missing."""

    class FakeServer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *of: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
    try:
        with pytest.raises(LabError, match="is no Ollama server") as raised:
            ollama_backend.digest("ollama/a")
        assert "\n" not in str(raised.value)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("host", ["http://localhost:port", "http://[::1"])
def test_an_ollama_host_that_is_no_address_is_said_as_such(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client reads it as it is imported, and every command that lists models ended in a traceback."""
    monkeypatch.setenv("OLLAMA_HOST", host)
    monkeypatch.delitem(sys.modules, "ollama", raising=False)
    with pytest.raises(LabError, match="OLLAMA_HOST is no address") as raised:
        ollama_backend.digest("ollama/a")
    assert raised.value.mend == "export OLLAMA_HOST=127.0.0.1:11434"
    assert ollama_backend.local_models() == []
