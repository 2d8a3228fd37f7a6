"""Files that go with the code and are no code: prefect.yaml, and the page's settings in .streamlit."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from experiments.environment import PROJECT, checkout
from experiments.errors import LabError


def folder() -> Path:
    """The checkout, or where the wheel put them.

    Raises:
        LabError: they are in neither.
    """
    if root := checkout():
        return root
    try:
        files = metadata.files(PROJECT) or []
    except metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(f.locate())).resolve() for f in files if f.name == "prefect.yaml"), None)
    if found is None or not found.is_file():
        raise LabError("prefect.yaml is not here", f"pip install --force-reinstall {PROJECT}, or work in a checkout")
    return found.parent
