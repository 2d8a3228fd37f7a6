"""lab data: the user's file checked in the user's words, generated problems written whole, leaks allowed on record."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from lab_process import Run

from experiments.contract import PhaseConfig
from experiments.registry import PHASES
from flows.plan import options
from lab.commands.options import allowed, by_phase, parse_settings

GOOD = [
    {
        "id": f"r{i}",
        "text": f"Parcel number {i} came on day {i % 7}.",
        "label": ("late", "early")[i % 2],
        "group": f"g{i % 5}",
    }
    for i in range(24)
]


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    return path


def test_a_good_file_is_described_with_the_command_that_runs_it(called: Run, tmp_path: Path, home: Path) -> None:
    """Who has a file wants to know that it is read right, and what to type next."""
    path = write(tmp_path / "my reviews.jsonl", [*GOOD, {"id": "x", "text": "none", "label": "late"}])
    done = called("data", "check", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path}: 25 lines, 2 labels, 6 groups, longest text 31 characters"
    assert [line.split() for line in lines[1:3]] == [["13", "late"], ["12", "early"]]
    words = shlex.split(lines[3].removeprefix("ready: "))
    assert words == ["lab", "run", "p1", "--domain", "jsonl", "--data", str(path)]
    assert not home.exists()


def test_mistakes_and_leaks_are_listed_and_counted(called: Run, tmp_path: Path) -> None:
    """The first twenty of each by line and field, then how many more; exit code 2 and one line at the end."""
    rows: list[object] = [*GOOD, *({"id": f"bad{i}", "text": "x"} for i in range(30))]
    done = called("data", "check", str(write(tmp_path / "data.jsonl", rows)))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[:20] == [f"error  line {25 + i}: label: missing" for i in range(20)]
    assert lines[20] == "and 10 errors more"
    assert lines[21].endswith(f"data.jsonl: 30 errors. mend the file, then: lab data check {tmp_path / 'data.jsonl'}")
    leaky = write(tmp_path / "leaky.jsonl", [*GOOD, {"id": "l", "text": "It came Late!", "label": "late"}])
    done = called("data", "check", str(leaky))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "leak  line 25: text: holds the label 'Late'"
    assert "leaky.jsonl: 1 leak. mend" in done.stderr


def test_the_report_as_json(called: Run, tmp_path: Path) -> None:
    """A script reads the same findings, and the exit code says the same."""
    path = write(tmp_path / "data.jsonl", [*GOOD, {"id": "r1", "text": "x", "label": "late"}])
    done = called("data", "check", str(path), "--json")
    row = json.loads(done.stdout)
    assert (done.returncode, row["lines"], row["labels"]) == (2, 24, {"late": 12, "early": 12})
    assert row["errors"] == [{"line": 25, "field": "id", "what": "'r1' is also in line 2"}]
    assert (row["n_errors"], row["n_leaks"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("data", "check", "no-such.jsonl"), "no file no-such.jsonl"),
        (("data", "check", "."), "no file ."),
        (("data", "check", "good.jsonl", "--model", "no-such"), "unknown model 'no-such'"),
        (("data", "make", "jsonl", "--out", "a"), "choose one of: big_o, equations"),
        (("data", "make", "big_o", "--out", "good.jsonl"), "good.jsonl exists already"),
        (("data", "make", "big_o", "--out", "no/such/a.jsonl"), "mkdir -p"),
        (("data", "make", "big_o", "--n", "0", "--out", "a"), "0 problems asked for"),
        (("data", "make", "equations", "--n", "12", "--names", "natural", "--out", "a"), "equations have no names"),
        (("run", "p1", "--scale", "smoke", "--set", "domain=jsonl:good.jsonl"), "is no absolute path"),
        (("run", "p1", "--scale", "smoke", "--set", "domain=equation"), "unknown domain 'equation'"),
        (("run", "p1", "--scale", "smoke", "--allow-leakage", " "), "gives no reason"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], wanted: str, called: Run, tmp_path: Path
) -> None:
    """What was wrong and what mends it; no traceback, no half file."""
    write(tmp_path / "good.jsonl", list(GOOD))
    done = called(*arguments)
    assert done.returncode == 2
    assert wanted in done.stderr and len(done.stderr.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "lab-home") == ["good.jsonl"]


@pytest.mark.parametrize("domain", ["big_o", "equations"])
def test_what_is_made_passes_the_check(domain: str, called: Run, tmp_path: Path) -> None:
    """The format that is written is the one that is read; and the same seed writes the same bytes."""
    for name in ("one.jsonl", "two.jsonl"):
        done = called("data", "make", domain, "--n", "120", "--out", name)
        assert (done.returncode, done.stdout) == (0, f"120 problems of {domain} in {name}\n")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert len(rows) == 120 and len(set(Counter(r["label"] for r in rows).values())) == 1
    assert set(rows[0]) == {"id", "text", "label", "group"}
    done = called("data", "check", "one.jsonl")
    assert done.returncode == 0, done.stderr


def test_settings_that_all_phases_share_hold_for_all() -> None:
    """Phases of one run work on the same problems: a domain given to one alone would leave it without forerunners."""
    given = by_phase(parse_settings(["domain=equations", "n_test=8", "p1.k=3"]) | allowed("a look"), "p2")
    assert all(given[phase]["domain"] == "equations" and given[phase]["allow_leakage"] == "a look" for phase in PHASES)
    assert (given["p2"]["n_test"], given["p1"]["k"]) == (8, 3)
    assert "n_test" not in given["e1"]
    words = shlex.split(options("smoke", given))
    assert words.count('domain="equations"') == 1 and "p2.n_test=8" in words and "p1.k=3" in words
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert by_phase(parse_settings(settings)) == given
    assert by_phase(parse_settings(["p2.domain=equations"])) == {"p2": {"domain": "equations"}}
    assert set(PhaseConfig.model_fields) >= {"domain", "names", "allow_leakage", "data_seed"}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_is_checked_and_becomes_lines(suffix: str, called: Run, tmp_path: Path) -> None:
    """Most labelled texts are tables; its columns are named, and the lines made of it are ready."""
    table = tmp_path / f"reviews{suffix}"
    columns = {
        "Review": [f'He said "{r["text"]}",\nthen left {i}' for i, r in enumerate(GOOD)],
        "stars": [901 + i % 2 for i in range(24)],
        "shop": [None if i % 3 == 0 else f"s{i % 5}" for i in range(24)],
    }
    frame = pd.DataFrame(columns)
    if suffix == ".parquet":
        frame.to_parquet(table)
    else:
        text = frame.to_csv(sep="\t" if suffix == ".tsv" else ";", index=False, lineterminator="\r\n")
        table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    named = ("--text", "Review", "--label", "stars", "--group", "shop")
    done = called("data", "check", table.name, *named)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{table.name}: 24 lines, 2 labels" in done.stdout
    words = shlex.split(done.stdout.splitlines()[-1].removeprefix("ready: "))
    assert words[-2:] == ["--out", "reviews.jsonl"] and called(*words[1:]).returncode == 0
    first = json.loads((tmp_path / "reviews.jsonl").read_text().splitlines()[1])
    assert first == {"id": "2", "text": columns["Review"][1], "label": "902", "group": "s1"}
    assert called("data", "check", "reviews.jsonl").returncode == 0
    assert "it has Review, stars, shop" in called("data", "check", table.name, "--text", "x", "--label", "stars").stderr
    assert "with the columns Review, stars, shop. name two: --text" in called("data", "check", table.name).stderr


def test_a_pipe_is_refused(called: Run, tmp_path: Path) -> None:
    """It is read twice; the second reading found nothing, and a file with leaks was ready."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = called("data", "check", "pipe")
    assert done.returncode == 2 and "is a pipe or a device, and it is read twice" in done.stderr


