"""The leakage gate: pairs by hand, nothing runs on leaking data, and what was allowed is marked wherever it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import earlier
from numpy.typing import NDArray

from app.components.cards import card
from common.errors import LabError
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.protocols import Reading
from experiments.contract import Metric, Metrics, Result, Trial, Unit
from experiments.data import split, universe
from experiments.domains import Problem, get_domain
from experiments.domains.leakage import inspect, names_answer, refuse
from experiments.domains.scripts import first_of, normal_text
from experiments.findings import Earlier
from experiments.protocol import leakage_gate
from experiments.registry import PHASES, configure, get_phase
from flows.local import run_local
from flows.plan import plan
from warehouse.database.connection import writing
from warehouse.database.records import verdict_of
from warehouse.paths import Paths

BIG_O = get_domain("big_o")
CLEAN = universe(configure("p2", "smoke", {"n_problems": 24})).problems
WHY = "a look at how much it matters"


def twin(p: Problem, name: str, text: str | None = None) -> Problem:
    return replace(p, problem_id=name, text=p.text if text is None else text)


def test_pairs_across_two_sides_by_hand() -> None:
    """Every pair is counted once, equal texts apart from texts that are equal only once normalised."""
    a, b, c, d = CLEAN[:4]
    noted = twin(b, "noted", f"# a note\n{b.text}")
    found = inspect(BIG_O, [a, b, twin(a, "again")], [c, d, twin(a, "same"), noted, b])
    assert found.exact == ((a.problem_id, "same"), ("again", "same"), (b.problem_id, b.problem_id))
    assert found.normalised == ((b.problem_id, "noted"),)
    assert (found.named, found.pairs, found.texts, found.none) == ((), 15, 8, False)
    assert inspect(BIG_O, [a, b], [c, d]).none


def test_pairs_within_one_set_by_hand() -> None:
    """P1 has no two sides: any two equal problems count, once, and none is its own twin."""
    a, b, c = CLEAN[:3]
    found = inspect(BIG_O, [a, b, twin(a, "same"), c, twin(a, "third")], None)
    assert found.exact == ((a.problem_id, "same"), (a.problem_id, "third"), ("same", "third"))
    assert found.pairs == 10
    assert inspect(BIG_O, [a, b, c], None).none
    with pytest.raises(LabError, match=f"3 pairs are equal .{a.problem_id} = same"):
        refuse(found, sides=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(n):  # O(n log n)\n", "O(n log n)"),
        ("runs in o(n)", "o(n)"),
        ("def linear_search(xs):", "linear"),
        ("QUADRATIC", "QUADRATIC"),
        ("foo(n) + o(n_1)", ""),
        ("bilinear, linearly, Constantine", ""),
    ],
)
def test_what_names_an_answer(text: str, said: str) -> None:
    """A name tells as much as a comment, so _ ends a word; a word that merely holds a class does not tell."""
    assert names_answer(BIG_O, text) == said


def test_labels_of_any_kind_are_looked_for_as_words() -> None:
    """The user's labels may hold marks, stand in one another, or be empty of letters."""
    assert first_of(("C++", "C"), "written in C++ today") == "C++"
    assert first_of(("C",), "written in C++ today") == "C"
    assert first_of(("not good", "good"), "Not good") == "Not good"
    assert first_of(("5",), "rated 5/5") == "5"
    assert first_of(("5",), "rated 15") == ""
    assert first_of(("schön",), "unschön, schöner") == ""
    assert first_of((), "anything") == ""


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("domain", ["big_o", "equations"])
def test_our_own_domains_do_not_leak(phase: str, domain: str) -> None:
    """Every phase says what its test rests on, and there the generated problems are clean."""
    config = configure(phase, "smoke", {"domain": domain})
    memory, test = split(configure("e1", "smoke", {"domain": domain}), 12, 4)
    memos = [[p.problem_id, p.label, i] for i, p in enumerate(memory)]
    e1 = {"hypothesis": "weak_signal", "best": "semantic", "memos": memos, "test": [p.problem_id for p in test]}
    held, asked = get_phase(phase).sides(config, earlier(e1))
    found = inspect(get_domain(domain), held, asked)
    assert found.none and found.pairs > 0
    assert asked is not None


