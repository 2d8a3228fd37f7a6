"""Models of an Ollama server: ollama/<model>, through Ollama's own client.

Written after the server's documented HTTP API (docs.ollama.com, openapi.yaml): generate with `logprobs` and `top_logprobs`
since server 0.12.11, without them before. The server is OLLAMA_HOST's, else the one on this machine. Nothing is pulled.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.environment import release
from experiments.backends.catalog import unavailable
from experiments.backends.protocols import (
    THINKING,
    THOUGHT,
    Embedded,
    Embeddings,
    LoraTrainer,
    Missing,
    Reading,
    Reply,
    Scores,
    TextLoss,
    TokenCounter,
    TooLong,
    Unavailable,
    Unreadable,
    embed_distinct,
    seeds_for,
)
from experiments.contract import Trainer
from experiments.precision import Precision

ENGINE = "ollama"

WINDOW_TOKENS = 2048  # as for our own engines: the same prompts fit, whatever serves the model
KEEP_ALIVE = (
    "10m"  # a shard's units follow each other within minutes; Ollama's own five would unload between two of them
)
TIMEOUT_S = 300.0  # one answer, loading of the model included; large models load for minutes from a slow disk
LOOK_S = 2.0  # to find out whether a server answers and what it has
AT_ONCE = 4  # requests under way; more wait in the server, whose own limit is OLLAMA_NUM_PARALLEL
TOP = 20  # the most alternatives a token that the server gives (its documents)
CHARACTERS_A_TOKEN = (
    3.0  # of code and English, low, so that a count is not too small; the server counts only what it reads
)
TOKENS_A_CHARACTER = 2  # of other scripts (measured, SmolLM2: 1.9 in Chinese, 1.6 in Thai)
END = re.compile(r"[ \t]*[\r\n]|<\|.+\|>$|</s>$|<end_of_turn>$|$")  # a token that ends an answer: of a line, or a turn
NEVER = -20.7  # nats, one in 10^9: of text that goes on where the model stops and the server names no alternative
INSTALL = "pip install '.[medium]'"
LIST = "its models"  # what is asked of a server, in place of a model: every Ollama has a list
OTHER_BACKENDS = "name the model hf/<repository> or mlx/<repository>"


class OllamaError(Unavailable):
    """A server that does not answer, has not the model, or refuses; `lacking` has the command that mends it."""

    def __init__(self, what: str, command: str, hint: str = "") -> None:
        self.lacking = Missing(what, command or hint)
        super().__init__(f"{what}; {hint or command}".removesuffix("; "))


def _client(timeout_s: float) -> Any:
    try:
        from ollama import Client  # it makes a client of its own as it is imported

        return Client(timeout=timeout_s)
    except ImportError as error:
        raise OllamaError(str(error), INSTALL, f"install it: {INSTALL}") from error
    except ValueError as error:
        raise OllamaError(
            f"OLLAMA_HOST is no address: {address()}: {error}", "", "export OLLAMA_HOST=127.0.0.1:11434"
        ) from error


def address() -> str:
    """Return the address of the server that is asked."""
    return os.environ.get("OLLAMA_HOST", "").strip() or "127.0.0.1:11434"


@contextmanager
def _asking(model: str, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Raise OllamaError for the client's errors: no server, too slow, no such model, or refused."""
    import httpx
    from ollama import ResponseError

    try:
        yield
    except httpx.TimeoutException as error:
        raise OllamaError(
            f"Ollama at {address()} did not answer in {timeout_s:g} s about {model!r}", "ollama ps"
        ) from error
    except (ConnectionError, httpx.TransportError) as error:
        what, hint = f"no Ollama server answers at {address()}", "start it: ollama serve; or set OLLAMA_HOST"
        raise OllamaError(what, "ollama serve", hint) from error
    except ResponseError as error:
        if error.status_code == 404 and model == LIST:
            raise _no_ollama() from error
        if error.status_code == 404:
            raise OllamaError(f"Ollama at {address()} has no model {model!r}", f"ollama pull {model}") from error
        raise OllamaError(f"Ollama at {address()}: {' '.join(str(error).split())[:300]}", "ollama ps") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # HTML, or JSON of another server
        raise _no_ollama() from error


def _no_ollama() -> OllamaError:
    what = f"what answers at {address()} is no Ollama server"
    return OllamaError(what, "", "export OLLAMA_HOST=127.0.0.1:11434, or where the server is")


