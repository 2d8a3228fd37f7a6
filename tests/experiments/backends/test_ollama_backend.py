"""The Ollama backend through Ollama's own client, against a test double of the server with SmolLM2 behind it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ollama import Client
from ollama_double import DIGEST, MODEL, OllamaDouble, serving

from common.errors import LabError
from experiments.backends import catalog, ollama_backend
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import LanguageModel, TooLong, Unavailable, Unreadable
from experiments.data import universe
from experiments.domains import get_domain
from experiments.registry import configure
from experiments.solving import sampling
from experiments.solving.solving import solve

NAME = f"ollama/{MODEL}"
PROMPT = "Fruit or tool?\napple: fruit\nhammer: tool\npear:"
OPTIONS = [" fruit", " tool"]


@pytest.fixture
def double(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaDouble]:
    """A server of today, named by OLLAMA_HOST."""
    made = OllamaDouble(lm)
    with serving(made) as address:
        monkeypatch.setenv("OLLAMA_HOST", address)
        yield made


@pytest.fixture
def old(engines: Backends, tiny: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaDouble]:
    """A server from before log-probabilities, with a model that writes anything."""
    made = OllamaDouble(engines.language_model(tiny), logprobs=False)
    with serving(made) as address:
        monkeypatch.setenv("OLLAMA_HOST", address)
        yield made


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """OLLAMA_HOST where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("OLLAMA_HOST", address)
    return address


def asked(double: OllamaDouble, path: str) -> list[dict[str, Any]]:
    return [body for where, body in double.asked if where == path]


def test_scores_are_those_of_the_same_model_read_whole(double: OllamaDouble, lm: LanguageModel) -> None:
    """Following an option through the server's alternatives must sum to what one forward pass gives, or the ranks of
    attempts would depend on the engine; options of one and of several tokens that begin alike."""
    model = Backends(no_files).language_model(NAME)
    options = [*OPTIONS, " fruit or tool", " fruit salad"]
    found, expected = model.score(PROMPT, options), lm.score(PROMPT, options)
    assert model.scores
    # Ends that are not among the 20 likeliest tokens are not seen: 0.0012 measured.
    assert found.logprobs[:2] == pytest.approx(expected.logprobs[:2], abs=2e-3)
    assert found.tokens_in >= expected.tokens_in
    assert found.logprobs[2] == pytest.approx(expected.logprobs[2], abs=1e-2)
    # " salad" is not among the alternatives there, so another spelling of it is followed: unlikely as well, and last.
    assert np.argsort(found.logprobs).tolist() == np.argsort(expected.logprobs).tolist()


def test_every_request_carries_what_makes_it_repeatable(double: OllamaDouble) -> None:
    """Without seed, temperature and num_ctx the server's own defaults would decide: other texts, cut prompts."""
    model = Backends(no_files).language_model(NAME)
    replies = model.generate([PROMPT, "One, two,"], 3, temperature=0.7, seeds=[2**100 + 7, 8])
    bodies = asked(double, "/api/generate")[-2:]
    options = [b["options"] for b in bodies]
    assert {o["seed"] for o in options} == {(2**100 + 7) % 2**31, 8}
    assert all((o["temperature"], o["num_ctx"], o["num_predict"]) == (0.7, 2048, 3) for o in options)
    assert all(b["raw"] and b["keep_alive"] == ollama_backend.KEEP_ALIVE and b["stream"] is False for b in bodies)
    assert [r.tokens_out for r in replies] == [3, 3] and all(r.latency_s > 0 and r.tokens_in > 3 for r in replies)
    again = model.generate([PROMPT, "One, two,"], 3, temperature=0.7, seeds=[2**100 + 7, 8])
    assert [r.text for r in again] == [r.text for r in replies]
    with pytest.raises(ValueError, match="1 seeds for 2 prompts"):
        model.generate(["a", "b"], 1, temperature=1.0, seeds=[1])


