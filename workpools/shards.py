"""Cut the units of a round into shards and assign them to machines, for the plan and for the pipeline.

Unequal machines get units longest first, each where it ends first: LPT on uniform machines (Gonzalez, Ibarra and Sahni 1977,
SIAM J. Comput. 6:155), at most 1.58 times as long as the best schedule (Kovács 2010, Algorithmica 57:413), and near the lower
bound where units are small against the whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.environment import is_host
from workpools.placement import Placement

SHARD_SECONDS = 60.0  # a shard's start is about ten (measured), so smaller ones do not pay
SHARDS_A_WORKER = 3  # where several share a pool: the faster ones take more of them
MOST_SHARDS = 24  # open at a time, for few hosts; 50 brought a server on SQLite to "database is locked" (measured)
# What a shard takes beside its units: in a demo 9 to 14 s, the mean of nine shards is 11.5 s (measured, two busy cores). Most
# of it is starting Python and Prefect, which no graphics processor shortens, so it is the same for all machines.
START_S = 11.5
# Shared parts serve machines that join, are drained or are slower than expected; they may take this many times as long.
SHARED_MAY_COST = 1.05


@dataclass(frozen=True)
class Part:
    """One shard."""

    units: tuple[int, ...]  # indices into the costs, in their order
    host: str | None = None  # that it is meant for; None: any worker of the pool


@dataclass(frozen=True)
class Load:
    """The part of a round that one machine does."""

    units: tuple[int, ...]  # indices into the costs, in their order
    shards: int
    seconds: float  # the shards' starts included


def cut(
    costs: Sequence[float], placed: Placement, speeds: Mapping[str, float | None], others: int = 0, again: bool = False
) -> list[Part]:
    """Cut units into parts, by what is known of the pool's workers.

    Where speeds are known, each machine gets a part by its speed, and machines that would save only seconds get none. Equal
    parts for any worker are as good where machines are alike, and serve one that joins later. They are used where a worker's
    speed is not known, and not where a worker of the pool does not fit.

    Args:
        costs: seconds on the reference machine, one a unit.
        placed: the pool and its workers.
        speeds: of the registered hosts, as multiples of the reference machine; None where nothing was measured.
        others: number of other shards that are open.
        again: some of the units were sent before; the next free worker takes them, since machines may be stuck.
    """
    known = {h: speeds[h] or 1.0 for h in placed.hosts if h in speeds}
    named = {h: speeds.get(h) or 1.0 for h in placed.hosts if is_host(h)}
    room = max(1, max(MOST_SHARDS, placed.workers) - others)
    wanted = placed.workers if placed.workers == 1 else placed.workers * SHARDS_A_WORKER
    number = max(1, min(wanted, room, len(costs), round(sum(costs) / SHARD_SECONDS)))
    if placed.unfit and (known or named):
        return meant_for(costs, known or named)
    shared = [Part(tuple(units)) for units in balance(costs, number)]
    if again or placed.unfit or placed.workers == 1 or not all(speeds.get(h) for h in placed.hosts):
        return shared
    meant = meant_for(costs, known)
    if number < 2 * placed.workers:
        return meant  # no worker could take more than another
    as_meant, as_shared = (max(load.seconds for load in taken(p, costs, known).values()) for p in (meant, shared))
    return shared if as_shared <= SHARED_MAY_COST * as_meant else meant


def meant_for(costs: Sequence[float], speeds: Mapping[str, float]) -> list[Part]:
    """Make a part for each of the fastest machines, as many as would work for longer than they take to start."""
    fastest = sorted(speeds, key=lambda h: -speeds[h])
    enough = max(1, round(sum(costs) / (START_S * speeds[fastest[0]])))
    hosts = [h for h in speeds if h in set(fastest[:enough])]
    parts = spread(costs, [speeds[h] for h in hosts])
    return [Part(tuple(units), host) for host, units in zip(hosts, parts, strict=True) if units]


def taken(parts: Sequence[Part], costs: Sequence[float], speeds: Mapping[str, float]) -> dict[str, Load]:
    """Simulate which machine does which parts, in their order: its own, or the next shared one whenever it is free.

    Of machines that are free at once the fastest comes first, which is a guess: really it is the first to ask. Costs and
    speeds are as for `cut`.
    """
    found: dict[str, Load] = {}
    free = [(0.0, -speed, i, host) for i, (host, speed) in enumerate(speeds.items())]
    heapq.heapify(free)
    for part in parts:
        work = sum(costs[i] for i in part.units)
        if part.host is not None:
            host, until = part.host, START_S + work / speeds[part.host]
        else:
            at, negative, i, host = heapq.heappop(free)
            until = at + START_S - work / negative
            heapq.heappush(free, (until, negative, i, host))
        before = found.get(host, Load((), 0, 0.0))
        found[host] = Load(tuple(sorted((*before.units, *part.units))), before.shards + 1, until)
    return {host: found[host] for host in speeds if host in found}


def balance(costs: Sequence[float], number: int) -> list[list[int]]:
    """Cut units into at most `number` parts of about equal cost, longest first onto the lightest; each in order, none empty."""
    parts: list[list[int]] = [[] for _ in range(number)]
    loads = [(0.0, i) for i in range(number)]
    for unit in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, lightest = heapq.heappop(loads)
        parts[lightest].append(unit)
        heapq.heappush(loads, (load + costs[unit], lightest))
    return [sorted(part) for part in parts if part]


def spread(costs: Sequence[float], speeds: Sequence[float]) -> list[list[int]]:
    """Return the indices of each machine's units, in order: longest first, each to the machine on which it ends first.

    A heap of loads is not enough, since the machine that ends first depends on the unit's own length. The longest takes at
    most (sum(costs) + (m - 1) * max(costs)) / sum(speeds), m = len(speeds): none of the machines would have ended the unit
    that ends last any sooner, and these m inequalities are summed.
    """
    inverse = 1.0 / np.asarray(speeds, dtype=np.float64)
    load, ends = np.zeros(len(inverse)), np.empty(len(inverse))
    parts: list[list[int]] = [[] for _ in inverse]
    lengths = np.asarray(costs, dtype=np.float64)
    for i in np.argsort(-lengths, kind="stable").tolist():
        np.add(load, lengths[i], out=ends)
        np.multiply(ends, inverse, out=ends)
        first = int(ends.argmin())
        parts[first].append(i)
        load[first] += lengths[i]
    return [sorted(part) for part in parts]
