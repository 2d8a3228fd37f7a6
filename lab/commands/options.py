"""Options that several commands share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from common.errors import LabError
from experiments.contract import PhaseConfig
from experiments.registry import PHASES, module_of
from flows.plan import checked_why
from lab.config_file import ConfigFile, read_config
from warehouse.database.record_files import sources
from warehouse.paths import Paths
from workpools.roles import checked_pins, parse_pins

NO_SPEEDS = "Do not measure speeds; the plan then assumes speed 1, that of the reference machine."
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Port = Annotated[int, typer.Option(help="Port of the Prefect server.")]
AppPort = Annotated[int, typer.Option(help="Port of the page.")]
Scale = Annotated[str, typer.Option(help="smoke, demo or full.")]
Override = Annotated[
    str | None, typer.Option(help="Reason to go on after a gate that does not say PASS; it is recorded.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE, the value as JSON or plain text; repeatable.")
]
AllowLeakage = Annotated[
    str | None, typer.Option(help="Reason to use data that leak; it is recorded, and every result is marked.")
]
Domain = Annotated[str | None, typer.Option(help="big_o, equations, or jsonl with --data.")]
Data = Annotated[Path | None, typer.Option(help="Your own labelled problems, one JSON object a line (lab data check).")]
Mode = Literal["split", "replicate"]
Config = Annotated[Path | None, typer.Option(help="A TOML file of values (lab config); options have precedence.")]
On = Annotated[
    list[str] | None, typer.Option("--on", help="PHASE=HOST or PHASE=TIER: where a phase runs, as p1=pi-4; repeatable.")
]


def parse_settings(given: list[str] | None) -> dict[str, Any]:
    """Return {"n_test": 20} for ["n_test=20"]; LabError for an entry without "="."""
    values: dict[str, Any] = {}
    for entry in given or []:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise LabError(f"--set {entry!r} is not KEY=VALUE", "for example --set n_test=20")
        try:
            values[key] = json.loads(value)
        except (ValueError, RecursionError):
            values[key] = value
    return values


def allowed(why: str | None) -> dict[str, Any]:
    """Return the setting that lets every phase use data that leak."""
    return {} if checked_why(why, "--allow-leakage") is None else {"allow_leakage": why}


def settings_of(
    given: list[str] | None, domain: str | None = None, data: Path | None = None, allow_leakage: str | None = None
) -> dict[str, Any]:
    """Return all values that a command line sets, by key; LabError if two do not fit together."""
    values = parse_settings(given) | allowed(allow_leakage)
    if domain is None and data is None:
        return values
    if "domain" in values:
        raise LabError(f"the domain is given twice, --set domain={values['domain']} as well", "leave one of them out")
    if data is not None and domain not in (None, "jsonl"):
        raise LabError(f"--domain {domain} makes its own problems and reads no --data", "--domain jsonl")
    if data is None and domain == "jsonl":
        raise LabError("--domain jsonl needs a file", "--domain jsonl --data problems.jsonl")
    return values | {"domain": domain if data is None else f"jsonl:{data.resolve()}"}


@dataclass(frozen=True)
class Chosen:
    """The run that a command line and its file of values ask for."""

    scale: str
    given: dict[str, dict[str, Any]]  # values by phase
    pins: dict[str, str]  # the host or tier that gets a phase, by phase
    file: ConfigFile


def chosen(
    context: typer.Context,
    config: Path | None,
    settings: list[str] | None,
    domain: str | None,
    data: Path | None,
    on: list[str] | None,
    allow_leakage: str | None = None,
) -> Chosen:
    """Return the values of a file and of the options of a command; an option that was given has precedence.

    Args:
        context: of the command, which has the option --scale.
        config: the file, if there is one.

    Raises:
        LabError: the file cannot be read, or values do not fit together.
    """
    file = ConfigFile() if config is None else read_config(config)
    if domain is None and data is None:
        domain, data = file.domain, None if file.data is None else Path(file.data)
    values = file.settings() | settings_of(settings, domain, data, allow_leakage)
    scale = context.params["scale"] if was_given(context, "scale") or file.scale is None else file.scale
    pins = parse_pins(on, list(PHASES)) if on else checked_pins(file.on, list(PHASES))
    return Chosen(scale, by_phase(values), pins, file)


def was_given(context: typer.Context, name: str) -> bool:
    """Return True if an option was written on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def by_phase(values: dict[str, Any], own: str | None = None) -> dict[str, dict[str, Any]]:
    """Return {"p2": {"n_test": 8}} for {"p2.n_test": 8}, or for {"n_test": 8} if `own` is p2.

    A field that all phases share is given to each of them; a key that names no known phase is a LabError.
    """
    shared = {key: value for key, value in values.items() if key in PhaseConfig.model_fields}
    found: dict[str, dict[str, Any]] = {phase: dict(shared) for phase in PHASES} if shared else {}
    for key, value in values.items():
        if key in shared:
            continue
        phase, dot, name = key.partition(".")
        if not dot and own is None:
            raise LabError(
                f"--set {key} does not say which phase it is for", f"write --set p2.{key}={json.dumps(value)}"
            )
        phase, name = (phase, name) if dot else (str(own), key)
        module_of(phase)
        found.setdefault(phase, {})[name] = value
    return found


def paths_with_warehouse() -> Paths:
    """Return this machine's paths; LabError if there is no warehouse."""
    paths = Paths.local()
    if not paths.warehouse.exists() and not sources(paths):
        raise LabError(f"there is no warehouse in {paths.home}", "make demo, or lab run p1 --scale smoke")
    return paths