def _tags() -> dict[str, str]:
    """Return the server's models with their digests. Raises OllamaError."""
    client = _client(LOOK_S)
    with _asking(LIST, LOOK_S):
        found = client.list()
        models = found.models
        if "models" not in found.model_fields_set or not all(m.digest for m in models):
            raise ValueError("no list of models with digests")
        return {str(m.model): str(m.digest) for m in models}


def _tagged(model: str) -> str:
    """Return a model's name as the server lists it: without a tag it is the latest."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def local_models() -> list[str]:
    try:
        return sorted(f"ollama/{model.removesuffix(':latest')}" for model in _tags())
    except OllamaError:
        return []


def missing(prefix: str) -> Missing | None:
    try:
        return None if _tags() else Missing("Ollama has no model", "ollama pull smollm2:135m")
    except OllamaError as error:
        return error.lacking


def digest(name: str) -> str:
    """Return the digest that the server lists for the model, of its manifest: weights, template and parameters."""
    model = name.partition("/")[2]
    try:
        found = _tags()
    except OllamaError as error:
        raise unavailable(name, *error.lacking) from error
    if _tagged(model) not in found:
        raise unavailable(name, f"Ollama at {address()} does not have it", f"ollama pull {model}")
    return found[_tagged(model)].removeprefix("sha256:")


def check_chat(name: str) -> None:
    """Check nothing: the server has a template for every model."""


def counter(name: str) -> TokenCounter:
    digest(name)
    return TokenCounter(_count, WINDOW_TOKENS)


def _count(text: str) -> int:
    # The API counts only tokens that it reads, so a text is taken for a little longer than it is.
    others = sum(c > "\x7f" for c in text)
    return int((len(text) - others) / CHARACTERS_A_TOKEN) + TOKENS_A_CHARACTER * others + 1


def versions(precision: Precision) -> dict[str, str]:
    try:
        found = str(_client(LOOK_S)._request_raw("GET", "/api/version").json().get("version", ""))
    except Exception:  # no server: whatever asks it next says so
        return {}
    return {"ollama": release(found)} if found else {}


def precisions(name: str) -> tuple[Precision, ...]:
    return (Precision.STORED,)


def refusal(name: str, precision: Precision) -> str:
    return ""


def load(name: str, adapter: bytes | None, precision: Precision) -> OllamaModel:
    if adapter is not None:
        raise Unavailable(f"{name}: Ollama cannot load a LoRA adapter; {OTHER_BACKENDS} to train and run it")
    return OllamaModel(name)


def trainer(name: str, precision: Precision, trainer: Trainer) -> LoraTrainer:
    raise Unavailable(f"{name}: Ollama cannot train a model; {OTHER_BACKENDS} for P3 and E2")


def _of_end(likely: Mapping[str, float]) -> float:
    """Return the log-probability of an answer's end: of all alternatives that end it, or of the least likely one."""
    ends = [p for token, p in likely.items() if END.match(token)]
    return float(np.logaddexp.reduce(ends)) if ends else min(likely.values())


