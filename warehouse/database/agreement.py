"""The agreement of hosts that computed the same units, and the share of work of each host.

Hosts are compared trial by trial (the view `host_agreement`). Where each unit ran once, hosts had different problems: then
their numbers may differ for that reason, and nothing is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from duckdb import DuckDBPyConnection as Connection

from experiments.registry import PHASES
from experiments.statistics import Interval, bootstrap_mean
from warehouse.database.statements import rows_of

NOT_A_TEST = "different problems: not a test"
MOST_NAMED = 3  # hosts in a sentence
SEED = 42  # of the bootstrap
Rows = Callable[[str, Any], list[dict[str, Any]]]  # runs a query, with its values
_PAIRS = "SELECT * FROM host_agreement WHERE run_id = ? ORDER BY list_position(?, phase), host, other"
_WORK = """
SELECT phase, host, units, counted, (SELECT count(*) FROM units u WHERE u.run_id = p.run_id AND u.phase = p.phase) AS asked
FROM phase_hosts p WHERE run_id = ? ORDER BY list_position(?, phase), host
"""
# Of each host and problem: the first result's attempts under a condition less those under another one, or a relevance.
_MAIN = """
WITH mine AS (
  SELECT b.host, arg_min(s.number, b.replicate) AS number FROM units u JOIN bundles b USING (unit_id)
  JOIN bundle_numbers s USING (sha256) WHERE u.run_id = $run AND u.phase = $phase AND b.host IN ($host, $other)
  GROUP BY b.host, u.unit_id
),
each AS (
  SELECT host, problem_id, avg(p.attempts) FILTER (condition = $first) - avg(p.attempts) FILTER (condition = $second)
                           AS difference, avg(p.relevance) FILTER (condition = $whole) AS relevance
  FROM mine JOIN problem_results p USING (number) WHERE condition IN ($first, $second, $whole) GROUP BY ALL
)
SELECT a.problem_id, coalesce(a.difference - b.difference, a.relevance - b.relevance) AS apart
FROM each a JOIN each b USING (problem_id) WHERE a.host = $host AND b.host = $other AND apart IS NOT NULL
ORDER BY ALL
"""


@dataclass(frozen=True)
class Pair:
    """Two hosts that computed the same units of a phase; `host` and `other` are the same for repeats on one host.

    Attributes:
        trials: equal + within_tolerance + near_ties + differing.
        share: of trials that differ, with its 95 % interval `low` to `high`.
    """

    phase: str
    host: str
    other: str
    units: int
    problems: int
    trials: int
    equal: int
    within_tolerance: int
    near_ties: int
    differing: int
    share: float
    low: float
    high: float


class Work(NamedTuple):
    """Units of a phase that a host computed, those whose result counts, and all that the phase asked for."""

    phase: str
    host: str
    units: int
    counted: int
    asked: int


class Mark(NamedTuple):
    """What the comparison says of a host in a phase.

    "reference": the others are compared with it; "apart": it computed units that no other host did.
    """

    kind: Literal["reference", "same", "differs", "apart"]
    differing: int = 0
    trials: int = 0
    against: str = ""


@dataclass(frozen=True)
class PhaseAgreement:
    """A phase's hosts.

    Attributes:
        marks: by host.
        clear: more hosts agree with the reference than with anything else, so that the others are those that deviate.
    """

    phase: str
    marks: Mapping[str, Mark]
    clear: bool

    @property
    def deviating(self) -> dict[str, Mark]:
        """Return the marks of the hosts that differ."""
        return {host: mark for host, mark in self.marks.items() if mark.kind == "differs"}


@dataclass(frozen=True)
class RunAgreement:
    """All hosts of a run: pairs that were compared, work, and what follows for each phase."""

    pairs: Sequence[Pair]
    work: Sequence[Work]
    phases: Mapping[str, PhaseAgreement]

    @property
    def hosts(self) -> list[str]:
        """Return the hosts that computed something, by name."""
        return sorted({w.host for w in self.work})

    @property
    def compared(self) -> list[Pair]:
        """Return the pairs of two hosts."""
        return [p for p in self.pairs if p.host != p.other]

    def of(self, phase: str) -> PhaseAgreement:
        """Return a phase's hosts, which may be none."""
        return self.phases.get(phase, PhaseAgreement(phase, {}, True))


def agreement_of(con: Connection, run_id: str) -> RunAgreement:
    """Return how far the hosts of a run agree."""
    return read_agreement(lambda sql, values: rows_of(con, sql, values), run_id)


def read_agreement(rows: Rows, run_id: str) -> RunAgreement:
    """Return how far the hosts of a run agree; `rows` runs a query."""
    values = [run_id, list(PHASES)]
    pairs = [Pair(**{k: v for k, v in row.items() if k != "run_id"}) for row in rows(_PAIRS, values)]
    work = [Work(**row) for row in rows(_WORK, values)]
    done: dict[str, int] = {}
    for one in work:
        done[one.host] = done.get(one.host, 0) + one.units
    order = sorted(done, key=lambda host: (-done[host], host))
    names = dict.fromkeys(w.phase for w in work)
    return RunAgreement(pairs, work, {name: judged(name, pairs, work, order) for name in names})


