"""The memory as a stream with drift: what `recent` (P2) and `temporal` (E1, E2) mean.

Work comes in sessions: a few families of problems are under way at a time, then others. The stream is a cycle, and each
problem to solve is asked at a moment of the session that has its family, so the latest memos tell something of what comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from experiments.contract import PhaseConfig
from experiments.seeds import generator

TOPICS = 4  # families under way at a time (docs/science.md, E1: ours)


class StreamConfig(PhaseConfig):
    """The setting of phases that ask a memory for what it had last."""

    topics: int = Field(
        TOPICS, gt=0, description="families of problems under way at a time, in the stream that `recent` looks back on"
    )


class Stream(NamedTuple):
    """Memos in the order in which a run seed lets them come."""

    seed: int
    order: NDArray[np.intp]  # indices of memos
    session_of: Mapping[str, int]  # family -> its session, from 0
    starts: NDArray[np.intp]  # of the sessions in `order`; the last number is the end of all

    def before(self, problem_id: str, family: str, k: int) -> list[int]:
        """Return the indices of the k memos just before the problem is asked, the newest last; fewer where there are fewer.

        The moment is drawn from all places in the family's session. A family without memos has a session that is drawn.
        """
        session = self.session_of.get(family)
        if session is None:
            session = int(generator(self.seed, "stream", "family", family).integers(len(self.starts) - 1))
        start, end = (int(i) for i in self.starts[session : session + 2])
        moment = int(generator(self.seed, "stream", "moment", problem_id).integers(start, end + 1))
        n = len(self.order)
        return [int(self.order[i % n]) for i in range(moment - min(k, n), moment)]


def stream_of(families: Sequence[str], topics: int, seed: int) -> Stream:
    """Return the stream of a memory under a run seed.

    Families in drawn order are cut into sessions of `topics`; within a session memos come in drawn order. Where each memo
    has a family of its own, the whole is random order.

    Args:
        families: of the memos, in the order in which they are indexed; one at least.
        topics: families in a session; the last session may have fewer.
        seed: run seed.
    """
    names = sorted(set(families))
    places = generator(seed, "stream", "families").permutation(len(names))
    session_of = {name: int(place) // topics for name, place in zip(names, places, strict=True)}
    drawn = generator(seed, "stream", "memos").permutation(len(families))
    sessions = np.array([session_of[families[i]] for i in drawn])
    order = drawn[np.argsort(sessions, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(sessions))])
    return Stream(seed, order, session_of, starts)
