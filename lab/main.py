"""The `lab` command: its subcommands, imported when they are called, and its exit codes."""

from __future__ import annotations

import ast
import codecs
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from common import proxies
from common.errors import LabError
from common.system_errors import explained, system_error
from common.text import printable
from lab.exit_codes import EXIT_INTERRUPTED, EXIT_MISTAKE
from lab.own_settings import keep_others_out

# Each command and its function, as "module of lab.commands:function"; two words are a group and its command.
COMMANDS = {
    "demo": "pipeline:demo",
    "up": "machine:up",
    "status": "machine:status",
    "down": "machine:down",
    "pipeline": "pipeline:pipeline",
    "stop": "pipeline:stop",
    "plan": "plan:plan",
    "config": "pipeline:config",
    "run": "run:run",
    "robust": "robust:robust",
    "results": "pipeline:results",
    "report": "report:report",
    "audit": "audit:audit",
    "data check": "data:check",
    "data make": "data:make",
    "assess": "machine:assess",
    "doctor": "doctor:doctor",
    "join": "hosts:join",
    "invite": "invite:invite",
    "hosts": "hosts:hosts",
    "drain": "hosts:drain",
    "undrain": "hosts:undrain",
    "forget": "hosts:forget",
    "redistribute": "hosts:redistribute",
    "pools create": "machine:pools_create",
    "collect": "pipeline:collect",
    "sync": "delivery:sync",
    "spool": "delivery:spool",
    "inbox serve": "delivery:serve",
    "verify": "warehouse:verify",
    "reject": "warehouse:reject",
    "warehouse rebuild": "warehouse:rebuild",
    "warehouse merge": "warehouse:merge",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "clean": "backup:clean",
    "export": "backup:export",
    "keys add": "keys:add",
    "keys list": "keys:list_keys",
    "keys remove": "keys:remove",
    "keys require": "keys:require",
    "service install": "service:install",
}
GROUPS = {
    "data": "Check your own data, or write generated problems.",
    "pools": "Create Prefect's work pools.",
    "inbox": "Receive results over DuckDB's Quack protocol.",
    "warehouse": "Rebuild or merge the whole warehouse.",
    "keys": "Manage the keys that sign results.",
    "service": "Start lab when the machine starts.",
}
FIRST = ("demo", "up", "pipeline", "plan", "run", "results", "report", "data check", "join", "doctor")
ESCAPED = "escaped"  # name of the handler of characters that an output cannot show
LAST_SHORT = 0xFFFF  # of characters that are written with four digits
UsageError: Any = typer.BadParameter.__mro__[1]  # of whichever click this typer brings


@cache
def _docstrings(module: str) -> dict[str, str]:
    """Return the docstrings of a module's functions without importing it, which can take a second."""
    tree = ast.parse((Path(__file__).parent / "commands" / f"{module}.py").read_text(encoding="utf-8"))
    return {n.name: ast.get_docstring(n) or "" for n in tree.body if isinstance(n, ast.FunctionDef)}


def summary(command: str) -> str:
    """Return the first paragraph of a command's help, on one line."""
    module, _, function = COMMANDS[command].partition(":")
    return " ".join(_docstrings(module)[function].partition("\n\n")[0].split())


class Commands(Mapping[str, Any]):
    """The commands of `lab` (prefix "") or of a group (prefix "data "); each is imported when it is looked up."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.full_names = {n.removeprefix(prefix): n for n in COMMANDS if n.startswith(prefix)}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.split()[0] for name in self.full_names))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> Any:
        if not self.prefix and name in GROUPS:
            return LazyGroup(name=name, help=GROUPS[name])
        module, _, function = COMMANDS[self.prefix + name].partition(":")
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(name)(getattr(import_module(f"lab.commands.{module}"), function))
        return typer.main.get_command(one)


class LazyGroup(TyperGroup):
    """A group that imports a command only when it is called, so that `lab --help` loads no library."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.rich_markup_mode = None
        self.commands: Any = Commands(f"{self.name} " if self.name in GROUPS else "")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the overview if there is nothing to parse: parsing loads pydantic, which takes 0.1 s."""
        if not args and not self.commands.prefix:
            print(overview())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of COMMANDS."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with the first paragraph of its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(shown, summary(name)) for shown, name in self.commands.full_names.items()])


app = typer.Typer(
    name="lab",
    cls=LazyGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    """Run a chain of language-model memory experiments over your machines."""


def overview() -> str:
    """Return the text of `lab` alone: the commands that matter."""
    first = "\n".join(f"  lab {name:<12} {summary(name)}" for name in FIRST)
    end = "lab --help lists all commands; lab COMMAND --help explains one, with an example."
    return f"lab runs a chain of language-model memory experiments over your machines.\n\n{first}\n\n{end}"


def main() -> None:
    """Run the command line; the exit codes are those of lab/exit_codes.py."""
    escape_output()
    try:
        proxies.prepare()
        keep_others_out()
        code = app(prog_name="lab", standalone_mode=False)
        _flush()
    except LabError as error:
        code = mistake(str(error))
    except UsageError as error:
        path = error.ctx.command_path if error.ctx else "lab"
        code = mistake(f"{error.format_message().rstrip('.?')}. {path} --help")
    except UnicodeEncodeError as error:  # no output fails with it, so it is a name that a user gave
        code = mistake(f"{_word(error)} is not a name in UTF-8. Rename it, or give another")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        _remove_own_conversions()
    except Exception as error:
        # Anything else than what the system refuses is a defect, and shows where.
        _remove_own_conversions()
        if (refused := system_error(error)) is None:
            raise
        code = mistake(str(explained(refused)))
    sys.exit(code)


def escape_output() -> None:
    """Write what the terminal's encoding lacks as \\u00e9, which JSON and TOML read as well, instead of failing."""
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _word(error: UnicodeEncodeError) -> str:
    """Return the word that cannot be encoded; the whole may be a statement of SQL."""
    begin = re.split(r"[\s'\"]", error.object[: error.start])[-1]
    return begin + re.split(r"[\s'\"]", error.object[error.start :])[0]


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = map(ord, error.object[error.start : error.end])
    return "".join(f"\\u{c:04x}" if c <= LAST_SHORT else f"\\U{c:08x}" for c in lacking), error.end


def _flush() -> None:
    """Write the rest of the output; Python would report an error only at its end, with a traceback.

    Raises:
        OSError: it cannot be written.
    """
    if sys.stdout is None:  # closed by whoever started this
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        # Or Python tries again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whoever reads the output has seen enough
            raise


def _remove_own_conversions() -> None:
    """Remove the weights that this process was converting when it was interrupted."""
    from experiments.backends.conversions import remove_of

    with suppress(LabError):  # no valid LAB_HOME
        remove_of(os.getpid())


def mistake(text: str) -> int:
    """Print an error on one line, with no full stop at the end, where a command stands to be copied; return the exit code."""
    print(printable(" ".join(text.split())), file=sys.stderr)
    return EXIT_MISTAKE
