"""The user's own data: what is wrong is said by line and field, and a file means the same on every host."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engines import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LabError
from experiments.backends.model_cache import Backends, no_files
from experiments.contract import Unit
from experiments.data import split, universe
from experiments.domains import display_name, fetch_data, get_domain, resolved, share_data
from experiments.domains.jsonl_file import LISTED, check, check_enough
from experiments.domains.jsonl_rows import MAX_CHARACTERS, MAX_LINE_BYTES
from experiments.findings import Earlier
from experiments.protocol.identity import make_unit
from experiments.registry import configure, get_phase
from flows.chain import put_job
from flows.plan import plan
from flows.unit_run import run_unit
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths

WORDS = (
    "battery",
    "screen",
    "arrived",
    "broken",
    "lovely",
    "sturdy",
    "slow",
    "quick",
    "parcel",
    "refund",
    "gift",
    "colour",
    "noisy",
    "quiet",
    "heavy",
    "light",
)


def row(i: int, **changed: Any) -> dict[str, Any]:
    """One good line; its text is like no other's."""
    said = " ".join(WORDS[(i * k + k) % len(WORDS)] for k in (1, 3, 5, 7, 11))
    return {"id": f"r{i}", "text": f"Item {i}: {said}.", "label": ("bad", "good", "mixed")[i % 3], **changed}


def write(path: Path, rows: list[Any]) -> Path:
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LAB_HOME of the test's own."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return write(tmp_path / "reviews.jsonl", [row(i) for i in range(36)])


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ({"id": "a", "text": "fine"}, "label: missing"),
        ({"id": "a", "label": "bad"}, "text: missing"),
        ({"text": "fine", "label": "bad"}, "id: missing"),
        ({"id": None, "text": "fine", "label": "bad"}, "id: missing"),
        (row(0), "id: 'r0' is also in line 1"),
        (row(9, label=""), "label: empty"),
        (row(9, label=True), "label: not a string or a whole number but bool"),
        (row(9, label=0.5), "label: not a string or a whole number but float"),
        (row(9, label="b" * 101), "label: 101 characters, more than 100"),
        (row(9, text=" \n"), "text: empty"),
        (row(9, text=["x"]), "text: not a string but list"),
        (row(9, text="x" * (MAX_CHARACTERS + 1)), "text: 4,001 characters, more than 4,000"),
        (row(9, text="x\x00y"), "text: a character that no text has"),
        (row(9, group=""), "group: empty"),
        (row(9, grp="x"), "grp: unknown field; known are id, text, label, group"),
        (b'{"id": "a", "text": "\\ud800", "label": "bad"}', "text: a character that no text has"),
        (b'{"id": "a", "id": "b", "text": "x", "label": "bad"}', "id: given twice"),
        (b'{"id": "a", "text": "caf\xe9", "label": "bad"}', "line: not UTF-8 at byte 25"),
        (b'{"id": "a", "text": "x", ', "line: not JSON: Expecting property name"),
        (b"plain words", "line: not JSON"),
        (b"[1, 2]", "line: not an object {...}"),
        (b"[" * 100_000, "line: not JSON: "),
        (b'{"id": ' + b"9" * 5000 + b"}", "line: not JSON: a number too long"),
        (b'"' + b"x" * (MAX_LINE_BYTES + 5) + b'"', "line: longer than 1,048,576 bytes"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_field(line: Any, wanted: str, tmp_path: Path) -> None:
    """The user mends the file by this sentence; a crash or a line skipped in silence would leave wrong data in a run."""
    report = check(write(tmp_path / "data.jsonl", [row(0), row(1), row(2), line, row(4)]))
    assert (report.n_errors, report.lines) == (1, 4)
    assert str(report.errors[0]).startswith(f"line 4: {wanted}")


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([], "no line in the file"),
        ([row(0), row(3)], "only one label, 'bad'; at least two are needed"),
        ([row(i, label=f"kind-{i}") for i in range(60)], "line 51: label: more than 50 different ones"),
    ],
)
def test_mistakes_of_the_whole_file(rows: list[Any], wanted: str, tmp_path: Path) -> None:
    """Nothing to choose between, or too much."""
    report = check(write(tmp_path / "data.jsonl", rows))
    assert report.n_errors == 1
    assert str(report.errors[0]).startswith(wanted)