def test_a_rare_label_is_named_with_what_to_do(called: Run, tmp_path: Path) -> None:
    """One text of 201 has a label of its own: ready was said, and the command that was proposed was refused."""
    rare = write(tmp_path / "rare.jsonl", [*GOOD, {"id": "x", "text": "Unclear.", "label": "other"}])
    done = called("data", "check", str(rare))
    assert done.returncode == 2 and "ready" not in done.stdout
    why = "label 'other' has 1 text; P1 needs 5 of each label, and all phases draw equally many: merge it with another label"
    assert why in done.stderr
    done = called("run", "p1", "--domain", "jsonl", "--data", str(rare), "--scale", "smoke")
    assert done.returncode == 2 and why in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_model_counts_the_tokens(called: Run, tmp_path: Path) -> None:
    """4,000 characters of digits are 4,000 tokens for a model that reads one at a time: more than its window."""
    rows: list[object] = [*GOOD, {"id": "x", "text": "7" * 3900, "label": "late"}]
    write(tmp_path / "data.jsonl", rows)
    for given in ((), ("--model", "smollm2-135m")):
        done = called("data", "check", "data.jsonl", *given)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0] == (
            "error  line 25: text: 3,900 tokens, more than the 1,792 that fit in a prompt of smollm2-135m"
        )


