"""Hosts compared trial by trial: who differs, in how many trials, and what is no test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import made_up_hosts
import pytest
from made_up_hosts import RUN, names_of

from warehouse.database import agreement, comparisons
from warehouse.database.agreement import Pair, PhaseAgreement
from warehouse.database.statements import column_of
from warehouse.maintenance.hosts import check_hosts
from warehouse.maintenance.verify import Verified
from warehouse.queries import hosts, snapshot, trials
from warehouse.queries.trials import Wanted

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture
def deviating(once: Once, home: Path) -> Path:
    """Three hosts that computed all units; pi-4 answers otherwise in about a quarter of P2 and E1."""

    def make(folder: Path) -> None:
        made_up_hosts.publish(folder, names_of(3), "replicate", "pi-4")

    made = once("three-hosts", make)
    return Path(shutil.copy(made / "snapshot.duckdb", home))


def test_a_host_that_deviates_is_named_with_its_trials(deviating: Path) -> None:
    """Overlapping intervals called this agreement: 53 of 210 trials of E1 had other answers."""
    found = snapshot.agreement(RUN)
    assert agreement.in_words(found) == (
        "pi-4 gives other answers: 43 of 144 shared P2 trials and 53 of 210 shared E1 trials differ. desktop and laptop agree."
    )
    marks = found.of("e1").marks
    assert {h: m.kind for h, m in marks.items()} == {"desktop": "reference", "laptop": "same", "pi-4": "differs"}
    pair = next(p for p in found.pairs if (p.phase, p.host, p.other) == ("e1", "desktop", "pi-4"))
    assert (pair.trials, pair.equal + pair.within_tolerance, pair.differing) == (210, 157, 53)
    assert 0 < pair.low < pair.share == 53 / 210 < pair.high < 1
    # By hand: the variance of the share over 14 problems, against that of 210 independent trials.
    with duckdb.connect(str(deviating), read_only=True) as con:
        each = con.execute(
            "SELECT sum(differing), sum(trials) FROM comparisons JOIN bundles a ON a.sha256 = first_sha256 JOIN bundles b ON "
            "b.sha256 = second_sha256 WHERE starts_with(comparisons.unit_id, 'e1') AND a.host = 'desktop' AND b.host = 'pi-4' "
            "GROUP BY problem_id"
        ).fetchall()
    share = pair.share
    variance = 14 / 13 * sum((d - share * t) ** 2 for d, t in each) / 210**2
    n = min(210, share * (1 - share) / variance)
    middle, half = (share + 1.9208 / n) / (1 + 3.8416 / n), 1.96 * (share * (1 - share) / n + 0.9604 / n**2) ** 0.5
    assert pair.low == pytest.approx(middle - half / (1 + 3.8416 / n))
    assert pair.high == pytest.approx(middle + half / (1 + 3.8416 / n))


def test_the_main_metric_is_compared_by_problem(deviating: Path) -> None:
    """The same problems on both hosts are pairs; P1's ratio of sums is no mean over problems."""
    found = hosts.main_difference(RUN, "e1", "pi-4", "desktop")
    assert found is not None and found.n == 14 and found.low is not None and found.low < found.value < found.high
    metrics = {h: r["value"] for r in snapshot.host_comparison(RUN, "e1") for h in [r["host"]]}
    assert found.value == pytest.approx(
        metrics["pi-4"] - metrics["desktop"], abs=0.35
    )  # means, not medians, of the seeds
    same = hosts.main_difference(RUN, "e1", "laptop", "desktop")
    assert same is not None and (same.value, same.low, same.high) == (0, 0, 0)
    assert hosts.main_difference(RUN, "p1", "pi-4", "desktop") is None


def test_differing_trials_can_be_opened_on_both_hosts(deviating: Path) -> None:
    """A number of differing trials without the trials cannot be looked into."""
    rows = hosts.differing(RUN, "e1", "pi-4", "desktop", most=500)
    assert sum(r["differing"] for r in rows) == 53
    one, two = (trials.trial(rows[0][k], rows[0]["ordinal"]) for k in ("sha256", "other_sha256"))
    assert one and two and (one["host"], two["host"]) == ("pi-4", "desktop")
    assert (one["problem_id"], one["condition"], one["seed"]) == (two["problem_id"], two["condition"], two["seed"])
    assert one["details"]["guesses"] != two["details"]["guesses"]