def judged(phase: str, pairs: Sequence[Pair], work: Sequence[Work], order: Sequence[str]) -> PhaseAgreement:
    """Return the marks of a phase's hosts; the largest group of hosts that agree has the reference."""
    own = [p for p in pairs if p.phase == phase and p.host != p.other]
    marks = {w.host: Mark("apart") for w in work if w.phase == phase}
    if not own:
        return PhaseAgreement(phase, marks, True)
    groups = _groups(own, order)
    reference = groups[0][0]
    for host in (h for group in groups for h in group):
        if host == reference:
            marks[host] = Mark("reference")
            continue
        mine = [p for p in own if host in (p.host, p.other)]

        def rank(pair: Pair, host: str = host) -> tuple[bool, bool, int]:
            other = pair.other if pair.host == host else pair.host
            return other == reference, other in groups[0], pair.trials

        best = max(mine, key=rank)
        against = best.other if best.host == host else best.host
        kind: Literal["same", "differs"] = "same" if host in groups[0] else "differs"
        marks[host] = Mark(kind, best.differing, best.trials, against)
    return PhaseAgreement(phase, marks, len(groups) == 1 or len(groups[0]) > len(groups[1]))


def _groups(pairs: Sequence[Pair], order: Sequence[str]) -> list[list[str]]:
    """Return groups of hosts that agree with each other, the largest first, each in `order`."""
    group = {host: {host} for p in pairs for host in (p.host, p.other)}
    for p in pairs:
        if not p.differing and group[p.host] is not group[p.other]:
            group[p.host] |= group[p.other]
            for host in group[p.other]:
                group[host] = group[p.host]
    distinct = list({id(g): g for g in group.values()}.values())
    placed = [sorted(g, key=order.index) for g in distinct]
    return sorted(placed, key=lambda g: (-len(g), order.index(g[0])))


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return "a, b and c", or "a, b, c and 4 others"."""
    shown = list(names) if len(names) <= most + 1 else [*names[:most], f"{len(names) - most} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def of_phase(found: PhaseAgreement) -> str:
    """Return which hosts of a phase differ, "" where none does: "pi-4 gives other answers in 53 of 210 shared trials"."""
    if not found.deviating:
        return ""
    if found.clear:
        parts = [
            f"{host} gives other answers in {m.differing:,} of {m.trials:,}" for host, m in found.deviating.items()
        ]
    else:
        parts = [f"{m.against} and {h} differ in {m.differing:,} of {m.trials:,}" for h, m in found.deviating.items()]
    return f"{listed(parts)} shared trials"


def in_words(found: RunAgreement) -> str:
    """Return in one or two sentences whether the hosts of a run agree."""
    if not found.hosts:
        return "No host has worked on this run yet."
    if len(found.hosts) == 1:
        return _alone(found)
    if not found.compared:
        return f"{listed(found.hosts)} shared the work; they had {NOT_A_TEST}."
    compared = {h for p in found.compared for h in (p.host, p.other)}
    apart = [h for h in found.hosts if h not in compared]
    rest = f" {listed(apart)} had other problems than these." if apart else ""
    phases = [p for p in found.phases.values() if p.deviating]
    if not phases:
        trials = sum(p.trials for p in found.compared)
        return f"{listed(sorted(compared))} give the same answers in all {trials:,} trials compared.{rest}"
    return (_deviating(phases, compared) if all(p.clear for p in phases) else _unclear(phases)) + rest


def _alone(found: RunAgreement) -> str:
    trials, differing = (sum(getattr(p, name) for p in found.pairs) for name in ("trials", "differing"))
    if not trials:
        return f"Everything ran on {found.hosts[0]}, so there is nothing to compare."
    same = f"{differing:,} of {trials:,} differ" if differing else f"all {trials:,} are the same"
    return f"Everything ran on {found.hosts[0]}; of the trials that it repeated, {same}."


def _unclear(phases: Sequence[PhaseAgreement]) -> str:
    parts = [f"{_trials(next(iter(p.deviating.values())))} {p.phase.upper()}" for p in phases]
    hosts = sorted({h for p in phases for h in (*p.deviating, *(m.against for m in p.deviating.values()))})
    return f"{listed(hosts)} differ: {listed(parts)} trials. Which of them is right, this does not say."


def _deviating(phases: Sequence[PhaseAgreement], compared: Collection[str]) -> str:
    hosts = list(dict.fromkeys(h for p in phases for h in p.deviating))
    sentences = []
    for host in hosts[:MOST_NAMED]:
        own = [f"{_trials(p.deviating[host])} shared {p.phase.upper()} trials" for p in phases if host in p.deviating]
        sentences.append(f"{host} gives other answers: {listed(own, len(PHASES))} differ.")
    if len(hosts) > MOST_NAMED:
        sentences.append(f"So do {len(hosts) - MOST_NAMED} other hosts.")
    agreeing = sorted(set(compared) - set(hosts))
    if len(agreeing) > 1:
        who = listed(agreeing) if len(agreeing) <= MOST_NAMED else f"The other {len(agreeing)}"
        sentences.append(f"{who} agree.")
    return " ".join(sentences)


def _trials(mark: Mark) -> str:
    return f"{mark.differing:,} of {mark.trials:,}"


def main_difference(rows: Rows, run_id: str, phase: str, host: str, other: str) -> Interval | None:
    """Return the phase's main metric on `host` less that on `other`, over problems that both solved, with a bootstrap.

    None where the main metric is no mean over problems, such as P1's ratio of similarities.
    """
    found = rows("SELECT main_condition FROM verdicts WHERE run_id = ? AND phase = ?", [run_id, phase])
    if not found:
        return None
    whole = found[0]["main_condition"]
    first, _, second = whole.partition(" - ")
    named = {
        "run": run_id,
        "phase": phase,
        "host": host,
        "other": other,
        "first": first,
        "second": second,
        "whole": whole,
    }
    each = [row["apart"] for row in rows(_MAIN, named)]
    return bootstrap_mean(each, SEED) if each else None
