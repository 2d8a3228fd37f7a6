"""lm:<model>@<layer>: a language model's hidden states as a text embedder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.backends import catalog, embedding_cache
from experiments.backends.embedding_cache import CachedBackends, CachedEmbedder
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import Unavailable
from experiments.precision import Precision
from experiments.protocol.code_version import code_version
from experiments.protocol.identity import identify, unable
from experiments.registry import configure, get_phase

TEXTS = ["def f(n):\n    return n\n", "one two", "x" * 3000]


def test_a_vector_is_the_mean_of_the_layers_states(engines: Backends, tiny: str) -> None:
    """By the model's own states, of whole texts and of one that is cut at the window, each of length one."""
    embedder = engines.embedder(f"lm:{tiny}@2")
    model = engines.language_model(tiny)
    vectors, seconds = embedder.embed(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = torch.tensor([model.tokenizer(text).input_ids[: model.window]])  # type: ignore[attr-defined]
        with torch.inference_mode():
            states = model.model(input_ids=ids, output_hidden_states=True).hidden_states[2][0]  # type: ignore[attr-defined]
        mean = states.numpy().astype(np.float64).mean(axis=0)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert len(seconds) == 3 and all(s > 0 for s in seconds)
    other, _ = engines.embedder(f"lm:{tiny}@3").embed(TEXTS[:1])
    assert np.abs(other[0] - vectors[0]).max() > 1e-3, "another layer is another embedder"


def test_what_is_not_read_is_counted(engines: Backends, tiny: str) -> None:
    """A text beyond the window is cut, as an embedder cuts it, and the verdict says how many are."""
    readings = engines.embedder(f"lm:{tiny}@1").reads(TEXTS)
    assert [r.tokens for r in readings] == [len(t) for t in TEXTS], "a byte is a token"
    assert {r.limit for r in readings} == {2048} and [r.tokens > r.limit for r in readings] == [False, False, True]


def test_a_layer_that_is_not_there_is_unavailable(engines: Backends, tiny: str) -> None:
    """P1 skips the candidate by its name, with the number of layers that there are."""
    with pytest.raises(Unavailable, match=f"{re.escape(tiny)} has 4 layers"):
        engines.embedder(f"lm:{tiny}@5")
    assert engines.embedder(f"lm:{tiny}@4").embed(["a"])[0].shape == (1, 128)
    with pytest.raises(Unavailable, match="cannot be loaded on this host"):
        engines.embedder("lm:no-such-model@2")


def test_a_unit_is_of_the_models_weights_and_engine(tiny: str) -> None:
    """Other weights, another release of the engine or changed code of it are another unit; so is another layer."""
    config = configure("p1", "smoke", {"embedders": [f"lm:{tiny}@2"], "precision": "bfloat16"})
    found = identify("p1", config, [f"lm:{tiny}@2"])
    assert found["models"] == {f"lm:{tiny}@2": catalog.digest_of(tiny)}
    assert found["engines"] == catalog.engines_of([tiny], config.model_copy(update={"precision": Precision.FLOAT32}))
    assert found["code"] == code_version("p1", "big_o", models=(tiny,)) != code_version("p1", "big_o", models=())
    units = [
        get_phase("p1").units(config.model_copy(update={"embedders": (f"lm:{tiny}@{n}",)}), None, [])[0] for n in (1, 2)
    ]
    assert units[0].unit_id != units[1].unit_id
    assert unable(units[0], config) == ""


def test_a_model_that_is_not_here_is_no_error_of_the_plan() -> None:
    """A plan names it as unavailable, as it does any other embedder, and its trials fail with the reason."""
    assert catalog.digest_of("lm:no-such-model@2") == catalog.UNAVAILABLE
    config = configure("p1", "smoke", {"embedders": ["lm:no-such-model@2"]})
    (unit,) = get_phase("p1").units(config, None, [])
    assert unable(unit, config) == ""
    trials = get_phase("p1").run(unit, Backends(no_files))
    assert len(trials) == 12 and all("lm:no-such-model@2" in (t.error or "") for t in trials)


def test_the_cache_tells_models_and_layers_apart(
    engines: Backends, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of another layer under the same text would be taken for these; one that is cached loads no model."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    names = [f"lm:{tiny}@1", f"lm:{tiny}@2", "all-MiniLM-L6-v2"]
    assert len({embedding_cache.key_of(name) for name in names}) == 3
    first = CachedBackends(no_files, models=engines.models)
    wanted = engines.embedder(names[0]).embed(TEXTS[:2])[0]
    assert first.embedder(names[0]).embed(TEXTS[:2])[0].tolist() == wanted.tolist()
    again = CachedBackends(no_files).embedder(names[0])
    assert isinstance(again, CachedEmbedder)
    assert again.embed(TEXTS[:2])[0].tolist() == wanted.tolist() and again.loaded is None
