"""docs/licences.md: under which terms the project's packages and models come, held to what is installed."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.generate import licences
from experiments.backends.catalog import EMBEDDERS, LANGUAGE_MODELS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "licences.md"
# Terms that a distributor has to think about; each is here on purpose, with the reason.
KNOWN_COPYLEFT = {
    "certifi": "MPL-2.0 covers its own files, which are not changed",
    "paramiko": "LGPL: a library of the optional sftp transport, installed by the user and not changed",
    "text-unidecode": "Artistic License, or GPL, by choice; Prefect's python-slugify asks for it",
    "tqdm": "MPL-2.0 and MIT; not changed",
    "pathspec": "MPL-2.0 covers its own files, which are not changed",
    "orjson": "MPL-2.0 for its own files, which are not changed, and Apache-2.0 or MIT",
    "hypothesis": "MPL-2.0; tests only",
}


def rows(page: str) -> dict[str, str]:
    packages = page.partition("## Packages")[2]
    return dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \|$", packages, re.MULTILINE))


def test_the_page_names_what_is_installed_with_its_terms() -> None:
    """A new dependency comes with terms that somebody has to have read: python -m docs.generate.licences > docs/licences.md."""
    written = rows(PAGE.read_text())
    found = {name: licences.licence_of(one) or "not stated" for name, one in licences.needed().items()}
    assert found.items() <= written.items(), sorted(set(found.items()) - set(written.items()))
    assert not set(written.values()) & {"not stated", "UNKNOWN"}
    # Of the written ones only those may be missing that another platform or extra asks for.
    direct = {
        canonicalize_name(Requirement(r).name) for r in metadata.requires(licences.PROJECT) or [] if "dev" not in r
    } - {licences.PROJECT}
    assert {n for n in direct if n in found} <= set(written)


def test_copyleft_is_there_on_purpose() -> None:
    """A licence that asks something of those who pass the project on must not come in with an update unseen."""
    pattern = re.compile(r"\b(A?GPL|LGPL|MPL|EUPL|CDDL|GNU)", re.IGNORECASE)
    strict = {name for name, terms in rows(PAGE.read_text()).items() if pattern.search(terms)}
    assert strict <= set(KNOWN_COPYLEFT)


def test_each_model_that_lab_names_has_its_terms_on_the_page() -> None:
    """Weights have licences of their own, which no package's metadata tells."""
    page = PAGE.read_text().casefold()
    for name in (*LANGUAGE_MODELS, *EMBEDDERS):
        assert name.casefold() in page, name
    assert all(len(row) == 4 and row[2] for row in licences.WEIGHTS)
