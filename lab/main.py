"""The `lab` command: its groups, and the one place where a user's mistake becomes one line and exit code 2."""

from __future__ import annotations

import sys
from typing import Any

import typer

from common.errors import LabError
from common.text import printable
from lab.commands import (
    audit,
    backup,
    data,
    delivery,
    doctor,
    hosts,
    invite,
    keys,
    machine,
    pipeline,
    plan,
    report,
    run,
    service,
    warehouse,
)

EXIT_MISTAKE = 2
UsageError: Any = typer.BadParameter.__mro__[1]  # of whichever click this typer brings

app = typer.Typer(
    name="lab",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Memory experiments over unequal machines.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
machine.register(app)
run.register(app)
pipeline.register(app)
data.register(app)
plan.register(app)
hosts.register(app)
doctor.register(app)
keys.register(app)
warehouse.register(app)
backup.register(app)
delivery.register(app)
report.register(app)
invite.register(app)
service.register(app)
audit.register(app)

OVERVIEW = """\
lab runs a chain of language-model memory experiments over your machines.

  lab demo               everything once: set up, run all six phases, show the results
  lab up                 start server, pools, deployments, workers and the page
  lab pipeline           run the phases P1 P2 P3 E0 E1 E2 through Prefect
  lab plan               how long each phase will take, on which machine
  lab run p1             run one phase in this process, with no server
  lab results            the verdicts of the last run
  lab report             a run as one file that opens anywhere
  lab audit              run some finished units again elsewhere, and compare
  lab data check         say what is wrong with your own labelled data
  lab data make          write generated problems as a file
  lab assess             measure this machine and name its tier
  lab doctor             what this machine lacks, and the commands that mend it
  lab join               let this machine work for a Prefect server elsewhere
  lab invite             what to type on other machines, and the key they are asked for
  lab hosts              the machines: tier, status, what runs there
  lab drain              let a machine finish what it runs and take no more
  lab undrain            give a drained machine work again
  lab redistribute       give up what a dead machine had under way
  lab pools create       make the work pools weak, medium, strong and coordinator
  lab collect            take delivered bundles into the warehouse
  lab verify             prove that the warehouse holds what was computed
  lab warehouse merge    take in another coordinator's warehouse
  lab warehouse rebuild  build the warehouse anew from bundles and records
  lab backup             write bundles and records into one file
  lab restore            fill an empty LAB_HOME from a backup, and verify it
  lab clean              take away what is old and needed by nothing
  lab export             write a view of the results into a file
  lab keys add           let a machine sign its results
  lab keys list          which machines sign, and whether they must
  lab keys remove        forget a machine's key
  lab keys require       refuse results that are not signed
  lab sync               deliver what waits in this machine's spool
  lab spool              what waits here to be delivered, since when and why
  lab inbox serve        take results from machines that deliver over Quack
  lab status             what runs, on which port
  lab service install    start this machine's part with the machine (--dry-run shows the files)
  lab down               stop what lab up started

Each has --help with an example."""


@app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Memory experiments over unequal machines."""
    if context.invoked_subcommand is None:
        print(OVERVIEW)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 the user's mistake, 3 a gate said no."""
    try:
        code = app(prog_name="lab", standalone_mode=False)
    except LabError as error:
        code = mistake(str(error))
    except UsageError as error:
        path = error.ctx.command_path if error.ctx else "lab"
        code = mistake(f"{error.format_message().rstrip('.')}. {path} --help")
    except OSError as error:
        # A file or folder that the user named; an OSError without a name is a defect, and shows where.
        if error.filename is None:
            raise
        code = mistake(f"{error.filename}: {error.strerror}. Check LAB_HOME, or the path given")
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def mistake(text: str) -> int:
    """Print what was wrong and what mends it, on one line; no full stop at the end, where a command stands to be copied."""
    print(printable(" ".join(text.split())), file=sys.stderr)
    return EXIT_MISTAKE
