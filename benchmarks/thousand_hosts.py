"""Does a bundle cost the collector more when it comes from one of a thousand machines than from a single one?

    python -m benchmarks.thousand_hosts --hosts 1000 --trials 20

    {"benchmark": "thousand_hosts", "ratio": 0.58, "needed": null, "seconds": {"one host": 58.3, "many hosts": 100.1},
     "counts": {"hosts": 300, "bundles": 300, "trials": 6000}, "compared": "number of bundles and hosts",
     "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 18.1, "torch": "2.13.0+cpu"},
     "bundles_per_s": 3.0}
    (measured with --hosts 300, nine processes a core beside it)

Both sides take as many bundles as there are hosts: one bundle and one capability report from each of them, or all bundles
and one report from one. It is a simulation of what reaches the coordinator, with real files and a real warehouse; the hosts
themselves compute nothing. Bundles a second are in the numbers at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import Clock, show
from experiments.contract import Trial, Unit
from warehouse.bundles import write_bundle
from warehouse.collector import collect
from warehouse.database import writing
from warehouse.places import Places
from warehouse.records import save_units
from warehouse.transport import Store

NAME = "thousand_hosts"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDENTITY = {"code": "c", "data": "d", "models": {}}


def deliver(folder: Path, bundles: int, trials: int, hosts: int) -> tuple[Places, Store]:
    """A coordinator whose inbox holds the bundles of so many hosts."""
    places = Places(folder)
    store = Store(places.home / "results", places.spool, places.bundles)
    units = [Unit(hashlib.sha256(str(i).encode()).hexdigest()[:32], "p1", 1, {}, {}, IDENTITY) for i in range(bundles)]
    with writing(places) as con:
        save_units(con, "bench", "p1", units)
    for i, unit in enumerate(units):
        rows = [
            Trial(f"problem-{j}", "semantic", seed=100, attempts=1, solved=True, details={"j": j})
            for j in range(trials)
        ]
        write_bundle(
            store.inbox, unit, rows, host=f"host-{i % hosts}", attempt=1, started_at=NOW, finished_at=NOW,
            provenance={"identity": IDENTITY},
        )  # fmt: skip
    for i in range(hosts):
        report = {
            "host": f"host-{i}", "created_at": NOW.isoformat(), "tier": "weak", "python": "3.11.7", "versions": {},
        }  # fmt: skip
        store.put_report(f"host-{i}", json.dumps(report).encode())
    return places, store


def taken(folder: Path, bundles: int, trials: int, hosts: int, clock: Clock, side: str) -> None:
    """Collect it all.

    Raises:
        ValueError: something was refused.
    """
    places, store = deliver(folder, bundles, trials, hosts)
    with writing(places) as con:
        with clock.side(side):
            found = collect(places, store, con)
            con.execute("CHECKPOINT")
        (known,) = con.execute("SELECT count(*) FROM hosts").fetchone() or (0,)
    if found.ingested != bundles or known != hosts or found.quarantined:
        raise ValueError(f"{found.ingested} of {bundles} bundles, {known} of {hosts} hosts: {found.quarantined[:1]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000, help="machines, each with one bundle")
    parser.add_argument("--trials", type=int, default=20, help="rows of each bundle")
    given = parser.parse_args(arguments)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="bench-hosts-") as name:
        taken(Path(name) / "one", given.hosts, given.trials, 1, clock, "one host")
        taken(Path(name) / "many", given.hosts, given.trials, given.hosts, clock, "many hosts")
    seconds = clock.seconds
    show(
        NAME, seconds["one host"] / seconds["many hosts"], None, seconds,
        {"hosts": given.hosts, "bundles": given.hosts, "trials": given.hosts * given.trials}, "number of bundles and hosts",
        bundles_per_s=round(given.hosts / seconds["many hosts"], 1),
    )  # fmt: skip


if __name__ == "__main__":
    main()
