"""Secrets in URLs, which no message shows."""

from __future__ import annotations

import pytest

from common.errors import LabError
from common.urls import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://alice:s3cret@127.0.0.1:22501", "http://127.0.0.1:22501"),
        ("no server at http://alice:s3cret@host:1/api; lab up", "no server at http://host:1/api; lab up"),
        ("https://ghp_token@github.com/a.git and ftp://a:b@c", "https://github.com/a.git and ftp://c"),
        ("sftp://me@host/path", "sftp://me@host/path"),
        ("sftp://me:s3cret@host/path", "sftp://host/path"),
        ("abfs://container@account/path", "abfs://container@account/path"),
        ("http://me:s3@cret@host:1/x@y", "http://host:1/x@y"),
        ("postgresql+asyncpg://me:s3/cret@host/db", "postgresql+asyncpg://host/db"),
        ("https://host/x?a=1&sig=s3cret&token=t#end", "https://host/x?a=1&sig=***&token=***#end"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://host/api (a question? me@host.org)", "http://host/api (a question? me@host.org)"),
        ("me@host.org", "me@host.org"),
        ("", ""),
    ],
)
def test_users_passwords_and_keys_are_left_out(text: str, shown: str) -> None:
    """What a message shows is copied into tickets and chats; of an address the rest is needed there."""
    assert without_secrets(text) == shown == without_secrets(shown)
    assert str(LabError(text, text)) == f"{shown}. {shown}" if text else True


@pytest.mark.parametrize("value", ["alice:s3cret@host:1", 'http://alice:s3 "cret@host:1', "alice:s/3@cret@host:1"])
def test_what_the_settings_hold_is_left_out_in_every_form(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama's address needs no scheme, and a password may hold what no URL may."""
    monkeypatch.setenv("OLLAMA_HOST", value)
    assert without_secrets(f"Ollama at {value} refuses") == f"Ollama at {'http://' * ('//' in value)}host:1 refuses"
    monkeypatch.setenv("LAB_RESULTS_URL", "sftp://host:22/lab@home")
    assert without_secrets("sftp://host:22/lab@home") == "sftp://host:22/lab@home"
