"""Does a bundle cost the collector more when it comes from one of a thousand machines than from a single one?

    python -m benchmarks.thousand_hosts --hosts 1000 --trials 20

    {"benchmark": "thousand_hosts", "ratio": 0.49, "needed": null, "seconds": {"one host": 1.824, "many hosts": 3.696},
     "counts": {"hosts": 1000, "bundles": 1000, "trials": 20000}, "compared": "number of bundles and hosts",
     "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 0.8, "torch": "2.13.0+cpu"},
     "bundles_per_s": {"one host": 548.2, "many hosts": 270.6},
     "many_hosts": {"idle_collection_s": 0.042, "registered_s": 0.038}}

Both sides take as many bundles as there are hosts: one bundle and one capability report from each of them, or all bundles
and one report from one. It is a simulation of what reaches the coordinator, with real files and a real warehouse; the hosts
themselves compute nothing. Bundles a second are in the numbers at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import Clock, show
from experiments.contract import Trial, Unit
from flows.reports import registered
from warehouse.database.connection import writing
from warehouse.database.records import save_units
from warehouse.delivery.bundles import write_bundle
from warehouse.delivery.results_store import Store
from warehouse.ingest.collector import collect
from warehouse.paths import Paths
from workpools.assess import assess

NAME = "thousand_hosts"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDENTITY = {"code": "c", "data": "d", "models": {}}


def deliver(folder: Path, bundles: int, trials: int, hosts: int) -> tuple[Paths, Store]:
    """A coordinator whose inbox holds the bundles of so many hosts."""
    paths = Paths(folder)
    store = Store(paths.home / "results", paths.spool, paths.bundles)
    units = [
        Unit(hashlib.sha256(str(i).encode()).hexdigest()[:32], "p1", 1, {}, {}, IDENTITY, n_trials=trials)
        for i in range(bundles)
    ]
    with writing(paths) as con:
        save_units(con, "bench", "p1", units)
    for i, unit in enumerate(units):
        rows = [
            Trial(f"problem-{j}", "semantic", seed=100, attempts=1, solved=True, details={"j": j})
            for j in range(trials)
        ]
        write_bundle(
            store.inbox,
            unit,
            rows,
            host=f"host-{i % hosts}",
            attempt=1,
            started_at=NOW,
            finished_at=NOW,
            provenance={"identity": IDENTITY},
        )
    own = assess(quick=True)
    for i in range(hosts):
        report = own.model_copy(update={"host": f"host-{i}"})
        store.put_report(report.host, report.model_dump_json().encode())
    return paths, store


def taken(folder: Path, bundles: int, trials: int, hosts: int, clock: Clock, side: str) -> dict[str, float]:
    """Collect it all; seconds of what is asked again and again: a collection of nothing new, and who is registered.

    Raises:
        ValueError: something was refused.
    """
    paths, store = deliver(folder, bundles, trials, hosts)
    with writing(paths) as con:
        with clock.side(side):
            found = collect(paths, store, con)
            con.execute("CHECKPOINT")
        (known,) = con.execute("SELECT count(*) FROM hosts").fetchone() or (0,)
        again = Clock()
        with again.side("idle_collection_s"):
            collect(paths, store, con)
        with again.side("registered_s"):
            reports, _ = registered(store)
    if found.ingested != bundles or not known == hosts == len(reports) or found.quarantined:
        raise ValueError(f"{found.ingested} of {bundles} bundles, {known} of {hosts} hosts: {found.quarantined[:1]}")
    return {k: round(v, 3) for k, v in again.seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000, help="machines, each with one bundle")
    parser.add_argument("--trials", type=int, default=20, help="rows of each bundle")
    given = parser.parse_args(arguments)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="bench-hosts-") as name:
        taken(Path(name) / "one", given.hosts, given.trials, 1, clock, "one host")
        asked = taken(Path(name) / "many", given.hosts, given.trials, given.hosts, clock, "many hosts")
    seconds = clock.seconds
    show(
        NAME,
        seconds["one host"] / seconds["many hosts"],
        None,
        seconds,
        {"hosts": given.hosts, "bundles": given.hosts, "trials": given.hosts * given.trials},
        "number of bundles and hosts",
        bundles_per_s={side: round(given.hosts / s, 1) for side, s in seconds.items()},
        many_hosts=asked,
    )


if __name__ == "__main__":
    main()
