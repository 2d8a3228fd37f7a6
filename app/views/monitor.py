"""Monitor: what are the machines doing now? The page asks Prefect's server every few seconds."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import streamlit as st

from app import format as words
from app import prefect_api
from app.components import shell, tables
from app.prefect_api import Machine, Now
from app.reading import read
from warehouse.queries import snapshot
from warehouse.queries import spool as reading_spool

REFRESH_S = 4
LAST = "monitor-last"  # the last answer of this session
MESSAGE_CHARACTERS = 400


@st.fragment(run_every=REFRESH_S)
def live() -> None:
    """Draw the part of the page that refreshes every REFRESH_S seconds."""
    url, now = prefect_api.address(), st.session_state.get(LAST)
    try:
        now = st.session_state[LAST] = prefect_api.look(url)
        at = now.at.astimezone(words.zone(st.context.timezone)).strftime("%H:%M:%S")
        shell.title("Monitor", prefect_api.in_words(now), [f"asked {at}", prefect_api.shown_address()])
    except prefect_api.AwayError as away:
        shell.empty(away.what, away.mend)
        if now is not None:
            st.caption(f"What follows is from {words.ago(now.at, datetime.now(UTC))}, when the server last answered.")
    if now is not None:
        for part in (machines, work, queue, errors):
            part(now)
    spool()


def machines(now: Now) -> None:
    """List every machine that the server knows: status, heartbeat, what runs there."""
    st.subheader("Machines")
    if not now.machines:
        join = f"lab join {prefect_api.shown_address().removesuffix('/api')}"
        return shell.hint("No machine has joined. On each machine that should work:", join)
    tiers = _tiers()
    tables.show([_machine(m, tiers, now.at) for m in now.machines], "machines")
    return None


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
    """Return the tier of each host in the results; {} without results."""
    try:
        return {h["host"]: h["tier"] for h in read(snapshot.hosts)} if snapshot.identity() else {}
    except snapshot.READ_ERRORS:
        return {}


def work(now: Now) -> None:
    """List the runs under way with their machine and since when."""
    st.subheader("Under way")
    if not now.under_way:
        return shell.hint("Nothing runs. To start the chain:", "lab pipeline --scale demo")
    tables.show(
        [
            {
                "run": r.name,
                "state": r.state,
                "pool": r.pool,
                "machine": r.host or "not known",
                "since": words.ago(r.since, now.at),
            }
            for r in now.under_way
        ],
        "under-way",
    )
    return None


def queue(now: Now) -> None:
    """Show how many runs wait for a machine, by pool."""
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
        start = f"prefect worker start --pool {unserved[0]}"
        shell.hint(f"No machine that is online serves {words.listed(unserved)}. On a machine of that tier:", start)


def errors(now: Now) -> None:
    """List the last runs that failed or crashed, with their messages."""
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
    """Show what waits on this machine to be delivered to the coordinator."""
    st.subheader("Spool of this machine")
    found = reading_spool.waiting()
    if not found["bundles"]:
        st.caption("Empty: every result of this machine is delivered.")
        return
    since = words.ago(found["oldest_at"], datetime.now(UTC)).removesuffix(" ago")
    why = f" The last error: {words.shortened(found['reason'], MESSAGE_CHARACTERS)}." if found["reason"] else ""
    st.text(
        f"{words.count(found['bundles'], 'result')}, {words.size(found['size_bytes'])}, wait to be delivered, "
        f"the oldest for {since}.{why}"
    )
    shell.show_command("lab sync", width=480)


shell.show(live, needs_run=False)