def test_chat_goes_through_the_models_template_and_stops(double: OllamaDouble, lm: LanguageModel) -> None:
    """P3's benchmarks are chats: the same greedy words as our own engine says to the same message."""
    model = Backends(no_files).language_model(NAME)
    found = model.generate(["Say hello."], 4, chat=True)[0]
    assert asked(double, "/api/chat")[0]["messages"] == [{"role": "user", "content": "Say hello."}]
    assert found.text.strip() == lm.generate(["Say hello."], 4, chat=True)[0].text.strip()
    stopped = model.generate(["One\nTwo\nThree\n"], 8, stop="\n")[0]
    assert "\n" not in stopped.text


def test_no_more_requests_at_once_than_agreed(double: OllamaDouble) -> None:
    """A hundred requests would queue in a server that others use as well; all are answered, in order."""
    model = Backends(no_files).language_model(NAME)
    double.delay_s, double.most_at_once = 0.05, 0
    replies = model.generate([f"{n} + 0 =" for n in range(10)], 1)
    assert len(replies) == 10 and 1 < double.most_at_once <= ollama_backend.AT_ONCE


def test_embeddings_are_of_length_one_and_asked_for_once(double: OllamaDouble) -> None:
    """Relevance takes products for cosines, and E0's times rest on each text embedded once."""
    embedder = Backends(no_files).embedder(NAME)
    vectors, seconds = embedder.embed(["alpha", "beta", "alpha"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0) and np.array_equal(vectors[0], vectors[2])
    assert [b["input"] for b in asked(double, "/api/embed")] == ["alpha", "beta"] and min(seconds) > 0


def test_it_says_what_it_is(double: OllamaDouble) -> None:
    """Results name the engine, its version and how the weights are quantised; the digest is the server's own."""
    model = Backends(no_files).language_model(NAME)
    assert model.describe() == {
        "engine": "ollama",
        "version": "0.12.11",
        "device": ollama_backend.address(),
        "numbers": "Q4_1",
    }
    assert model.digest() == catalog.digest_of(NAME) == DIGEST
    assert ollama_backend.local_models() == [NAME] and ollama_backend.missing("ollama") is None
    count, window = ollama_backend.counter(NAME)
    assert count("x" * 30) > 10 and window == model.window == 2048


def test_a_server_without_log_probabilities_is_noticed_and_answers_are_sampled(
    old: OllamaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/science.md, "Solving": it samples answers instead, the trial says so, and its rank is the number of different answers."""
    config, domain = configure("p2", "smoke", {"n_problems": 24}), get_domain("big_o")
    model = Backends(no_files).language_model(NAME)
    assert not model.scores
    problem = universe(config).problems[0]
    # A model of random weights names no option, which is an error of each trial; here whatever it says is read as one.
    unread = solve(model, domain, problem, [], config, "p2", "none")
    assert {t.error for t in unread} == {"Unreadable: none of 8 replies names an option"}
    monkeypatch.setattr(sampling, "option_in", lambda text, options: sum(text.encode()) % len(options))
    trials = solve(model, domain, problem, [], config, "p2", "none")
    assert [t.seed for t in trials] == list(config.run_seeds)
    for t in trials:
        assert t.details["solved_by"] == "sampling" and "logprobs" not in t.details
        guesses = t.details["guesses"]
        assert guesses[-1] == problem.label and len(set(guesses)) == len(guesses) == t.attempts
        assert t.details["draws"] >= len(guesses) - t.details["blind"] and t.tokens_in and t.latency_s
        assert t.answer == guesses[0]
        assert t.details["engine"]["version"] == "0.9.0"
    again = solve(model, domain, problem, [], config, "p2", "none")
    assert [t.details["guesses"] for t in again] == [t.details["guesses"] for t in trials]


@pytest.mark.parametrize(("text", "least"), [("x" * 30, 11), ("电池第二天就没电了", 17), ("แบตเตอรี่หมด", 20)])
def test_other_scripts_have_more_tokens_than_characters(text: str, least: int) -> None:
    """The server cuts a prompt that is longer than its window without a word."""
    assert ollama_backend._count(text) >= least


def test_options_that_no_likely_token_begins_are_not_scored(double: OllamaDouble) -> None:
    """All would have the same estimate, and the order of guesses would be drawn by lot."""
    model = Backends(no_files).language_model(NAME)
    with pytest.raises(Unreadable, match="none of the 20 most likely next tokens begins an option"):
        model.score(PROMPT, [" \u4e66\u7c4d", " \u624b\u673a"])


def test_a_prompt_that_the_server_cut_is_an_error(double: OllamaDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills the window was cut there; an answer to its end is an answer to another question."""
    model: Any = Backends(no_files).language_model(NAME)
    monkeypatch.setattr(model, "window", 16)
    with pytest.raises(TooLong, match="fills the 16 tokens of the window"):
        model.generate(["one two three four " * 10], 2)


def test_a_server_that_is_away_is_one_clear_error(nobody: str) -> None:
    """Planned or under way: the address that was asked and what starts it, not a traceback of the client."""
    with pytest.raises(Unavailable, match=f"no Ollama server answers at {nobody}; start it: ollama serve"):
        Backends(no_files).language_model(NAME)
    with pytest.raises(LabError, match="ollama serve"):
        catalog.digest_of(NAME)
    assert ollama_backend.local_models() == []
    assert ollama_backend.missing("ollama") == (f"no Ollama server answers at {nobody}", "ollama serve")


def test_a_missing_model_names_the_pull_and_nothing_is_pulled(double: OllamaDouble) -> None:
    """Gigabytes are downloaded only when the user runs the command."""
    with pytest.raises(Unavailable, match="ollama pull phi3:mini"):
        Backends(no_files).language_model("ollama/phi3:mini")
    with pytest.raises(LabError, match=f"{MODEL}.* ollama pull phi3:mini"):
        catalog.digest_of("ollama/phi3:mini")
    assert not [path for path, _ in double.asked if "pull" in path or "create" in path]


def test_a_slow_or_broken_server_is_a_reason_not_a_hang(double: OllamaDouble) -> None:
    """A unit that waits for ever holds its shard; one that fails is a row with its reason and tried again."""
    model = ollama_backend.OllamaModel(NAME, timeout_s=20)
    impatient = ollama_backend.OllamaModel(NAME, timeout_s=20)
    impatient.client, impatient.timeout_s = Client(timeout=0.2), 0.2
    double.delay_s = 1.5
    with pytest.raises(Unavailable, match=r"did not answer in 0\.2 s"):
        impatient.generate([PROMPT], 1)
    double.delay_s, double.fails = 0.0, (500, "llama runner process has terminated")
    with pytest.raises(Unavailable, match="llama runner process has terminated"):
        model.generate([PROMPT], 1)
    with pytest.raises(Unavailable, match="llama runner"):
        model.score(PROMPT, OPTIONS)


def test_what_ollama_cannot_do_fails_with_a_reason(double: OllamaDouble) -> None:
    """It loads no adapter, trains nothing, and gives no log-probabilities of a given text: P3 and E2 record the reason."""
    with pytest.raises(Unavailable, match="cannot load a LoRA adapter"):
        Backends(lambda sha256: b"").language_model(NAME, "a" * 64)
    with pytest.raises(Unavailable, match="cannot train a model"):
        Backends(no_files).train(NAME, [], [], configure("p3", "smoke").lora, 42)  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="of a given text"):
        Backends(no_files).language_model(NAME).negative_log_likelihood("text")


def test_streams_are_lines_of_json_that_the_client_joins(double: OllamaDouble) -> None:
    """The double must speak the documented API beyond what our backend asks of it, or it proves little about the client."""
    client = Client()
    parts = list(
        client.generate(MODEL, "One, two,", raw=True, stream=True, options={"num_predict": 3, "temperature": 0})
    )
    whole = client.generate(MODEL, "One, two,", raw=True, options={"num_predict": 3, "temperature": 0})
    assert [p.done for p in parts] == [False, False, False, True]
    assert "".join(p.response for p in parts) == whole.response
    assert client.show(MODEL).details is not None and parts[-1].eval_count == whole.eval_count == 3