@pytest.mark.slow
def test_what_the_models_will_read_is_known_before(called: Run, tmp_path: Path) -> None:
    """Texts in a script that takes more tokens than characters, cut by the embedder; five of them never fit in a prompt."""
    rows: list[object] = [
        {"id": i, "text": f"{i}" + "电池第二天就没电了屏幕很清楚" * 15 + f"{i}", "label": ("late", "early")[i % 2]}
        for i in range(12)
    ]
    done = called("data", "check", str(write(tmp_path / "data.jsonl", rows)))
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith("note  ")]
    assert len(notes) == len(done.stderr.splitlines()) == 2
    assert re.fullmatch(
        r"note  [\d,]+ of [\d,]+ tokens are unknown to all-MiniLM-L6-v2.*|"
        r"note  12 of 12 texts are longer than the 256 tokens that all-MiniLM-L6-v2 reads.*",
        notes[0],
    )
    assert "memos fit beside a problem in a prompt of smollm2-135m" in notes[-1]


def test_texts_that_are_too_long_are_cut_or_left_out_as_the_user_says(called: Run, tmp_path: Path) -> None:
    """A file with a few long programs was refused as a whole; the command that cuts them is proposed, and its file is ready."""
    rows: list[object] = [
        *GOOD,
        *({"id": f"l{i}", "text": f"line {i} of many\n" * 800, "label": "late"} for i in range(3)),
    ]
    path = write(tmp_path / "programs.jsonl", rows)
    refused = called("data", "check", str(path))
    assert refused.returncode == 2
    assert "line 25: text: 12,000 characters, more than 4,000" in refused.stderr
    proposed = shlex.split(refused.stderr.splitlines()[-1].rpartition("leaves them out): ")[2])
    assert proposed[:5] == ["lab", "data", "make", str(path), "--long"]
    out = tmp_path / "cut.jsonl"
    cut = called(*proposed[1:-1], str(out))
    assert (cut.returncode, cut.stderr) == (0, "")
    assert f"27 rows of {path} in {out}, 3 texts cut." in cut.stdout
    texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert all(text.endswith("of many") and 3900 < len(text) <= 4000 for text in texts[24:])
    assert called("data", "check", str(out)).returncode == 0
    left = tmp_path / "left.jsonl"
    done = called("data", "make", str(path), "--long", "skip", "--out", str(left))
    assert f"24 rows of {path} in {left}, 3 texts left out." in done.stdout
    assert len(left.read_text().splitlines()) == 24
    refused = called("data", "make", str(path), "--out", str(tmp_path / "none.jsonl"))
    assert refused.returncode == 2 and not (tmp_path / "none.jsonl").exists()


def test_programs_are_made_in_java(called: Run, tmp_path: Path) -> None:
    """Twelve programs in the format of the user's files; a language or domain without programs is refused by name."""
    path = tmp_path / "java.jsonl"
    done = called("data", "make", "big_o", "--language", "java", "--n", "12", "--out", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert set(Counter(r["label"] for r in rows).values()) == {2}
    assert all("static int " in r["text"] for r in rows)
    for domain, language in (("equations", "java"), ("big_o", "rust")):
        done = called("data", "make", domain, "--language", language, "--out", str(tmp_path / "no.jsonl"))
        assert done.returncode == 2 and f"no {language} programs of {domain}" in done.stderr
