"""Monitor: what do the machines do now? Asked from Prefect's server every few seconds."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app import format as words
from app import prefect_api
from app.components import shell, tables
from app.prefect_api import FlowRun, Machine, Now
from app.reading import read
from warehouse.queries import snapshot
from warehouse.queries import spool as reading_spool

REFRESH_S = 4
LAST = "monitor-last"  # the last look that succeeded, of this session
MESSAGE_CHARACTERS = 400


@st.fragment(run_every=REFRESH_S)
def live() -> None:
    """The part of the page that is drawn again every REFRESH_S seconds."""
    url = prefect_api.address()
    try:
        now = prefect_api.look(url)
        st.session_state[LAST] = now
        shell.title(
            "Monitor", prefect_api.in_words(now), [f"asked {now.at.astimezone(_where()).strftime('%H:%M:%S')}", url]
        )
    except prefect_api.AwayError as away:
        shell.empty(away.what, away.mend)
        last: Now | None = st.session_state.get(LAST)
        if last is not None:
            st.caption(f"What follows was so {words.ago(last.at, datetime.now(UTC))}, when the server last answered.")
            _all(last)
        return spool()
    _all(now)
    return spool()


def _where() -> Any:
    return words.zone(st.context.timezone)


def _all(now: Now) -> None:
    machines(now)
    work(
        "Under way",
        now.under_way,
        now.at,
        "Nothing runs. To start the chain:",
        "lab pipeline --scale demo",
        "under-way",
    )
    queue(now)
    errors(now)


def machines(now: Now) -> None:
    """Every machine that the server knows: status, heartbeat, what runs there."""
    st.subheader("Machines")
    if not now.machines:
        st.caption("No machine has joined. On each that is to work:")
        st.code(f"lab join {prefect_api.address().removesuffix('/api')}", language=None, width=480)
        return
    tiers = _tiers()
    tables.show([_machine(m, tiers, now.at) for m in now.machines], "machines")


def _machine(m: Machine, tiers: dict[str, str], now: datetime) -> dict[str, str]:
    return {
        "machine": m.name,
        "status": m.status,
        "tier": tiers.get(m.name, "not known"),
        "pools": ", ".join(m.pools) or "none",
        "last heartbeat": words.ago(m.heartbeat_at, now) or "never",
        "runs now": ", ".join(m.running) or "nothing",
    }


def _tiers() -> dict[str, str]:
    """Tier of each host in the results; none while there are none."""
    try:
        return {h["host"]: h["tier"] for h in read(snapshot.hosts)} if snapshot.identity() else {}
    except snapshot.READ_ERRORS:
        return {}


def work(title: str, runs: list[FlowRun], now: datetime, nothing: str, command: str, name: str) -> None:
    """Runs with their machine and how long they have been so."""
    st.subheader(title)
    if not runs:
        st.caption(nothing)
        st.code(command, language=None, width=480)
        return
    tables.show(
        [
            {
                "run": r.name,
                "state": r.state,
                "pool": r.pool,
                "machine": r.host or "not known",
                "since": words.ago(r.since, now),
            }
            for r in runs
        ],
        name,
    )


def queue(now: Now) -> None:
    """What waits for a machine, by pool."""
    st.subheader("Queue")
    if not now.waiting:
        st.caption("Nothing waits.")
        return
    served = {pool for m in now.machines for pool in m.pools}
    counts = Counter(r.pool for r in now.waiting)
    oldest = {pool: min((r.since for r in now.waiting if r.pool == pool and r.since), default=None) for pool in counts}
    tables.show(
        [
            {
                "pool": pool or "none",
                "waiting": n,
                "longest": words.ago(oldest[pool], now.at).removesuffix(" ago") or "not known",
                "served by": ", ".join(m.name for m in now.machines if pool in m.pools) or "no machine that is online",
            }
            for pool, n in sorted(counts.items())
        ],
        "queue",
    )
    if unserved := sorted(pool for pool in counts if pool and pool not in served):
        st.caption(f"Nobody serves {words.listed(unserved)}. On a machine of that tier:")
        st.code(f"prefect worker start --pool {unserved[0]}", language=None, width=480)


def errors(now: Now) -> None:
    """The runs that failed or crashed last, with what they said."""
    st.subheader("Last errors")
    if not now.errors:
        st.caption("None.")
        return
    tables.show(
        [
            {
                "run": r.name,
                "state": r.state,
                "machine": r.host or "not known",
                "when": words.ago(r.since, now.at),
                "message": words.shortened(" ".join(r.message.split()), MESSAGE_CHARACTERS),
            }
            for r in now.errors
        ],
        "last-errors",
    )


def spool() -> None:
    """What waits on this machine to be delivered to the coordinator."""
    st.subheader("Spool of this machine")
    found = reading_spool.waiting()
    if not found["bundles"]:
        st.caption("Empty: every result of this machine is delivered.")
        return
    since = words.ago(found["oldest_at"], datetime.now(UTC)).removesuffix(" ago")
    why = f" The last try: {words.shortened(found['reason'], MESSAGE_CHARACTERS)}." if found["reason"] else ""
    st.text(
        f"{words.count(found['bundles'], 'result')}, {words.size(found['size_bytes'])}, wait to be delivered, "
        f"the oldest for {since}.{why}"
    )
    st.code("lab sync", language=None, width=480)


shell.show(live, "nothing")
