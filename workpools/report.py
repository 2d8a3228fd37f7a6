"""The capability report: its fields and their validation. docs/capability_report.md is generated from it.

Reports come from other machines. Whatever reads one, reads it through this model: the inbox, the collector, the plan, the page.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from common.environment import HOST_PATTERN
from common.errors import LabError
from workpools.tiers import Tier

VERSION = 2
MEND = "lab assess, on that machine"
# Far above what any machine has, so that no sum or product of them overflows.
MOST = 1e9  # of any quantity: GB, operations, texts, tokens; cores too
FURTHEST_S = 1e11  # of a clock from the server's: 3,000 years
LONGEST = 1_000  # characters of a text, and entries of a list
Read = TypeVar("Read", bound=BaseModel)
Text = Annotated[str, Field(max_length=LONGEST)]
Texts = Annotated[list[Text], Field(max_length=LONGEST)]


def _host(value: str) -> str:
    if not HOST_PATTERN.fullmatch(value):
        raise ValueError("a host name has lowercase letters, digits and dashes only")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a time that UTC can express") from None


class CapabilityReport(BaseModel):
    """The content of capability_report_<host>.json. None is a value that was not measured or is not known, never a zero."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    report_version: Literal[2] = Field(2, description="of this layout")
    host: Annotated[str, AfterValidator(_host)] = Field(description="name of the host in every table and file name")
    created_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(
        description="when the host was assessed, with time zone"
    )
    os: Text = Field(description="operating system and its release")
    architecture: Text = Field(description="of the processor, as in x86_64 or aarch64")
    python: Text = Field(description="version of Python")
    versions: dict[Text, Text] = Field(
        max_length=LONGEST, description="versions of the installed packages that can change a result"
    )
    cores_physical: int | None = Field(
        ge=1, le=int(MOST), description="processor cores; null where the system does not say"
    )
    cores_logical: int = Field(ge=1, le=int(MOST), description="hardware threads")
    ram_total_gb: float | None = Field(gt=0, le=MOST, description="memory of the machine, GB (10^9 bytes)")
    ram_available_gb: float | None = Field(
        ge=0,
        le=MOST,
        description="memory available, GB: the least of what the system and a container's limit leave, and the owner lends",
    )
    disk_free_gb: float | None = Field(ge=0, le=MOST, description="free on the disk of LAB_HOME, GB")
    gpus: Texts | None = Field(
        description="graphics processors by name, with memory where the driver reports it; null where none is known"
    )
    engines: Texts = Field(
        description="installed or answering: embedder, language_model, lora, bitsandbytes, mlx, ollama; phases ask for them"
    )
    matrix_gflops: float | None = Field(
        None, ge=0, le=MOST, description="float32 matrix product, 10^9 operations a second; best of several"
    )
    embedding_texts_per_s: float | None = Field(
        None, ge=0, le=MOST, description="short texts a second through all-MiniLM-L6-v2, one at a time"
    )
    disk_write_mb_s: float | None = Field(
        None,
        ge=0,
        le=MOST,
        description="writing to the disk of LAB_HOME and waiting until it is written, MB (10^6 bytes) a second",
    )
    tier: Tier = Field(description="the highest tier that the memory of the idle machine and free disk allow")
    profiles: dict[Text, bool] = Field(max_length=LONGEST, description="kinds of work that they allow")
    reasons: Texts = Field(
        description="why the tier is no higher, limits on memory, what is not installed, not known or not measured, a wrong clock"
    )
    ram_limit_gb: float | None = Field(
        None, ge=0, le=MOST, description="memory limit of the container or of LAB_RAM_GB, GB; null without one"
    )
    ram_idle_gb: float | None = Field(
        None, ge=0, le=MOST, description="most memory that was available in the assessments of a month, GB; the tier's"
    )
    ram_idle_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        None, description="when it was, with time zone"
    )
    cores_usable: float | None = Field(
        None, gt=0, le=MOST, description="hardware threads that affinity and a container's quota leave to this program"
    )
    cpu_flags: Texts | None = Field(
        None, description="instruction sets that decide how fast a model computes, named as Linux names them"
    )
    unmet_requirements: Texts | None = Field(
        None, description="requirements of the tier's extra that are not met; null where they are not known"
    )
    prefill_tokens_per_s: float | None = Field(
        None, ge=0, le=MOST, description="tokens of a prompt a second through the default language model, in float32"
    )
    prefill_bfloat16_tokens_per_s: float | None = Field(
        None, ge=0, le=MOST, description="the same in bfloat16, which a plan may choose (--set precision=auto)"
    )
    speeds_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        None,
        description="when the speeds were measured, with time zone; an assessment that measures none has the last ones",
    )
    ollama_models: Texts | None = Field(None, description="models that Ollama has; null when it does not answer")
    models: Texts | None = Field(
        None, description="language models that can be loaded, by the names that phases take; null where not known"
    )
    mlx_lora: Text | None = Field(
        None, description="not made any more, since the plan says what trains; reports of earlier versions have it"
    )
    clock_offset_s: float | None = Field(
        None,
        ge=-FURTHEST_S,
        le=FURTHEST_S,
        description="seconds by which this host's clock is ahead of the Prefect server's, good to about two; "
        "null when no server answers",
    )


def validated(model: type[Read], content: bytes) -> Read:
    """Parse JSON into `model`; raise LabError with the first field that is missing, unknown or wrong, and its value."""
    return naming_the_field(lambda: model.model_validate_json(content))


def naming_the_field(read: Callable[[], Read]) -> Read:
    """Return read(); turn its ValidationError into a LabError with the first field that is missing, unknown or wrong."""
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise not_json(first["msg"]) from None
        where = map(str, first["loc"])
        seen = "" if first["type"] == "missing" else f" = {shown(first['input'])}"
        raise refused(".".join(where), seen, first["msg"].removeprefix("Value error, ")) from None


def shown(value: object) -> str:
    """Return a value of another machine in at most 80 characters; a whole number may have too many digits to print."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "a number of thousands of digits"


def refused(field: str, seen: str, why: str) -> LabError:
    """Return the error that names a field; names and values come from another machine, so they are quoted and cut."""
    name = f": {field!r:.80}" if field else ""
    return LabError(f"capability report{name}{seen}: {why:.200}", MEND)


def not_json(why: str) -> LabError:
    """Return the error for content that is not JSON."""
    return LabError(f"capability report is not JSON: {why}", MEND)
