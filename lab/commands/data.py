"""Commands for problems and texts: data check, data make."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from common.errors import LabError
from common.files import write_whole
from common.text import printable
from experiments.backends.catalog import backend
from experiments.backends.protocols import Unavailable
from experiments.domains import DOMAINS, get_domain
from experiments.domains.jsonl_file import check as examine
from lab.commands.options import AsJson
from lab.exit_codes import EXIT_MISTAKE

PROMPT_TOKENS = 256  # of the context window for instruction, labels and answer


def check(
    file: Annotated[Path, typer.Argument(help="Your file, one JSON object a line.")],
    model: Annotated[str | None, typer.Option(help="Also count tokens with this model, such as smollm2-135m.")] = None,
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
    Other fields are refused, empty lines are skipped. A label inside a text, and a text
    that equals another, are leaks: the phases refuse them unless --allow-leakage says why.

    Example: lab data check reviews.jsonl
    """
    report = examine(file, _too_long(model) if model else None)
    if as_json:
        print(json.dumps(vars(report), indent=1, default=vars))
    else:
        _print_report(file, report)
    if report.n_errors or report.n_leaks:
        if as_json:
            raise typer.Exit(EXIT_MISTAKE)
        counts = ((report.n_errors, "error"), (report.n_leaks, "leak"))
        found = " and ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in counts if n)
        raise LabError(f"{file}: {found}", f"mend the file, then: lab data check {shlex.quote(str(file))}")


def _too_long(model: str) -> Callable[[str], str]:
    """Return a function that says why a text is too long for the model, or "" if it fits."""
    try:
        count, window = backend(model).counter(model)
    except Unavailable as error:
        raise LabError(f"model {model!r} cannot be loaded: {error}", "lab doctor") from None
    most = window - PROMPT_TOKENS

    def what(text: str) -> str:
        tokens = count(text)
        return f"{tokens:,} tokens, more than the {most:,} that fit in a prompt of {model}" if tokens > most else ""

    return what


def _print_report(file: Path, report: Any) -> None:
    for name, findings, n in (("error", report.errors, report.n_errors), ("leak", report.leaks, report.n_leaks)):
        for finding in findings:
            print(printable(f"{name}  {finding}"), file=sys.stderr)
        if n > len(findings):
            print(f"and {n - len(findings)} {name}s more", file=sys.stderr)
    counts = f"{report.lines:,} lines, {len(report.labels)} labels, {report.groups:,} groups"
    print(printable(f"{file}: {counts}, longest text {report.longest:,} characters"))
    for label, n in report.labels.most_common():
        print(printable(f"  {n:>7,}  {label}"))
    if not report.n_errors and not report.n_leaks:
        even = min(report.labels.values()) * len(report.labels)
        domain = shlex.quote(f"domain=jsonl:{file.absolute()}")
        print(printable(f"ready: lab run p1 --set {domain} --set n_problems={even}"))


def make(
    domain: Annotated[str, typer.Argument(help="big_o or equations.")],
    out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")],
    n: Annotated[int, typer.Option("--n", help="Number of problems.")] = 1650,
    seed: Annotated[int, typer.Option(help="Seed of the problems.")] = 42,
    names: Annotated[
        str, typer.Option(help="neutral: functions have neutral names; natural: names that describe them.")
    ] = "neutral",
) -> None:
    """Write generated problems to a file in the format of lab data check.

    Example: lab data make big_o --n 1650 --out big_o.jsonl
    """
    made = [d for d in DOMAINS if d != "jsonl"]
    if domain not in made:
        raise LabError(f"no problems can be generated for {domain!r}", f"choose one of: {', '.join(made)}")
    if out.exists():
        raise LabError(f"{out} exists already", "choose another --out, or remove it")
    if not out.absolute().parent.is_dir():
        raise LabError(f"no folder {out.absolute().parent}", f"mkdir -p {shlex.quote(str(out.absolute().parent))}")
    problems = get_domain(domain).problems(n, seed, names)
    rows = ({"id": p.problem_id, "text": p.text, "label": p.label, "group": p.group} for p in problems)
    write_whole(out, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    print(f"{len(problems):,} problems of {domain} in {out}")
