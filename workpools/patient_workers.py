"""Keep Prefect's workers alive while their server is away.

Prefect ends a worker after twelve questions without an answer: about 20 minutes for `prefect worker start`. It imports this
module as its commands begin (entry point `prefect.collections` in pyproject.toml), so that workers go on asking.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from prefect.utilities import services

LOOP = "critical_service_loop"
ITS_USERS = ("prefect.workers.base", "prefect._internal.observers")  # have it by name, if they are imported already
GIVEN_UP = "Service exceeded error threshold."  # in the loop's RuntimeError
prefects_loop = services.critical_service_loop


async def patient_loop(workload: Callable[[], Awaitable[Any]], *given: Any, **more: Any) -> None:
    """Run Prefect's loop, and again whenever it gives up; print a line when the server goes and when it is back.

    A server that refuses (403, 404) ends it as before.
    """
    away = False

    async def asked() -> None:
        nonlocal away
        try:
            await workload()
        except httpx.HTTPError as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if not away and not refused:
                print(
                    f"the Prefect server does not answer ({type(error).__name__}); asking again until it does",
                    flush=True,
                )
                away = True
            raise
        if away:
            print("the Prefect server answers again", flush=True)
        away = False

    while True:
        try:
            return await prefects_loop(asked, *given, **more | {"printer": lambda *_, **__: None})
        except RuntimeError as error:
            if GIVEN_UP not in str(error):
                raise


def install() -> None:
    """Have the workers of this process use `patient_loop`."""
    for module in (services, *(sys.modules[name] for name in ITS_USERS if name in sys.modules)):
        setattr(module, LOOP, patient_loop)


install()