def leaking(path: Path, name: str = "leaking.jsonl") -> str:
    """A file whose lines 1 and 25 are equal, 2 and 26 but for case; line 27 names a label."""
    words = ("red", "blue", "tall", "small", "round", "flat", "cold", "warm")
    rows = [
        {"id": f"r{i}", "text": f"A {words[i % 8]} thing, number {i}.", "label": ("yes", "nay")[i % 2]}
        for i in range(24)
    ]
    rows += [{**rows[0], "id": "twin"}, {**rows[1], "id": "shout", "text": rows[1]["text"].upper()}]
    rows += [
        {"id": "told", "text": "The answer is yes here", "label": "yes"},
        {"id": "quiet", "text": "None", "label": "nay"},
    ]
    (path / name).write_text("\n".join(json.dumps(r) for r in rows))
    return f"jsonl:{path / name}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return tmp_path


def test_nothing_is_planned_on_leaking_data(home: Path) -> None:
    """The refusal names the first pairs and the way on, before a model is loaded; split refuses as well."""
    given = {"domain": leaking(home), "n_problems": 28, "n_memory": 16, "n_queries": 8}
    config = configure("p1", "smoke", given)
    with pytest.raises(LabError) as caught:
        leakage_gate.next_units("p1", config, Earlier(), [])
    assert str(caught.value).startswith("1 test problems are also in memory (r0 = twin)")
    assert '--allow-leakage "why"' in str(caught.value)
    del given["n_memory"], given["n_queries"]
    with pytest.raises(LabError, match=r"test problems are also in memory|name an answer"):
        split(configure("p2", "smoke", {**given, "data_seed": 1}), 16, 8)
    memory, test = split(configure("p2", "smoke", {**given, "data_seed": 1, "allow_leakage": WHY}), 16, 8)
    assert (len(memory), len(test)) == (16, 8)


class FakeEmbedder:
    """Vectors by the number in a text: the first two nearly alike, the others far apart."""

    name = "fake"

    def reads(self, texts: Sequence[str]) -> list[Reading]:
        return []

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], list[float]]:
        rows = []
        for text in texts:
            vector = np.zeros(40)
            digits = "".join(c for c in text if c.isdigit())
            number = int(digits) if digits else 36 + len(text) % 4
            vector[0 if number < 2 else number] = 1.0
            vector[1] = 0.1 * number if number < 2 else 0.0
            rows.append(vector / np.linalg.norm(vector))
        return np.stack(rows), [0.0] * len(texts)


def search(config: Any, **spec: Any) -> Trial:
    backends = Backends(no_files)
    backends.embedders[leakage_gate.EMBEDDER] = FakeEmbedder()
    unit = Unit("0" * 32, "p1", 1, {}, {"role": "leakage", **spec}, {})
    (trial,) = leakage_gate.run(unit, config, backends)
    return trial


def test_near_pairs_are_counted_and_equal_ones_are_not(home: Path) -> None:
    """cos of (1, 0) and (1, 0.1) is 0.995: one near pair; equal texts are counted by reading and not again here."""
    config = configure("p1", "smoke", {"domain": leaking(home), "n_problems": 28})
    ids = [p.problem_id for p in universe(config).problems]
    within = search(config, memory=ids, test=None)
    wanted = 1 / (1 + 0.1**2) ** 0.5
    # r0 and its twin are each near r1 and its copy.
    assert within.details["near"] == 4 and within.details["compared"] == 28 * 27 // 2
    assert [p[2] for p in within.details["pairs"]] == pytest.approx([wanted] * 4)
    across = search(config, memory=["r0", "r2"], test=["r1", "r3", "twin"])
    assert across.details == {"near": 1, "pairs": [["r0", "r1", pytest.approx(wanted)]], "compared": 6}
    strict = config.model_copy(update={"near_similarity": 0.999})
    assert search(strict, memory=["r0", "r2"], test=["r1"]).details["near"] == 0


