"""The token of the inbox: made from the coordinator's join key, so that machines that joined have it without being told."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from lab import secrets
from warehouse.transports.quack import TOKEN, TOKEN_FILE, token


def own_inbox_token() -> str:
    """What this coordinator asks clients for: LAB_INBOX_TOKEN or its file when set, else what follows from its join key."""
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_FILE):
        return token()
    return secrets.inbox_token(secrets.issued().join)


def remember_inbox_token(api: str | None = None) -> None:
    """Where results go over Quack and no token is set, the one that follows from the key this machine joined with.

    Args:
        api: the server that was joined; PREFECT_API_URL unless given.
    """
    wanted = urlsplit(os.environ.get("LAB_RESULTS_URL", "")).scheme in ("quack", "quacks")
    if not wanted or os.environ.get(TOKEN) or os.environ.get(TOKEN_FILE):
        return
    address = api or os.environ.get("PREFECT_API_URL")
    if address and (key := secrets.kept(address)):
        os.environ[TOKEN] = secrets.inbox_token(key)
