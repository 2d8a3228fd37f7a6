"""Commands for problems and texts: data check, data make."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from common.errors import LabError
from common.files import write_whole
from common.text import printable
from experiments.backends.catalog import EMBEDDERS
from experiments.contract import OF_DOMAIN, PhaseConfig
from experiments.domains import DOMAINS, Problem, get_domain
from experiments.domains.big_o.java_problems import java_problems
from experiments.domains.jsonl_file import Report, check_enough
from experiments.domains.jsonl_file import check as examine
from experiments.domains.jsonl_rows import TABLES, Columns, rows_of
from experiments.domains.long_texts import Choice, LongTexts
from experiments.protocol.token_checks import Counted
from lab.commands.options import AsJson
from lab.exit_codes import EXIT_MISTAKE

LANGUAGES = ("python", "java")
DEFAULT_MODEL: str = PhaseConfig.model_fields["model"].default
DEFAULT_EMBEDDER = next(iter(EMBEDDERS))
Text = Annotated[str | None, typer.Option(help="Column of a table that holds the texts.")]
Label = Annotated[str | None, typer.Option(help="Column of a table that holds the labels.")]
Id = Annotated[str | None, typer.Option(help="Column of a table that holds the ids; without it rows are numbered.")]
Group = Annotated[str | None, typer.Option(help="Column of a table that holds the groups.")]


def check(
    file: Annotated[Path, typer.Argument(help="Your file: one JSON object a line, or a table.")],
    model: Annotated[str | None, typer.Option(help="Count tokens with this model instead of the default one.")] = None,
    text: Text = None,
    label: Label = None,
    id: Id = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Check your own labelled data and report each error by line and field.

    \b
    One JSON object a line, in UTF-8:
      {"id": "r17", "text": "The battery died.", "label": "negative", "group": "shop-3"}
      id     1 to 200 characters, or a whole number; no two lines have the same
      text   1 to 4,000 characters that do not name a label
      label  1 to 100 characters, or a whole number; 2 to 50 different ones in the file
      group  optional; lines of one group stay on one side of a split with --set split=group
    Other fields are refused, empty lines are skipped. Tables (.csv, .tsv, .parquet) are checked with
    --text COLUMN --label COLUMN; lab data make writes such lines from them. A label inside a text, and
    a text that equals another, are leaks: the phases refuse them unless --allow-leakage says why.
    A note is no error: a verdict will name it.

    Example: lab data check reviews.jsonl
    """
    columns = _columns(text, label, id, group)
    counted = Counted(model or DEFAULT_MODEL, DEFAULT_EMBEDDER)
    if model:
        counted.load(required=True)
    report = examine(file, counted.too_long, columns)
    check_enough(report)
    report.notes += counted.notes()
    if as_json:
        print(json.dumps(vars(report), indent=1, default=vars))
    else:
        _print_report(file, report, columns)
    if report.n_errors or report.n_leaks:
        if as_json:
            raise typer.Exit(EXIT_MISTAKE)
        if report.n_errors == report.n_long > 0:
            given = [*_options(columns), *([f"--model {shlex.quote(model)}"] if model else [])]
            out = shlex.quote(f"{file.stem}-short.jsonl")
            words = ["lab data make", shlex.quote(str(file)), *given, "--long cut", f"--out {out}"]
            long = f"{report.n_long:,} text{'' if report.n_long == 1 else 's'} too long for a prompt"
            raise LabError(f"{file}: {long}", f"to cut them (--long skip leaves them out): {' '.join(words)}")
        counts = ((report.n_errors, "error"), (report.n_leaks, "leak"))
        found = " and ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in counts if n)
        again = " ".join(["lab data check", shlex.quote(str(file)), *_options(columns)])
        raise LabError(f"{file}: {found}", f"mend the file, then: {again}")


def _columns(text: str | None, label: str | None, id: str | None, group: str | None) -> Columns | None:
    if text is None and label is None and id is None and group is None:
        return None
    if text is None or label is None:
        raise LabError("a table needs the columns of its texts and of its labels", "--text COLUMN --label COLUMN")
    return Columns(text, label, id, group)


def _options(columns: Columns | None) -> list[str]:
    given = asdict(columns) if columns else {}
    return [f"--{name} {shlex.quote(column)}" for name, column in given.items() if column is not None]


