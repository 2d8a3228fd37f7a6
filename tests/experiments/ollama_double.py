"""A test double of an Ollama server: the documented HTTP API with SmolLM2 behind it, no Ollama code.

It follows the documents of server 0.12.11 (docs.ollama.com, openapi.yaml: tags, show, version, generate, chat, embed, with
logprobs and top_logprobs) and, with `logprobs=False`, those of 0.9 (docs/api.md of its repository), which leaves fields that
it does not know unread. Durations are in nanoseconds, streams are lines of JSON, errors are {"error": text}.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

MODEL = "smollm2:135m"
DIGEST = "9077fe9d2ae1a4a41a868836b56b8163731a8fe16621397028c2c76f838c6907"  # made up; the real one is of a manifest
CREATED = "2026-11-24T12:00:00.000000Z"


class OllamaDouble:
    """The server's state: what it was asked, and how it is to behave."""

    def __init__(self, lm: Any, logprobs: bool = True) -> None:
        self.lm, self.logprobs = lm, logprobs
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.delay_s = 0.0
        self.fails: tuple[int, str] | None = None  # (status, error) of every further answer
        self.models = {MODEL: DIGEST}
        self.at_once = self.most_at_once = 0
        self._lock, self._count = threading.Lock(), threading.Lock()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._count:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        yield
        with self._count:
            self.at_once -= 1

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
        """(status, the lines of the answer; one unless it is a stream)."""
        if path == "/api/version":
            return 200, [{"version": "0.12.11" if self.logprobs else "0.9.0"}]
        if path == "/api/tags":
            return 200, [{"models": [self._listed(name) for name in self.models]}]
        name = str(body.get("model", ""))
        if (name if ":" in name else f"{name}:latest") not in self.models:
            return 404, [{"error": f"model '{name}' not found"}]
        if path == "/api/show":
            return 200, [
                {"modelfile": "", "parameters": "", "template": "", "details": self._details(), "model_info": {}}
            ]
        with self._lock, torch.inference_mode():
            return 200, {"/api/generate": self._generate, "/api/chat": self._chat, "/api/embed": self._embed}[path](
                body
            )

    def _details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "134.52M",
            "quantization_level": "Q4_1",
        }

    def _listed(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "model": name,
            "modified_at": CREATED,
            "size": 98_000_000,
            "digest": self.models[name],
            "details": self._details(),
        }

    def _generate(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        raw = bool(body.get("raw"))
        return self._said(body, body["prompt"] if raw else self.lm.as_chat(body["prompt"]), lambda t: {"response": t})

    def _chat(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        prompt = self.lm.as_chat(body["messages"][-1]["content"])
        return self._said(body, prompt, lambda t: {"message": {"role": "assistant", "content": t}})

    def _said(self, body: dict[str, Any], prompt: str, put: Any) -> list[dict[str, Any]]:
        started = time.perf_counter_ns()
        count, tokens = self._tokens(prompt, body.get("options") or {})
        scored = bool(body.get("logprobs")) and self.logprobs
        rows = [self._row(*token, body.get("top_logprobs", 0)) for token in tokens]
        text, stop = "".join(row["token"] for row in rows), (body.get("options") or {}).get("stop") or []
        for mark in stop:
            text = text.split(mark)[0]
        took = time.perf_counter_ns() - started
        last = {
            "model": body["model"],
            "created_at": CREATED,
            "done": True,
            "done_reason": "stop",
            "total_duration": took,
            "load_duration": 1,
            "prompt_eval_count": count,
            "prompt_eval_duration": took // 2,
            "eval_count": len(rows),
            "eval_duration": took // 2,
        }
        if body.get("stream", True):  # the server's own default
            parts = [
                {"model": body["model"], "created_at": CREATED, "done": False, **put(row["token"])} for row in rows
            ]
            return [*parts, {**last, **put("")}]
        return [{**last, **put(text), **({"logprobs": rows} if scored else {})}]

    def _tokens(self, prompt: str, options: dict[str, Any]) -> tuple[int, list[tuple[int, Any]]]:
        """(tokens of the prompt, [(token, log-probabilities of all)]), greedy or sampled by the seed."""
        tokenizer, found = self.lm.tokenizer, list[tuple[int, Any]]()
        ids = tokenizer(prompt, return_tensors="pt").input_ids[:, -int(options.get("num_ctx", 4096)) :]
        temperature, cache, step = float(options.get("temperature", 0.8)), None, ids
        noise = torch.Generator().manual_seed(int(options.get("seed", 0)))
        stops, text = options.get("stop") or [], ""
        for _ in range(int(options.get("num_predict", 128))):
            out = self.lm.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = out.past_key_values, out.logits[0, -1].float()
            likely = torch.softmax(logits / temperature, -1) if temperature > 0 else None
            token = int(logits.argmax() if likely is None else torch.multinomial(likely, 1, generator=noise))
            if token == tokenizer.eos_token_id:
                break
            found.append((token, torch.log_softmax(logits, -1)))
            text, step = text + tokenizer.decode([token]), torch.tensor([[token]])
            if any(mark in text for mark in stops):
                break
        return ids.shape[1], found

    def _row(self, token: int, logprobs: Any, top: int) -> dict[str, Any]:
        def one(t: int) -> dict[str, Any]:
            text = self.lm.tokenizer.decode([t])
            return {"token": text, "logprob": float(logprobs[t]), "bytes": list(text.encode())}

        alternatives = [one(int(t)) for t in torch.topk(logprobs, top).indices] if top else []
        return {**one(token), **({"top_logprobs": alternatives} if top else {})}

    def _embed(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = []
        for text in texts:
            ids = self.lm.tokenizer(text, return_tensors="pt").input_ids
            vectors.append(self.lm.model.model(input_ids=ids).last_hidden_state[0].mean(0).tolist())
        return [{"model": body["model"], "embeddings": vectors, "total_duration": 1, "prompt_eval_count": 1}]


@contextmanager
def serving(double: OllamaDouble) -> Iterator[str]:
    """The double on a free port of this machine; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(self.path, {})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                body = json.loads(content)
            except ValueError:
                self._send(400, [{"error": "invalid character in JSON"}])
                return
            self._reply(self.path, body)

        def _reply(self, path: str, body: dict[str, Any]) -> None:
            double.asked.append((path, body))
            with double.counted():
                time.sleep(double.delay_s)
                if double.fails and path not in ("/api/tags", "/api/version"):
                    self._send(double.fails[0], [{"error": double.fails[1]}])
                    return
                self._send(*double.answer(path, body))

        def _send(self, status: int, lines: list[dict[str, Any]]) -> None:
            content = "\n".join(map(json.dumps, lines)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-ndjson" if len(lines) > 1 else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing; a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
