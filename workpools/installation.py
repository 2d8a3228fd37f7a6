"""The installation that a machine must have in common with its coordinator, and the coordinator's, read from its server."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from common.environment import HOST_PATTERN, PROJECT, code_commit, host_name, package_versions, release
from common.errors import LabError
from experiments.protocol.code_version import code_version
from experiments.registry import PHASES

VARIABLE = "coordinator"  # the Prefect variable that lab up writes; joined machines can read it, and no more
COUNTING = ("torch", "transformers", "mlx", "mlx-lm", "bitsandbytes")  # docs/design.md, "Precision": these move numbers
DOMAIN = "big_o"  # of the code that is compared; that of other domains is compared when their units start
SHA = re.compile(r"[0-9a-f]{40}")
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,79}$")]


class Installation(BaseModel):
    """The code and the packages of a machine."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    host: Annotated[str, StringConstraints(pattern=f"^{HOST_PATTERN.pattern}$")]
    commit: Word  # git's SHA-1, or wheel-VERSION
    dirty: bool  # the checkout has changes that the commit does not have
    version: Word  # of this project
    code: dict[Word, Word] = Field(max_length=100)  # by phase, the hash of what decides its trials
    packages: dict[Word, Word] = Field(max_length=100)  # versions of those in COUNTING that are installed


def installation() -> Installation:
    """Return this machine's; hashing the code takes about two seconds."""
    commit, versions = code_commit(), package_versions()
    return Installation(
        host=host_name(),
        commit=commit.sha,
        dirty=commit.dirty,
        version=metadata.version(PROJECT),
        code={phase: code_version(phase, DOMAIN) for phase in PHASES},
        packages={name: versions[name] for name in COUNTING if name in versions},
    )


def publish(client: Any, own: Installation) -> None:
    """Let the server tell joining machines what this coordinator has."""
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    value = own.model_dump(mode="json")
    if client.read_variable_by_name(VARIABLE) is None:
        client.create_variable(VariableCreate(name=VARIABLE, value=value))
    else:
        client.update_variable(VariableUpdate(name=VARIABLE, value=value))


def published(client: Any) -> Installation | None:
    """Return the coordinator's; None if its server was not started by `lab up`, or by an older one.

    Raises:
        LabError: the variable holds something else.
    """
    found = client.read_variable_by_name(VARIABLE)
    if found is None:
        return None
    try:
        return Installation.model_validate(found.value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        wrong = f"the Prefect variable {VARIABLE} is not what lab up writes: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise LabError(wrong, "on the coordinator: lab up") from None


def differences(own: Installation, theirs: Installation) -> list[str]:
    """Return what of this machine's installation is another than the coordinator's, each in a few words."""
    found = []
    if SHA.fullmatch(own.commit) and SHA.fullmatch(theirs.commit):
        if own.commit != theirs.commit:
            found.append(f"commit {own.commit[:12]}, there {theirs.commit[:12]}")
    elif own.version != theirs.version:
        found.append(f"version {own.version}, there {theirs.version}")
    other = [phase for phase, code in theirs.code.items() if own.code.get(phase) != code]
    if other and not found:
        changed = " (it has changes that are in no commit)" if own.dirty or theirs.dirty else ""
        found.append(f"other code of {', '.join(other)}{changed}")
    for name, version in theirs.packages.items():
        if name in own.packages and name in COUNTING and release(own.packages[name]) != release(version):
            found.append(f"{name} {own.packages[name]}, there {version}")
    return found
