"""docs/commands.md: every command of `lab` with its help, arguments, options and example, from the commands themselves.

python -m docs.generate.commands > docs/commands.md
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from lab import exit_codes
from lab.main import COMMANDS, app


def commands() -> dict[str, Any]:
    """Return the click command of each name in COMMANDS."""
    found = {}
    for name in COMMANDS:
        one: Any = typer.main.get_command(app)
        for word in name.split():
            one = one.commands[word]
        found[name] = one
    return found


def exit_code_lines() -> list[str]:
    """Return a table row for each constant of lab/exit_codes.py, with its comment."""
    source = inspect.getsource(exit_codes)
    rows = sorted(re.findall(r"^EXIT_\w+ = (\d+)  # (.+)$", source, re.MULTILINE), key=lambda row: int(row[0]))
    return ["| code | meaning |", "|---|---|", "| 0 | done |", *(f"| {code} | {meaning} |" for code, meaning in rows)]


def parameter_lines(command: Any) -> Iterator[str]:
    """Yield a line for each argument and option of a command."""
    for parameter in command.params:
        names = ", ".join(f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = f"`{parameter.name.upper()}`"
        shown = (
            ""
            if parameter.default in (None, False, True, ()) or parameter.required
            else f" Default: {parameter.default}."
        )
        yield f"- {names}: {parameter.help}{shown}"


def command_lines(name: str, command: Any) -> Iterator[str]:
    """Yield the section of one command."""
    text, _, example = inspect.cleandoc(command.help or "").rpartition("Example: ")
    yield from (f"## lab {name}", "")
    for paragraph in filter(None, text.strip().split("\n\n")):
        preformatted = paragraph.startswith("\b\n")
        yield from (["```", paragraph[2:], "```", ""] if preformatted else [paragraph, ""])
    yield from ("```sh", example.strip(), "```", "")
    if parameters := list(parameter_lines(command)):
        yield from (*parameters, "")


def page() -> str:
    """Return the whole page."""
    lines = [
        "# Commands",
        "",
        "Generated from the commands by `python -m docs.generate.commands`; a test compares the two. Each command prints the",
        "same with `--help`. Exit codes of all commands:",
        "",
        *exit_code_lines(),
        "",
        "A mistake is reported on one line of the standard error: what was wrong, then the command that corrects it.",
        "",
    ]
    for name, command in commands().items():
        lines += command_lines(name, command)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
