"""Ask questions of the snapshot, each once a publication, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from warehouse.queries import snapshot

Row = Mapping[str, Any]  # of a question's answer; the columns are in the function that asks
P = ParamSpec("P")
T = TypeVar("T")
MOST_ANSWERS = 512  # of one snapshot; a page asks some ten questions for each run and host

_seen: list[snapshot.Identity | None] = [None]
_seen_lock = threading.Lock()


@lru_cache(maxsize=MOST_ANSWERS)
def _answer(identity: snapshot.Identity | None, question: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return question(*arguments)


def read(question: Callable[P, T], *arguments: P.args, **none: P.kwargs) -> T:
    """Return question(*arguments), asked once a publication and shared by all readers, who must not change it.

    Raises:
        duckdb.Error, OSError: the file went away or is of another kind (snapshot.READ_ERRORS).
    """
    now = snapshot.identity()
    with _seen_lock:
        if _seen[0] != now:
            _answer.cache_clear()
            _seen[0] = now
    found: T = _answer(now, question, arguments)
    return found
