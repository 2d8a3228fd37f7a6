"""What tests of passwords share."""

from __future__ import annotations

import time

import pytest
from asgi_requests import Message

from common.wrong_passwords import WrongPasswords


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that wrong passwords would have waited; none are waited."""
    found: list[float] = []

    async def delay(self: WrongPasswords, scope: Message) -> None:
        found.append(self.seconds("somebody", time.monotonic()))

    monkeypatch.setattr(WrongPasswords, "delay", delay)
    return found