def test_counts_and_trials_know_repeats(deviating: Path) -> None:
    """After replicate, only the host that was first had work, trials and a place on the cards."""
    work = {w["host"]: w for w in hosts.work(RUN)}
    assert {h: w["units"] for h, w in work.items()} == {"desktop": 36, "laptop": 36, "pi-4": 24}
    assert work["pi-4"]["counted"] == 0
    assert snapshot.phase_hosts(RUN)["e1"] == ["desktop", "laptop", "pi-4"]
    page = trials.page(Wanted(RUN, "e1", host="pi-4"), 0, 1000)
    assert page.total == 210 and {r["host"] for r in page.rows} == {"pi-4"}
    assert trials.page(Wanted(RUN, "e1"), 0, 1000).total == 210
    assert [v["differs"] for v in snapshot.chain(RUN) if v["phase"] in ("e0", "e1")] == [
        "",
        "pi-4 gives other answers in 53 of 210 shared trials",
    ]


def test_hosts_with_other_problems_are_not_compared(home: Path) -> None:
    """In mode split numbers of two hosts differ because their problems do."""
    made_up_hosts.publish(home, names_of(3), "split")
    found = snapshot.agreement(RUN)
    assert not found.pairs
    assert (
        agreement.in_words(found)
        == "desktop, laptop and pi-4 shared the work; they had different problems: not a test."
    )
    assert sum(w.units for w in found.work if w.phase == "e1") == 6


def test_verification_names_hosts_and_finds_a_changed_comparison(deviating: Path) -> None:
    """A row that was changed to "equal" would hide a host that deviates."""
    with duckdb.connect(str(deviating)) as con:
        clean = Verified()
        check_hosts(con, clean, deep=True)
        assert not clean.faults
        assert [f.what for f in clean.notes] == [
            f"{RUN} p2: pi-4 gives other answers in 43 of 144 shared trials",
            f"{RUN} e1: pi-4 gives other answers in 53 of 210 shared trials",
        ]
        con.execute("UPDATE comparisons SET equal = equal + differing, differing = 0")
        changed = Verified()
        check_hosts(con, changed, "e1", deep=True)
        assert len(changed.faults) == 12  # two pairs with pi-4 of each of six units


def test_a_bundle_taken_out_takes_its_comparisons_along(deviating: Path) -> None:
    """Comparisons with a result that is not there any more would go on accusing its host."""
    with duckdb.connect(str(deviating)) as con:
        before = con.execute("SELECT count(*) FROM comparisons").fetchone()
        sha = column_of(con, "SELECT sha256 FROM bundles WHERE host = 'pi-4' AND unit_id = 'e1-0'")[0]
        comparisons.forget(con, sha)
        assert con.execute(
            "SELECT count(*) FROM comparisons WHERE ? IN (first_sha256, second_sha256)", [sha]
        ).fetchone() == (0,)
        assert comparisons.refresh(con) == 1  # its bundle is still there, so it is compared again
        assert con.execute("SELECT count(*) FROM comparisons").fetchone() == before


def pair(host: str, other: str, differing: int, trials: int = 10) -> Pair:
    share = differing / trials
    return Pair("e1", host, other, 1, 5, trials, trials - differing, 0, 0, differing, share, 0, 1)


def judged(*pairs: Pair, order: str = "abcdef") -> PhaseAgreement:
    return agreement.judged("e1", pairs, [], list(order))


def test_the_larger_group_of_hosts_that_agree_is_the_reference() -> None:
    """Of three machines the odd one out is named, also where its results came first; of two, neither is."""
    odd = judged(pair("a", "b", 4), pair("a", "c", 3), pair("b", "c", 0))
    assert {h: m.kind for h, m in odd.marks.items()} == {"a": "differs", "b": "reference", "c": "same"}
    assert agreement.of_phase(odd) == "a gives other answers in 4 of 10 shared trials"
    two = judged(pair("a", "b", 4))
    assert not two.clear
    assert agreement.of_phase(two) == "a and b differ in 4 of 10 shared trials"


def test_many_hosts_that_were_compared_with_a_few_only_are_one_group() -> None:
    """Each result is compared with the first four, so most pairs of fifty hosts share nothing."""
    chain = judged(*(pair(x, y, 0) for x, y in zip("abcde", "bcdef", strict=True)))
    assert {h: m.kind for h, m in chain.marks.items()} == {"a": "reference", **dict.fromkeys("bcdef", "same")}
