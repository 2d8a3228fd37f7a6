"""A shard that has begun does not need the server: what it asks there is only politeness."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from ports import free_port
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import shard


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(shard, "get_run_logger", lambda: logging.getLogger("test"))
    return caplog


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that has one answer to everything, this status."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_shard_begins_its_work_while_the_server_is_gone(said: pytest.LogCaptureFixture) -> None:
    """Else a machine would stand still for as long as the coordinator is away, or lose a try of each of its units."""
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert shard.unwanted() is None
    assert "the server does not answer (ConnectError); work goes on without it" in said.text


@pytest.mark.parametrize("answering", [500], indirect=True)
def test_a_server_in_trouble_is_as_good_as_gone(answering: int, said: pytest.LogCaptureFixture) -> None:
    """Its database is busy, maybe: that is no reason to give the shard up."""
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{answering}/api"}):
        assert shard.unwanted() is None
    assert "the server does not answer (PrefectHTTPStatusError)" in said.text


@pytest.mark.parametrize("answering", [503], indirect=True)
def test_a_shard_is_less_patient_than_the_client(
    answering: int, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client waits for eight minutes, as a pipeline must; a machine with work to do would stand still for as long."""
    waits, this = list[float](), threading.get_ident()

    def wait(seconds: float) -> None:
        if threading.get_ident() == this:  # Prefect has threads of its own
            waits.append(seconds)

    monkeypatch.setattr("prefect.client.base.time.sleep", wait)
    address = f"http://127.0.0.1:{answering}/api"
    with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 8}):
        assert shard.unwanted() is None
    # Prefect's client waits once more after its last try, unless that one broke off.
    assert shard.ASKED_AGAIN <= len(waits) <= shard.ASKED_AGAIN + 1
    assert "the server does not answer" in said.text


@pytest.mark.parametrize("answering", [403], indirect=True)
def test_a_server_that_refuses_is_believed(answering: int, said: pytest.LogCaptureFixture) -> None:
    """It may be another one by now, to which this work does not belong."""
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{answering}/api"}),
        pytest.raises(httpx.HTTPStatusError, match="403"),
    ):
        shard.unwanted()