class OllamaModel:
    """One model of an Ollama server.

    Raises:
        Unavailable: the client is not installed, no server answers, or it has no such model.
    """

    def __init__(self, name: str, timeout_s: float = TIMEOUT_S) -> None:
        self.name, self.window = name, WINDOW_TOKENS
        self._model = name.partition("/")[2]
        self.client, self.timeout_s = _client(timeout_s), timeout_s
        with self._asking():
            shown = self.client.show(self._model)
            first = self._generate("1 + 1 =", 1, scored=True)
        # An older server leaves the field out: then it cannot score, and answers are sampled. So are those of a model that
        # thinks first, whose next words are its thinking.
        thinks = "thinking" in (shown.capabilities or ())
        self.scores = bool(first.logprobs and first.logprobs[0].top_logprobs) and not thinks
        self._numbers = str(shown.details.quantization_level or "") if shown.details else ""
        self._version = self._server_version()
        self._embedded: dict[str, Embedded] = {}

    def _asking(self) -> AbstractContextManager[None]:
        return _asking(self._model, self.timeout_s)

    def _server_version(self) -> str:
        # The client has no call of its own for /api/version.
        with self._asking():
            return str(self.client._request_raw("GET", "/api/version").json().get("version", ""))

    def describe(self) -> dict[str, str]:
        numbers = self._numbers or "unknown"
        return {"engine": "ollama", "version": self._version, "device": address(), "numbers": numbers}

    def digest(self) -> str:
        return digest(self.name)

    def count_tokens(self, text: str) -> int:
        return _count(text)

    def _options(self, most: int, temperature: float, seed: int, stop: str) -> dict[str, Any]:
        # top_k 0 and top_p 1 leave the distribution whole, as the other engines do; a seed is a signed 32-bit number.
        plain = {"num_predict": most, "num_ctx": self.window, "temperature": temperature, "seed": seed % 2**31}
        whole = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
        return {**plain, **whole, **({"stop": [stop]} if stop else {})}

    def _generate(
        self, prompt: str, most: int, temperature: float = 0.0, seed: int = 0, stop: str = "", scored: bool = False
    ) -> Any:
        extra = {"logprobs": True, "top_logprobs": TOP} if scored else {}
        found = self.client.generate(
            self._model,
            prompt,
            raw=True,
            stream=False,
            keep_alive=KEEP_ALIVE,
            options=self._options(most, temperature, seed, stop),
            **extra,
        )
        if (found.prompt_eval_count or 0) >= self.window:  # the server cuts a longer prompt to its window, and answers
            raise TooLong(f"the prompt fills the {self.window:,} tokens of the window, so the server has cut it")
        return found

    def score(self, prompt: str, options: Sequence[str]) -> Scores:
        """Return log-probabilities from the server's most likely next tokens, one request for each text that options share.

        An option is followed through the tokens that spell it, the longest first, as a tokenizer cuts, to the end of the
        answer. Where its longest token is not among the TOP alternatives, a shorter one is followed, or else the least
        likely of them stands for the rest: an estimate, above or below the true value, of an option that is unlikely anyway.

        Raises:
            Unreadable: no option begins with one of the alternatives, so that all would be estimates.
        """
        started = time.perf_counter()
        sums, spelt = [0.0] * len(options), [""] * len(options)
        open_ones, cost = set(range(len(options))), [0, 0]
        while open_ones:
            nodes = sorted({spelt[i] for i in open_ones})
            with self._asking():
                replies = self._each(lambda node: self._generate(prompt + node, 1, scored=True), nodes)
            found = dict(zip(nodes, replies, strict=True))
            if nodes == [""]:
                first = [a.token for row in (found[""].logprobs or ())[:1] for a in row.top_logprobs]
                if not any(token and option.startswith(token) for token in first for option in options):
                    raise Unreadable(f"none of the {TOP} most likely next tokens begins an option")
            cost = [max(cost[0], *(r.prompt_eval_count or 0 for r in found.values())), cost[1] + len(nodes)]
            for i in sorted(open_ones):
                # A model that stops at once leaves no token and so no alternatives: its end is taken for certain.
                rows = found[spelt[i]].logprobs
                likely = {a.token: a.logprob for a in rows[0].top_logprobs} if rows else {"": 0.0}
                rest = options[i][len(spelt[i]) :]
                if not rest:
                    sums[i] += _of_end(likely)
                    open_ones.remove(i)
                    continue
                fitting = [token for token in likely if token and rest.startswith(token)]
                token = max(fitting, key=len, default=rest)
                sums[i] += likely.get(token, min(likely.values()) if rows else NEVER)
                spelt[i] += token
        return Scores(tuple(sums), cost[0], cost[1], time.perf_counter() - started)

    def _each(self, ask: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Return ask() of every item, AT_ONCE at a time, in their order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, items))

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        chat: bool = False,
        stop: str = "",
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Reply]:
        own = seeds_for(prompts, temperature, seeds)

        def ask(one: tuple[str, int]) -> Reply:
            if chat:
                message = [{"role": "user", "content": one[0]}]
                options = self._options(max_new_tokens, temperature, one[1], stop)
                found = self.client.chat(self._model, message, stream=False, keep_alive=KEEP_ALIVE, options=options)
                text = found.message.content or ""
                if found.message.thinking:  # which the server has taken out of the text
                    text = f"{THINKING}{found.message.thinking}{THOUGHT if text else ''}{text}"
            else:
                found = self._generate(one[0], max_new_tokens, temperature, one[1], stop)
                text = found.response or ""
            return Reply(text, found.prompt_eval_count or 0, found.eval_count or 0, (found.total_duration or 0) / 1e9)

        with self._asking():
            return self._each(ask, list(zip(prompts, own, strict=True)))

    def negative_log_likelihood(self, text: str) -> TextLoss:
        raise Unavailable(f"{self.name}: Ollama gives no log-probabilities of a given text")

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of `texts` through the server's embed."""
        return embed_distinct(texts, self._embedded, self._embed)

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        return []  # the server does not tell

    def _embed(self, text: str) -> NDArray[np.float64]:
        with self._asking():
            found = self.client.embed(self._model, text, keep_alive=KEEP_ALIVE)
        vector = np.asarray(found.embeddings[0], dtype=np.float64)
        return vector / np.linalg.norm(vector)
