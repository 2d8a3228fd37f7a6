"""A fake Ollama server: it knows one model, whose every answer is the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "qwen3:0.6b"
TAGS = {"models": [{"name": MODEL, "model": MODEL, "digest": "a" * 64, "details": {"family": "qwen3"}}]}
SHOWN = {"details": {"quantization_level": "Q4_K_M"}, "model_info": {}, "capabilities": ["completion"]}
REPLY = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "response": "O(n)", "done": True, "eval_count": 1}


class _FakeOllama(BaseHTTPRequestHandler):
    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer(TAGS if self.path == "/api/tags" else {"version": "0.12.11"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(SHOWN if self.path == "/api/show" else REPLY)

    def log_message(self, *args: object) -> None:
        """Nothing of it belongs in the tests' output."""


@contextmanager
def fake_ollama() -> Iterator[int]:
    """Yield the port of loopback on which it answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _FakeOllama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
