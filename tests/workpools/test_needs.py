"""What a phase asks of a host depends on the model that is named; who has it is read from reports and looked up here."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from made_up_host import made_up_report

from common.environment import release_of
from common.errors import LabError
from experiments.backends import mlx_backend
from experiments.backends.protocols import Missing
from experiments.registry import configure, get_phase
from workpools import assess, fit
from workpools.needs import available_models, demand, lacking, local_models, needs_model, needs_of, of_ollama
from workpools.placement import fit_hosts, place

PHI = "ollama/phi3"


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LAB_HOME of its own, and a port on which no Ollama answers."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("model", "p2", "p3"),
    [
        ("smollm2-135m", ("embedder", "language_model"), ("language_model", "lora")),
        ("hf/org/model", ("embedder", "hf/org/model"), ("hf/org/model", "lora")),
        ("mlx/org/model", ("embedder", "mlx/org/model"), ("mlx/org/model", "mlx")),
        ("ollama/phi3:latest", ("embedder", PHI), (PHI,)),
        ("mlx//models/own", ("embedder", "mlx"), ("mlx",)),
        ("gguf/~/own.gguf", ("embedder", "language_model"), ("language_model", "lora")),
    ],
)
def test_the_named_model_decides_what_is_asked(model: str, p2: tuple[str, ...], p3: tuple[str, ...]) -> None:
    """A laptop with Ollama alone must get P2 of its model, and no host without the model may; a path is on no list."""
    assert needs_of(get_phase("p2").NEEDS, model) == p2
    trainer = "mlx" if model.startswith("mlx/") else "peft"
    assert needs_of(get_phase("p3").NEEDS, model, trainer) == p3
    assert needs_of(get_phase("p1").NEEDS, model) == ("embedder",)
    assert needs_model(p2) and needs_model(p3) and not needs_model(("embedder",))


def test_a_name_that_means_no_model_is_refused_before_anything_is_placed() -> None:
    """Asked of every host, it would be found nowhere, and the reason would be the hosts'."""
    with pytest.raises(LabError, match="unknown model 'vllm/phi3'"):
        needs_of(("language_model",), "vllm/phi3")


def test_what_a_host_lacks_is_told_by_name() -> None:
    """Where its models are not known, as in reports of before, its engine is believed."""
    assert lacking(("embedder", PHI), ["embedder"], [PHI]) == []
    assert lacking(("embedder", PHI), ["embedder", "ollama"], ["ollama/llama3"]) == [PHI]
    assert lacking((PHI,), ["ollama"], None) == [] and lacking((PHI,), [], None) == [PHI]
    assert lacking(("hf/org/model", "lora"), ["language_model"], None) == ["lora"]


def test_the_host_that_has_the_model_gets_the_phase() -> None:
    """Before, any host with an engine got the shard, failed every unit of it and was tried three times."""
    with_it = made_up_report("a", engines=("embedder", "ollama")).model_copy(update={"models": [PHI]})
    without = made_up_report("b").model_copy(update={"models": ["smollm2-135m"]})
    needs, online = needs_of(get_phase("p2").NEEDS, PHI), {"weak": ["a", "b"]}
    placed = place("prerequisites", needs, online, [with_it, without])
    assert (placed.hosts, placed.unfit) == (("a",), ("b",))
    assert list(fit_hosts("prerequisites", needs, online, [with_it, without])) == ["a"]
    with pytest.raises(LabError, match=r"b lacks ollama/phi3\. on one of them: ollama pull phi3, then lab assess"):
        place("prerequisites", needs, {"weak": ["b"]}, [without])


@pytest.mark.parametrize(
    ("model", "command"),
    [("hf/org/model", "hf download org/model"), ("gguf/own.gguf", "put own.gguf into LAB_HOME/models")],
)
def test_the_command_that_brings_a_model_is_named(model: str, command: str) -> None:
    """Nothing is fetched unasked, so whoever waits must learn what to type."""
    report = made_up_report("b").model_copy(update={"models": []})
    with pytest.raises(LabError, match=f"on one of them: {command}, then"):
        place("prerequisites", needs_of(("language_model",), model), {"weak": ["b"]}, [report])


def test_models_of_this_host_are_those_that_it_can_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose engine is not installed would be promised and not kept; a GGUF file counts once it lies there."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "own.gguf").touch()
    assert {"smollm2-135m", "mlx/smollm2-135m", "gguf/own.gguf"} <= set(local_models())
    monkeypatch.setattr(mlx_backend, "missing", lambda prefix: Missing("mlx-lm", "pip install mlx-lm"))
    assert not [name for name in local_models() if name.startswith("mlx/")]
    assert of_ollama(["phi3:latest", "llama3:8b"]) == ["ollama/llama3:8b", PHI] and of_ollama(None) == []


class _FakeTags(BaseHTTPRequestHandler):
    """As much of Ollama's /api/tags as a list of names."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"models": [{"name": "phi3:latest"}]}')

    def log_message(self, *args: object) -> None:
        """Nothing of it belongs in the tests' output."""


def test_a_host_looks_for_the_model_when_the_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is of yesterday: a model that was removed, or a server that is away, gives the shard back."""
    needs = needs_of(get_phase("p2").NEEDS, PHI)
    assert fit.lacks_now(needs) == "it lacks ollama/phi3"
    server = HTTPServer(("127.0.0.1", 0), _FakeTags)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
    try:
        assert PHI in available_models()
        assert fit.lacks_now(needs) == ""
        assert PHI in (assess.assess(quick=True, api_url="http://127.0.0.1:9/api").models or ())
    finally:
        server.shutdown()
        server.server_close()


def test_the_precision_decides_the_profile_and_the_packages() -> None:
    """Quantised E2 fits a medium machine and needs what quantises; every demand names the releases that move numbers."""
    full, small = (demand("e2", configure("e2", "smoke", {"precision": p})) for p in ("float32", "int8"))
    assert (full.profile, small.profile) == ("e2", "e2_quantized")
    assert "bitsandbytes" in small.needs and "bitsandbytes" not in full.needs
    for package in ("torch", "transformers"):
        assert f"{package}=={release_of(package)}" in full.needs
    assert demand("p2", configure("p2", "smoke", {"precision": "bfloat16"})).profile == "prerequisites"
    assert lacking(("torch==2.13",), [], [], {"torch": "2.13.1+cpu"}) == []
    assert lacking(("torch==2.13",), [], [], {"torch": "2.1.0"}) == ["torch==2.13"]
    assert lacking(("torch==2.13",), [], [], {}) == []