def test_the_first_twenty_are_listed_and_all_counted(tmp_path: Path) -> None:
    """A file in a wrong format has a mistake in every line; the list must stay readable."""
    report = check(write(tmp_path / "data.jsonl", [{"id": str(i), "text": "x"} for i in range(500)]))
    assert (len(report.errors), report.n_errors) == (LISTED, 500)
    assert [f.line for f in report.errors] == list(range(1, 21))


def test_a_good_file_is_described(tmp_path: Path) -> None:
    """What is right must pass: whole numbers as ids, groups, empty lines, another line end, a byte order mark."""
    rows = [row(i, id=i, group=f"g{i % 4}") for i in range(12)]
    text = "\ufeff" + "\r\n\r\n".join(json.dumps(r) for r in rows)
    path = tmp_path / "data.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    report = check(path)
    assert (report.n_errors, report.n_leaks, report.lines, report.groups) == (0, 0, 12, 4)
    assert report.labels == {"bad": 4, "good": 4, "mixed": 4}
    assert report.longest == max(len(r["text"]) for r in rows)


def test_labels_that_look_the_same_are_the_same(tmp_path: Path) -> None:
    """Composed and decomposed letters, invisible characters and space around a label made three labels of two."""
    same = ["n\u00e9gatif", "ne\u0301gatif", "n\u00e9gatif\u200b", "\ufeff n\u00e9gatif", "n\u00e9ga\u00adtif"]
    rows = [row(i, label=same[i // 2 % 5] if i % 2 else "positif") for i in range(20)]
    report = check(write(tmp_path / "data.jsonl", rows))
    assert report.labels == {"positif": 10, "n\u00e9gatif": 10} and report.notes == []
    rows += [row(20 + i, label="Positif") for i in range(4)]
    report = check(write(tmp_path / "data.jsonl", rows))
    assert report.notes == [
        "the labels 'Positif', 'positif' differ in case, width or spaces only, and count as different ones"
    ]
    assert report.n_errors == 0


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_every_line_end_and_missing_groups_are_read(end: str, tmp_path: Path) -> None:
    """Old editors end lines with CR alone; pandas writes a missing group as null."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(end.join(json.dumps(row(i, group=None)) for i in range(12)).encode())
    report = check(path)
    assert (report.n_errors, report.lines, report.groups) == (0, 12, 12)


@pytest.mark.parametrize("scale", ["smoke", "demo", "full"])
def test_fifty_labels_work_at_every_scale(scale: str, home: Path, tmp_path: Path) -> None:
    """96 problems of 50 labels leave one or two of each, which P1 refuses: the file has more, so more are drawn."""
    rows = [{"id": i, "text": f"{WORDS[i % 16]} {i}", "label": f"kind-{i % 50:02d}"} for i in range(1000)]
    file = write(tmp_path / "many.jsonl", rows)
    sizes = set()
    for phase in ("p1", "p2", "p3", "e0", "e1"):
        config = configure(phase, scale, {"domain": f"jsonl:{file}"})
        get_phase(phase).sides(config, Earlier())
        sizes.add(config.n_problems)
    assert len(sizes) == 1 and sizes.pop() >= 250


def test_too_few_of_a_label_or_in_all_are_errors_of_the_check(tmp_path: Path) -> None:
    """A run would refuse them."""
    few = check(write(tmp_path / "few.jsonl", [row(i) for i in range(9)]))
    check_enough(few)
    assert str(few.errors[0]) == "9 lines, and 12 are needed at least" and few.n_errors == 4


def test_leaks_are_reported_beside_the_mistakes(tmp_path: Path) -> None:
    """A text that names any label, or equals another but for case and marks, would make the test one of reading."""
    rows = [row(0), row(1, text="It was Good, mostly"), row(2), row(3, text="nothing goodish, bad_ly"), row(5)]
    rows.append(row(7, text=f"  {rows[0]['text'].upper()}!!"))
    report = check(write(tmp_path / "data.jsonl", rows))
    assert report.n_errors == 0
    assert [str(f) for f in report.leaks] == [
        "line 6: text: equals that of line 1, so one could stand in memory and one in the test",
        "line 2: text: holds the label 'Good'",
        "line 4: text: holds the label 'bad'",
    ]


def test_a_model_at_hand_counts_tokens(tmp_path: Path) -> None:
    """Characters are only a guess at what fits; with a model the limit is its own."""
    path = write(tmp_path / "data.jsonl", [row(0), row(1, text="word " * 30), row(2)])
    report = check(path, lambda text: "30 tokens" if text.count("word") > 20 else "")
    assert [str(f) for f in report.errors] == ["line 2: text: 30 tokens"]


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A check that kept the texts would fail on a small host with a large file: these are 8 MB."""
    path = write(tmp_path / "data.jsonl", [row(i, text=f"{i} {'w' * 3900}") for i in range(2000)])
    tracemalloc.start()
    report = check(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (report.n_errors, report.lines) == (0, 2000)
    assert peak < path.stat().st_size / 5


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.text(alphabet='{}[]":, idtexlabgroup0\\un', max_size=60), max_size=5))
def test_any_bytes_are_checked(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes | str]) -> None:
    """A file that is no jsonl at all is a list of mistakes, never a traceback."""
    path = tmp_path_factory.mktemp("any") / "data.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    assert check(path).n_errors > 0


def test_a_run_names_the_content_not_the_path(home: Path, reviews: Path, tmp_path: Path) -> None:
    """Two hosts keep the file in different places: units must have the same ids, and a changed file other ones."""
    name = resolved(f"jsonl:{reviews}")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert resolved(f"jsonl:{write(moved / 'reviews.jsonl', [row(i) for i in range(36)])}") == name == resolved(name)
    config = configure("p2", "smoke", {"domain": f"jsonl:{reviews}", "n_problems": 24})
    assert config.domain == name and str(tmp_path) not in json.dumps(config.model_dump(mode="json"))
    unit = make_unit("p2", config, {}, models=[])
    reviews.unlink()
    assert (
        make_unit("p2", configure("p2", "smoke", {"domain": name, "n_problems": 24}), {}, models=[]).unit_id
        == unit.unit_id
    )
    assert name.split("@")[1] in unit.identity["data"]
    other = resolved(f"jsonl:{write(reviews, [row(i) for i in range(37)])}")
    assert (
        other != name
        and display_name(other).startswith("jsonl:reviews@")
        and len(display_name(other)) == len("jsonl:reviews@") + 8
    )


def test_another_host_takes_the_data_from_the_store(
    home: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path means nothing there; without the store it says which file it misses and where it belongs."""
    name = resolved(f"jsonl:{reviews}")
    store: dict[str, bytes] = {}

    def put(content: bytes) -> str:
        return store.setdefault(name.split("@")[1], content) and name.split("@")[1]

    def get(sha256: str) -> bytes:
        if sha256 not in store:
            raise LabError(f"file {sha256[:12]} is not in the store")
        return store[sha256]

    share_data(name, put)
    get_domain.cache_clear()
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "second"))
    with pytest.raises(
        LabError, match=f"the data 'reviews' with SHA-256 {name.split('@')[1]} is not on this host"
    ) as caught:
        get_domain(name)
    assert str(tmp_path / "second" / "data") in caught.value.mend
    fetch_data(name, get)
    assert len(get_domain(name).problems(36, 42)) == 36
    kept = tmp_path / "second" / "data" / f"{name.split('@')[1]}.jsonl"
    kept.write_bytes(kept.read_bytes() + b"\n")
    get_domain.cache_clear()
    with pytest.raises(LabError, match="was changed"):
        get_domain(name)
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "third"))
    store.clear()
    with pytest.raises(LabError, match=r"is not on this host; file .* is not in the store"):
        fetch_data(name, get)
    store[name.split("@")[1]] = b"other bytes"
    with pytest.raises(LabError, match="changed"):
        fetch_data(name, get)
    assert not list((tmp_path / "third").rglob("*.jsonl"))


def test_a_unit_planned_here_runs_on_a_host_without_the_file(
    home: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole way: planned from a path, submitted, and run where neither the path nor a copy is."""
    given = {
        "p1": {
            "domain": f"jsonl:{reviews}",
            "n_problems": 36,
            "n_memory": 18,
            "n_queries": 9,
            "embedders": ["all-MiniLM-L6-v2"],
        }
    }
    (tmp_path / "results" / "inbox").mkdir(parents=True)
    monkeypatch.setenv("LAB_RESULTS_URL", str(tmp_path / "results"))
    planned = plan("smoke", given)
    run = planned.run
    assert planned.content["domain"] == display_name(run.configs["p1"].domain)
    store = Store.configured(Paths.local())
    units = get_phase("p1").units(run.configs["p1"], {}, [])
    job = json.loads(store.get_file(put_job(store, run, "p1", units)))
    reviews.unlink()
    get_domain.cache_clear()
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "second"))
    backends = Backends(no_files)
    backends.embedders["all-MiniLM-L6-v2"] = FakeEmbedder()
    there = Paths.local()
    assert run_unit(Unit.from_json(job["units"][0]), backends, there, Store.configured(there), 1) == 9
    assert [p.name.split(".")[0] for p in (tmp_path / "results" / "inbox").iterdir()] == [units[0].unit_id]
    # And when the results cannot leave that host, its log says why.
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    assert run_unit(Unit.from_json(job["units"][0]), backends, there, Store.configured(there), 2) == 9
    assert "1 bundles wait in the spool" in caplog.text and "not mounted" in caplog.text


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ("jsonl", "unknown domain 'jsonl'. choose one of: big_o, equations, jsonl:/path/to/your/file.jsonl"),
        ("jsonl:", "no absolute path"),
        ("jsonl:reviews.jsonl", "no absolute path"),
        ("jsonl:/no/such/file.jsonl", "no file /no/such/file.jsonl"),
        ("jsonl:x@" + "0" * 64, "is not on this host"),
        ("big_o:x", "unknown domain"),
    ],
)
def test_a_wrong_name_is_the_users_mistake(domain: str, wanted: str, home: Path) -> None:
    """In one line, before anything is planned."""
    with pytest.raises(LabError) as caught:
        universe(configure("p1", "smoke", {"domain": domain}))
    assert wanted in str(caught.value)


