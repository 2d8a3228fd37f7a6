"""The agreement of a run's hosts, and the work of each: `lab results --hosts`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from common.text import number, printable, with_interval
from experiments.statistics import Interval
from lab.tables import print_table
from warehouse.database.agreement import NOT_A_TEST, Pair, RunAgreement, agreement_of, in_words, main_difference
from warehouse.database.connection import reading
from warehouse.database.statements import rows_of
from warehouse.paths import Paths

PAIR = ("trials", "equal", "within tolerance", "near ties", "differ")


def show(run_id: str, as_json: bool) -> None:
    """Print how far the hosts of a run agree, by phase and pair, and each host's share of the units."""
    with reading(Paths.local()) as con:
        found = agreement_of(con, run_id)
        # Repeats in another process of one host are no comparison of hosts, but belong to the answer.
        apart = [main_difference(lambda sql, values: rows_of(con, sql, values), run_id, p.phase, p.host, p.other)
                 if p.host != p.other else None for p in found.pairs]  # fmt: skip
    if as_json:
        pairs = [asdict(p) | {"main_metric": m and asdict(m)} for p, m in zip(found.pairs, apart, strict=True)]
        work = [w._asdict() for w in found.work]
        print(json.dumps({"run_id": run_id, "hosts": in_words(found), "pairs": pairs, "work": work}, indent=1))
        return
    print(printable(in_words(found)))
    if found.pairs:
        _pairs(found.pairs, apart)
    if len(found.hosts) > 1:
        _work(found)


def _pairs(pairs: Sequence[Pair], apart: Sequence[Interval | None]) -> None:
    rows = []
    for p, main in zip(pairs, apart, strict=True):
        other = "another process there" if p.other == p.host else p.other
        counts = (p.trials, p.equal, p.within_tolerance, p.near_ties, p.differing)
        share = with_interval(100 * p.share, 100 * p.low, 100 * p.high)
        difference = "" if main is None else with_interval(main.value, main.low, main.high)
        rows.append((p.phase.upper(), p.host, other, *(f"{n:,}" for n in counts), share, difference))
    columns = ("phase", "host", "other", *PAIR, "differ, %", "main metric, host - other")
    print_table("the same trials on two hosts", columns, rows, right=PAIR)


def _work(found: RunAgreement) -> None:
    compared = {p.phase for p in found.compared}
    rows = []
    for w in found.work:
        share = f"{number(100 * w.units / w.asked)} %" if w.asked else ""
        basis = "the same trials" if w.phase in compared else NOT_A_TEST
        rows.append((w.phase.upper(), w.host, f"{w.units:,} of {w.asked:,}", share, f"{w.counted:,}", basis))
    columns = ("phase", "host", "units", "share", "of which count", "basis")
    print_table("who did what", columns, rows, right=("units", "share", "of which count"))
