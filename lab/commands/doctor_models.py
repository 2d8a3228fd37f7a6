"""Checks of `lab doctor`: the models on this machine, and whether each can be loaded and asked."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from common.errors import LabError
from experiments.backends import catalog, conversions, weights
from lab.checks import Check, check


def models() -> Iterator[Check]:
    """Check the models in packages, and the files of all others; nothing is loaded."""
    for name, package in {**catalog.EMBEDDERS, **catalog.LANGUAGE_MODELS}.items():
        try:
            there = catalog.digest_of(name) != catalog.UNAVAILABLE
        except LabError:
            there = False
        yield check("model", name, there, "comes in a package", package.install)
    for name in catalog.local_models():
        if name not in catalog.LANGUAGE_MODELS:
            yield _own(name)
    if left := conversions.unfinished():
        why = f"{len(left)} conversions of weights were stopped, and take room: {left[0].name}"
        yield check("model", "unfinished conversions", False, why, f"rm -r {shlex.join(map(str, left))}")


def _own(name: str) -> Check:
    """Check the files of a model that the user has put or downloaded here."""
    try:
        if not name.startswith("ollama/") and (fault := weights.fault(name)):
            return check("model", name, False, fault.what, fault.mend)
    except OSError as error:
        mend = f"ls -l {shlex.quote(str(error.filename))}"
        return check("model", name, False, f"{error.filename}: {error.strerror}", mend)
    try:
        catalog.backend(name).check_chat(name)
    except LabError as error:
        return Check("model", name, "found", f"optional; {error.what}; {error.mend}")
    return Check("model", name, "found", "optional")