def test_near_pairs_are_refused_where_that_is_asked_for(home: Path) -> None:
    """Then the search comes first and alone, and the phase only after it found nothing."""
    given = {"near_duplicates": "refuse", "embedders": ("all-MiniLM-L6-v2",)}
    config = configure("p1", "smoke", given)
    (unit,) = leakage_gate.next_units("p1", config, Earlier(), [])
    assert (
        unit.spec["role"] == "leakage"
        and len(unit.spec["memory"]) == len(unit.spec["test"]) == 12
        and unit.n_trials == 1
    )
    clean = Trial("leakage", "leakage", details={"near": 0, "pairs": [], "compared": 144})
    own = get_phase("p1").units(config, Earlier(), [])
    assert leakage_gate.next_units("p1", config, Earlier(), [Result(unit, [clean])]) == own
    near = replace(clean, details={"near": 1, "pairs": [["a", "b", 0.99]], "compared": 144})
    with pytest.raises(LabError, match=r"1 pairs are nearly alike, similarity 0.98 or more \(a ~ b 0.990\)"):
        leakage_gate.next_units("p1", config, Earlier(), [Result(unit, [near])])
    with pytest.raises(LabError, match="could not be looked for: no embedder"):
        leakage_gate.next_units(
            "p1", config, Earlier(), [Result(unit, [Trial("leakage", "leakage", error="no embedder")])]
        )
    allowed = configure("p1", "smoke", {**given, "allow_leakage": WHY})
    assert leakage_gate.next_units("p1", allowed, Earlier(), [Result(unit, [near])])


def test_the_search_stands_beside_the_first_units_only() -> None:
    """Reported only, it must not hold up the phase, and a later round must neither see it nor ask for it again."""
    config = configure("p1", "smoke")
    own = get_phase("p1").units(config, Earlier(), [])
    first = leakage_gate.next_units("p1", config, Earlier(), [])
    assert [u.spec.get("role") for u in first] == ["leakage", *(None for _ in own)] and first[1:] == own
    assert leakage_gate.next_units("p1", config, Earlier(), [Result(u, []) for u in first]) == []
    assert len({u.unit_id for u in first}) == len(first)


def test_clean_data_leave_counts_and_no_mark() -> None:
    """The counts reach the warehouse as metrics of the phase; a search that failed is undefined, not zero."""
    config = configure("p1", "smoke", {"allow_leakage": WHY})
    metrics = leakage_gate.measured("p1", config, Earlier(), [Trial("leakage", "leakage", error="no embedder here")])
    rows = {m.metric: m for m in metrics.values if m.metric.startswith("leak_")}
    assert {k: m.value for k, m in rows.items()} == {
        "leak_exact_pairs": 0.0,
        "leak_normalised_pairs": 0.0,
        "leak_named": 0.0,
        "leak_near_pairs": None,
    }
    assert (rows["leak_exact_pairs"].n, rows["leak_named"].n, rows["leak_near_pairs"].failed) == (144, 24, 1)
    assert not any(m.method.startswith(leakage_gate.MARK) for m in metrics.values)
    assert not leakage_gate.decided("p1", config, metrics).reason.startswith(leakage_gate.MARK)


def test_an_allowed_leak_marks_every_number_on_its_way(home: Path) -> None:
    """A real run of P1 on leaking data: plan, units, warehouse and card; who reads any of its numbers sees the mark."""
    given = {
        "p1": {
            "domain": leaking(home),
            "n_problems": 28,
            "n_memory": 16,
            "n_queries": 8,
            "embedders": ["all-MiniLM-L6-v2"],
        }
    }
    paths = Paths.local()
    with pytest.raises(LabError, match="also in memory"):
        run_local(paths, plan("smoke", given), "p1", lambda *_: None)
    given["p1"]["allow_leakage"] = WHY
    seen: list[str] = []
    verdict = run_local(
        paths, plan("smoke", given), "p1", lambda done, total, unit: seen.append(unit.spec.get("role", "own"))
    )
    assert seen == ["leakage", "own"]
    assert verdict.reason.startswith(f"LEAKY DATA, allowed: {WHY}. ")
    assert verdict.main.method.startswith("LEAKY DATA; ")
    with writing(paths) as con:
        run_id = con.execute("SELECT run_id FROM verdicts").fetchone()[0]  # type: ignore[index]
        rows = con.execute("SELECT metric, value, n, method FROM phase_metrics WHERE run_id = ?", [run_id]).fetchall()
        assert verdict_of(con, run_id, "p1") == verdict
    assert len(rows) > 10 and all(method.startswith("LEAKY DATA") for *_, method in rows)
    found = {metric: (value, n) for metric, value, n, _ in rows if metric.startswith("leak_")}
    assert found["leak_exact_pairs"] == (1.0, 128), "r0 and its twin; the other pair is on one side"
    assert found["leak_normalised_pairs"] == (0.0, 128)
    assert found["leak_named"] == (1.0, 24)
    assert found["leak_near_pairs"][0] >= 0
    told = next(method for metric, *_, method in rows if metric == "leak_exact_pairs")
    assert "twin" in told and "r0" in told
    shown = {
        "status": "FAIL",
        "reason": verdict.reason,
        "main_metric": "similarity_ratio",
        "main_condition": "",
        "value": 1.0,
        "low": None,
        "high": None,
        "threshold": 1.2,
        "trials": 28,
        "failed": 0,
        "hosts": ["pi"],
        "actual_s": None,
        "overridden_by": None,
        "why": None,
        "leaky": True,
    }
    assert "leaky data" in card("p1", shown, None)
    assert "leaky data" not in card("p1", {**shown, "leaky": False}, None)


