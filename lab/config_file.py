"""The values of a run in a TOML file: `lab config > lab.toml`, then `lab pipeline --config lab.toml`."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import LabError
from common.text import printable
from experiments.contract import PhaseConfig
from experiments.registry import PHASES, configure, get_phase

MAX_BYTES = 1_000_000  # a file of values has some kB
ALL = "all"  # the table with values that all phases share


class ConfigFile(BaseModel):
    """The content of a file. Values of phases are checked with the plan, which knows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: str | None = Field(None, description="smoke, demo or full")
    domain: str | None = Field(None, description="big_o or equations; with data it is jsonl")
    data: str | None = Field(None, description="your own labelled problems; a relative path begins at this file")
    mode: Literal["split", "replicate"] | None = Field(
        None, description="split: each unit runs once; replicate: on every host that can"
    )
    until: str | None = Field(None, description="the last phase to run")
    override: str | None = Field(None, description="reason to go on after a gate that does not say PASS")
    on: dict[str, str] = Field(default_factory=dict, description="host or tier of a phase")
    values: dict[str, dict[str, Any]] = Field(default_factory=dict, description="values by phase, or by the word all")
    digest: str = Field("", description="SHA-256 of the file")

    def settings(self) -> dict[str, Any]:
        """Return the values as the option --set has them: {"p2.n_test": 8, "model": ...}."""
        found = dict(self.values.get(ALL, {}))
        for phase, own in self.values.items():
            if phase != ALL:
                found |= {f"{phase}.{name}": value for name, value in own.items()}
        return found


def read_config(path: Path) -> ConfigFile:
    """Return the content of a file.

    Raises:
        LabError: it cannot be read, is no TOML, or has a table, key or type that no file may have.
    """
    mend = "lab config prints a file to start from"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise LabError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB, so it is no file of values", mend)
        parsed = tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LabError(f"{path} is no TOML: {error}", mend) from None
    tables = {key: parsed.pop(key) for key in (ALL, *PHASES) if key in parsed}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise LabError(
                f"{path}: {name} is no table but {printable(str(table))}", f"write [{name}] above its values"
            )
    _only_shared(path, tables.get(ALL, {}))
    if taken := sorted({"values", "digest"} & parsed.keys()):
        raise LabError(f"{path} has the unknown key {taken[0]}", mend)
    try:
        found = ConfigFile(values=tables, digest=hashlib.sha256(content).hexdigest(), **parsed)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = "unknown key" if first["type"] == "extra_forbidden" else f"wrong value {first['input']!r}"
        raise LabError(printable(f"{path}: {what} at {key}"), mend) from None
    if found.data is None:
        return found
    return found.model_copy(update={"data": str(path.resolve().parent / found.data)})


def _only_shared(path: Path, values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in PhaseConfig.model_fields:
            raise LabError(
                f"{path}: not all phases have {name}", f"write it below the phase that has it: [p2] {name} = ..."
            )


def example(scale: str) -> str:
    """Return a file to start from: every value with its default and what it is, as comments."""
    return "\n".join(_lines(scale)) + "\n"


def _lines(scale: str) -> Iterator[str]:
    yield "# Values of a run; remove the # before what you want to set. Then: lab pipeline --config FILE"
    yield "# An option of the command line has precedence over its value here."
    yield ""
    yield f'scale = "{scale}"  # {ConfigFile.model_fields["scale"].description}'
    for name, default in (("domain", "big_o"), ("data", "problems.jsonl"), ("mode", "split"), ("until", "e2")):
        yield f'# {name} = "{default}"  # {ConfigFile.model_fields[name].description}'
    yield f'# override = "why"  # {ConfigFile.model_fields["override"].description}'
    yield ""
    yield "# [on]"
    yield '# p1 = "weak"  # host or tier that runs the phase'
    configs = {phase: configure(phase, scale) for phase in PHASES}
    first = next(iter(configs.values()))
    # Where the scale gives phases different values of a shared field, each phase has its own line.
    equal = {
        f: v for f, v in PhaseConfig.model_fields.items() if len({repr(getattr(c, f)) for c in configs.values()}) == 1
    }
    yield from _table(ALL, "all phases", first, equal)
    for phase, config in configs.items():
        own = {name: field for name, field in type(config).model_fields.items() if name not in equal}
        yield from _table(phase, get_phase(phase).TITLE, config, own)


def _table(name: str, title: str, config: PhaseConfig, fields: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"[{name}]  # {title}"
    values = config.model_dump(mode="json")
    for key, field in fields.items():
        if key == "domain" or values[key] is None:
            continue
        yield f"# {key} = {_toml(values[key])}" + (f"  # {field.description}" if field.description else "")


def _toml(value: Any) -> str:
    """Return a value in TOML, whose numbers, truths and lists are those of JSON, and its strings all but two kinds."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(own)}" for key, own in value.items() if own is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # no halves of a pair, no bare DEL
