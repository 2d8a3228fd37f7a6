"""Write docs/capability_report.md from the report's model: python -m docs.generate.capability_report > docs/capability_report.md"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from common.limits import MAX_REPORT_BYTES
from workpools.assess import CLOCK_SLACK
from workpools.report import FURTHEST_S, LONGEST, MOST, VERSION, CapabilityReport
from workpools.tiers import NEEDS, TIER_PROFILES

WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}

HEAD = """\
# capability_report_<host>.json

The report says what a host can do. `lab assess` and the flow `assess-host` write it into LAB_HOME and into `hosts/` of the
results store, where the coordinator reads it. `lab assess --from FILE` registers a report that was written elsewhere.

This page is generated from the model in workpools/report.py: `python -m docs.generate.capability_report > docs/capability_report.md`.
"""

TAIL = """\
## What is refused

A report is refused, and the message names the field, if it is over {size} bytes or not JSON, lacks a field that has no
default, has a field that is not in the table, a value of another type or out of range, a host name that is not one
lowercase label (so never a path), or a `created_at` more than {minutes} minutes in the future. No number is over {most:.0e}
(`clock_offset_s`: {furthest:.0e} either way) or infinite, no text is longer than {longest} characters, and no list has more
than {longest} entries.

## Older layouts

- Version 1 is refused; `lab assess` on that machine writes today's.
- The two layouts of the public assessment scripts from before this project are read: the basic one, with
  `capabilities.prerequisites`, and the enhanced one, with `results.eligibility.machine_tier`. Memory and disk are converted
  from GiB to GB; the tier follows from them as for every host; its system's name becomes the host's, as of any machine; a time
  without a zone is read as the earliest instant that it can mean. `matrix_gflops` and `disk_write_mb_s` are taken from the
  enhanced layout; its other speeds measure something else and are ignored, as all other
  fields are. Its engines are those that it saw working.
"""


def page() -> str:
    """The page as it must be in docs/."""
    lines = [
        HEAD,
        f"## Version {VERSION}",
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
        *_rows(),
        "",
    ]
    lines += [
        "## Tiers",
        "",
        "| tier | is given to a host that fits | RAM available, GB | disk free, GB |",
        "|---|---|---|---|",
    ]
    for tier, profiles in TIER_PROFILES.items():
        lines += [f"| {tier} | {p} | {NEEDS[p].ram_gb:g} | {NEEDS[p].disk_gb:g} |" for p in profiles]
    lines += ["", "A host that fits none is `unfit`. The highest tier that fits is its tier.", ""]
    minutes = CLOCK_SLACK.seconds // 60
    return (
        "\n".join(lines)
        + "\n"
        + TAIL.format(size=MAX_REPORT_BYTES, minutes=minutes, most=MOST, furthest=FURTHEST_S, longest=LONGEST)
    )


def _rows() -> Iterator[str]:
    for name, field in CapabilityReport.model_fields.items():
        default = "" if field.is_required() else "null" if field.default is None else f"{field.default}"
        least = next((f", at least {m.ge}" for m in field.metadata if getattr(m, "ge", -1) >= 0), "")
        over = next((f", over {m.gt}" for m in field.metadata if hasattr(m, "gt")), "")
        yield f"| `{name}` | {_words(field.annotation)}{least}{over} | {default} | {field.description} |"


def _words(annotation: Any) -> str:
    """A type in words."""
    if annotation in WORDS:
        return WORDS[annotation]
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inside[0])
    if origin is list:
        return f"list of {_words(inside[0])}"
    if origin is dict:
        return f"object of {_words(inside[1])} by name"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, inside))
    if inside:  # a choice
        return " or ".join(f"`{v}`" for v in inside)
    return "time in ISO 8601 with its zone"


if __name__ == "__main__":
    print(page(), end="")