def test_a_mark_keeps_the_number_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marking must change no value, interval, n or condition, or the gate would decide on something else."""
    config = configure(
        "p1", "smoke", {"domain": leaking(home), "n_problems": 28, "n_memory": 16, "n_queries": 8, "allow_leakage": WHY}
    )
    plain = Metrics((Metric("similarity_ratio", 1.5, 1.25, 1.75, 9, 1, "hybrid", "bootstrap", True),), {"front": [1]})
    monkeypatch.setattr(get_phase("p1"), "metrics", lambda trials, config: plain)
    marked = leakage_gate.measured("p1", config, Earlier(), [])
    assert marked.values[0] == replace(plain.values[0], method="LEAKY DATA; bootstrap")
    assert marked.facts == {"front": [1], "leaky": True}


def test_what_the_plan_does_not_name_is_marked_exploratory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that nobody announced must not look like one that was; the announcement is part of the plan."""
    config = configure("p1", "smoke")
    found = Metrics((Metric("similarity_ratio", 1.5, method="bootstrap"), Metric("afterthought", 2.0)), {})
    monkeypatch.setattr(get_phase("p1"), "metrics", lambda trials, config: found)
    rows = {m.metric: m for m in leakage_gate.measured("p1", config, Earlier(), []).values}
    assert rows["similarity_ratio"] == found.values[0]
    assert rows["afterthought"] == replace(found.values[1], method="exploratory")
    assert not any(m.method.startswith("exploratory") for name, m in rows.items() if name.startswith("leak_"))
    before = plan("smoke")
    analyses = before.content["analyses"]["p1"]
    assert "afterthought" not in analyses and "similarity_ratio" in analyses
    monkeypatch.setattr(get_phase("p1"), "PLANNED", (*get_phase("p1").PLANNED, "afterthought"))
    rows = {m.metric: m for m in leakage_gate.measured("p1", config, Earlier(), []).values}
    assert rows["afterthought"] == found.values[1]
    assert plan("smoke").run.plan_id != before.run.plan_id


@pytest.mark.parametrize(
    ("label", "text", "found"),
    [
        ("手机", "这个手机第100天就坏了", True),
        ("酒店", "这家酒店离车站103米", True),
        ("手机", "屏幕很清楚", False),
        ("บวก", "ข้อความบวกมากวันที่ 100", True),
        ("ลบ", "ความเห็นลบครั้งที่ 103", True),
        ("ลบ", "ลบ\u0e31", False),  # with a vowel sign it is another syllable
        ("ネガ", "ネガティブ", True),
        ("배터리", "배터리가 죽었다", True),
        ("iPhone", "这个iPhone很好", True),
        ("कर", "यह कर है", True),
        ("कर", "करा हुआ", False),  # a vowel sign makes it another word
        ("caf\u00e9", "the cafe\u0301 was full", True),
        ("good", "go\u200bod\u00ad", True),
        ("good", "ＧＯＯＤ value", True),
        ("very good", "very\n  good", True),
        ("café", "cafés", False),
    ],
)
def test_labels_are_found_in_every_script(label: str, text: str, found: bool) -> None:
    """Without spaces between words all labels passed: 180 of 14,537 texts of a public file were found."""
    assert bool(first_of((label,), text)) is found


def test_marks_at_the_end_belong_to_a_text() -> None:
    """A vowel sign is no punctuation: two words that differ in one are not equal."""
    assert normal_text("की") != normal_text("का") and normal_text("«की!»") == normal_text("की")
    assert normal_text("ＡＢＣ\u200b.") == "abc"
