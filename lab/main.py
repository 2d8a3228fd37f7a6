"""The `lab` command: its groups, and the one place where a user's mistake becomes one line and exit code 2."""

from __future__ import annotations

import sys

import typer

from experiments.errors import LabError
from lab import commands_chain, commands_machine

app = typer.Typer(
    name="lab", add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Memory experiments over unequal machines.", context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
commands_machine.register(app)
commands_chain.register(app)

OVERVIEW = """\
lab runs a chain of language-model memory experiments over your machines.

  lab demo              everything once: set up, run all six phases, show the results
  lab up                start server, pools, deployments, workers and the page
  lab pipeline          run the phases P1 P2 P3 E0 E1 E2 through Prefect
  lab run p1            run one phase in this process, with no server
  lab results           the verdicts of the last run
  lab assess            measure this machine and name its tier
  lab pools create      make the work pools weak, medium, strong and coordinator
  lab collect           take delivered bundles into the warehouse
  lab status            what runs, on which port
  lab down              stop what lab up started

Each has --help with an example."""


@app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Memory experiments over unequal machines."""
    if context.invoked_subcommand is None:
        print(OVERVIEW)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 the user's mistake, 3 a gate said no."""
    try:
        app(prog_name="lab")
    except LabError as error:
        text = str(error)
        print(text if text.endswith((".", ")")) else f"{text}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