def test_a_file_with_mistakes_is_not_run(home: Path, tmp_path: Path) -> None:
    """A run on half of a file would be a result about other data than the user thinks."""
    path = write(tmp_path / "data.jsonl", [*(row(i) for i in range(20)), {"id": "x"}, {"id": "y"}])
    with pytest.raises(LabError, match="2 errors, first line 21: label: missing") as caught:
        configure("p1", "smoke", {"domain": f"jsonl:{path}"})
    assert caught.value.mend == f"lab data check {path}"
    assert not (home / "data").exists()


def test_the_domain_keeps_what_the_phases_rest_on(home: Path, reviews: Path) -> None:
    """Classes as equal as the file allows, the same draw for the same seed, groups, and features of the text alone."""
    name = resolved(
        f"jsonl:{write(reviews, [row(i, label='rare' if i < 5 else ('bad', 'good')[i % 2], group=f'g{i % 9}') for i in range(45)])}"
    )
    domain = get_domain(name)
    assert (domain.options, domain.answers, domain.max_attempts) == (("bad", "good", "rare"), "choice", 1)
    problems = domain.problems(36, 42)
    assert sorted(Counter(p.label for p in problems).values()) == [5, 15, 16]
    assert problems == domain.problems(36, 42) != domain.problems(36, 43)
    assert len({p.problem_id for p in problems}) == 36
    for p in problems:
        assert domain.features(p).shape == (len(domain.feature_names),) and np.isfinite(domain.features(p)).all()
        assert not any(o in domain.describe(p) for o in domain.options)
    assert "battery" in domain.terms() and "item" not in domain.terms()
    assert (domain.similarity("bad", "bad"), domain.similarity("bad", "good")) == (1.0, 0.0)
    with pytest.raises(LabError, match="46 problems asked for; reviews has 45"):
        domain.problems(46, 42)
    with pytest.raises(LabError, match="have no other names"):
        domain.problems(12, 42, "natural")
    memory, test = split(configure("p2", "smoke", {"domain": name, "n_problems": 45, "split": "group"}), 6, 3)
    assert not {p.group for p in memory} & {p.group for p in test}


def test_a_real_phase_runs_on_it(
    home: Path, engines: Backends, reviews: Path, monkeypatch: pytest.MonkeyPatch, weights_home: Path
) -> None:
    """P1 with the real embedder: labels of the user's own, and the kNN that its gate needs."""
    given = {
        "domain": f"jsonl:{reviews}",
        "n_problems": 36,
        "n_memory": 18,
        "n_queries": 9,
        "embedders": ("all-MiniLM-L6-v2",),
    }
    module, config = get_phase("p1"), configure("p1", "smoke", given)
    (unit,) = module.units(config, {}, [])
    trials = module.run(unit, engines)
    assert {t.truth for t in trials} == {"bad", "good", "mixed"} and all(t.error is None for t in trials)
    verdict = module.gate(module.metrics(trials, config), config)
    assert verdict.main.metric == "knn_accuracy" and verdict.main.value is not None
