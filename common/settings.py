"""Values that a user set, as they are typed on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def set_options(given: Mapping[str, Mapping[str, Any]], phases: Sequence[str]) -> list[str]:
    """Return ["--set", "p2.n_test=8"]; a value that all `phases` share is there once, without a phase.

    Args:
        given: values by phase and name.
        phases: all phases of the chain.
    """
    found: dict[str, None] = {}
    for phase, values in given.items():
        for name, value in values.items():
            shared = all((name, value) in given.get(p, {}).items() for p in phases)
            found[f"{'' if shared else f'{phase}.'}{name}={json.dumps(value)}"] = None
    return [word for setting in found for word in ("--set", setting)]