def _print_report(file: Path, report: Report, columns: Columns | None) -> None:
    for name, findings, n in (("error", report.errors, report.n_errors), ("leak", report.leaks, report.n_leaks)):
        for finding in findings:
            print(printable(f"{name}  {finding}"), file=sys.stderr)
        if n > len(findings):
            print(f"and {n - len(findings)} {name}s more", file=sys.stderr)
    for note in report.notes:
        print(printable(f"note  {note}"), file=sys.stderr)
    counts = f"{report.lines:,} lines, {len(report.labels)} labels, {report.groups:,} groups"
    print(printable(f"{file}: {counts}, longest text {report.longest:,} characters"))
    for label, n in report.labels.most_common():
        print(printable(f"  {n:>7,}  {label}"))
    if not report.n_errors and not report.n_leaks:
        if columns:
            made = shlex.quote(f"{file.stem}.jsonl")
            words = ["lab data make", shlex.quote(str(file)), *_options(columns), f"--out {made}"]
        else:
            words = ["lab run p1 --domain jsonl --data", shlex.quote(str(file))]
        print(printable(f"ready: {' '.join(words)}"))


def make(
    domain: Annotated[str, typer.Argument(help="big_o or equations, or a file: .csv, .tsv, .parquet or .jsonl.")],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")],
    n: Annotated[int, typer.Option("--n", help="Number of problems.")] = 1880,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 42,
    names: Annotated[
        str | None,
        typer.Option(help="natural: functions are called what they do; neutral: names say nothing. Natural in big_o."),
    ] = None,
    language: Annotated[str, typer.Option(help="Of the programs of big_o: python or java.")] = "python",
    text: Text = None,
    label: Label = None,
    id: Id = None,
    group: Group = None,
    long: Annotated[
        Choice, typer.Option(help="What happens to texts that are too long for a prompt: refuse, cut or skip.")
    ] = "refuse",
    model: Annotated[str | None, typer.Option(help="With --long: the model whose prompts count.")] = None,
) -> None:
    """Write generated problems, or the rows of a file, to a file in the format of lab data check.

    A text that is cut ends with a line or a word. How many were cut or left out is printed, and the file that a run
    reads is the one that was written, so that its SHA-256 stands for this choice.

    Example: lab data make r.csv --text review --label stars --out r.jsonl
    """
    if (rows := Path(domain)).suffix.lower() in (*TABLES, ".jsonl"):
        _check_out(out)
        counted = Counted(model or DEFAULT_MODEL, DEFAULT_EMBEDDER)
        _convert(rows, _columns(text, label, id, group), out, LongTexts(long, lambda t: not counted.too_long(t)))
        return
    made = [d for d in DOMAINS if d != "jsonl"]
    if domain not in made:
        raise LabError(f"no problems can be generated for {domain!r}", f"choose one of: {', '.join(made)}")
    if language not in LANGUAGES or (language != "python" and domain != "big_o"):
        raise LabError(f"no {language} programs of {domain}", f"big_o with --language {' or '.join(LANGUAGES)}")
    _check_out(out)
    names = names or OF_DOMAIN.get(domain, {}).get("names", "neutral")
    problems = java_problems(n, seed, names) if language == "java" else get_domain(domain).problems(n, seed, names)
    _write(out, problems)
    print(f"{len(problems):,} problems of {domain} in {out}")


def _check_out(out: Path) -> None:
    if out.exists():
        raise LabError(f"{out} exists already", "choose another --out, or remove it")
    if not out.absolute().parent.is_dir():
        raise LabError(f"no folder {out.absolute().parent}", f"mkdir -p {shlex.quote(str(out.absolute().parent))}")


def _convert(table: Path, columns: Columns | None, out: Path, long: LongTexts) -> None:
    report = examine(table, columns=columns, long_texts=long)
    if report.n_errors:
        again = " ".join(["lab data check", shlex.quote(str(table)), *_options(columns)])
        raise LabError(f"{table}: {report.n_errors} errors, first {report.errors[0]}", again)
    long.cut = long.skipped = 0  # each row was seen twice
    _write(out, (kept.problem() for row in rows_of(table, columns) if (kept := long.apply(row)) is not None))
    changed = "".join(f", {n:,} texts {what}" for n, what in ((long.cut, "cut"), (long.skipped, "left out")) if n)
    print(f"{report.lines:,} rows of {table} in {out}{changed}. check them: lab data check {shlex.quote(str(out))}")


def _write(out: Path, problems: Iterable[Problem]) -> None:
    rows = ({"id": p.problem_id, "text": p.text, "label": p.label, "group": p.group} for p in problems)
    write_whole(out, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
