"""Pools of containers: their base job templates as Prefect's own schema wants them, and an image for each tier."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.schema_tools import is_valid_schema, validate
from prefect.utilities.templating import find_placeholders

from workpools.tiers import TIERS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
KINDS = {"docker": "prefect-docker", "kubernetes": "prefect-kubernetes"}


def template(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.files("workpools.templates").joinpath(f"{kind}.json").read_text())
    return found


def prefects_own(kind: str) -> dict[str, Any]:
    """The template that Prefect would give such a pool."""
    path = (
        Path(prefect.__file__).parent
        / "server"
        / "api"
        / "collections_data"
        / "views"
        / "aggregate-worker-metadata.json"
    )
    found: dict[str, Any] = json.loads(path.read_text())[KINDS[kind]][kind]["default_base_job_configuration"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_prefect_takes_the_template(kind: str) -> None:
    """A pool with one that Prefect refuses, or whose placeholders nothing fills, fails at its first run and not before."""
    found = template(kind)
    assert WorkPoolCreate(name="strong", type=kind, base_job_template=found).base_job_template == found
    is_valid_schema(found["variables"], preprocess=False)
    variables = found["variables"]["properties"]
    assert {p.name for p in find_placeholders(found["job_configuration"])} <= set(variables)
    defaults = {name: v["default"] for name, v in variables.items() if v.get("default") is not None}
    assert validate(defaults, found["variables"], raise_on_error=False, preprocess=False) == []
    assert defaults["image"] == "llm-memory-experiments:strong"
    broken = found | {"variables": {"type": "object", "properties": {}}}
    with pytest.raises(ValueError, match="undeclared variable"):
        WorkPoolCreate(name="strong", type=kind, base_job_template=broken)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_prefects_own_but_for_defaults_and_what_a_flow_may_not_ask(kind: str) -> None:
    """Fields of our own making would be ignored silently by the worker of that type, or break with its next version."""
    ours, theirs = template(kind), prefects_own(kind)
    taken = {"privileged", "network_mode"} if kind == "docker" else set()
    assert set(ours["variables"]["properties"]) == set(theirs["variables"]["properties"]) - taken
    assert set(ours["job_configuration"]) == set(theirs["job_configuration"]) - taken
    for name, variable in ours["variables"]["properties"].items():
        own = theirs["variables"]["properties"][name]
        assert {k: v for k, v in variable.items() if k != "default"} == {k: v for k, v in own.items() if k != "default"}


def test_containers_get_no_rights_that_a_unit_does_not_need() -> None:
    """A unit computes and delivers: neither root nor the cluster's interface, nor the host's devices or network."""
    spec = template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert not {"privileged", "network_mode"} & set(template("docker")["job_configuration"])


def instructions(tier: str) -> list[tuple[str, str]]:
    """(instruction, its words) of a tier's Dockerfile, without comments, continued lines joined."""
    text = (ROOT / "docker" / f"Dockerfile.{tier}").read_text()
    whole = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


@pytest.mark.parametrize("tier", TIERS)
def test_each_tier_has_its_image(tier: str) -> None:
    """The image installs the tier's extra under a user that is not root, by number, or Kubernetes will not start it."""
    found = instructions(tier)
    words = [word for word, _ in found]
    assert words[0] == "FROM" and set(words) == {"FROM", "RUN", "COPY", "USER", "ENV", "VOLUME", "CMD"}
    assert words.index("USER") > max(i for i, word in enumerate(words) if word in ("RUN", "COPY"))
    spec = template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert ("USER", str(spec["securityContext"]["runAsUser"])) in found
    assert ("ENV", "LAB_HOME=/data HF_HUB_OFFLINE=1") in found
    assert json.loads(dict(found)["CMD"]) == ["lab", "assess"]
    (extras,) = re.findall(r'"/src\[([a-z,]+)\]"', " ".join(rest for _, rest in found))
    assert extras == f"{tier},quack"
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_images_differ_in_their_tier_alone_and_install_what_is_tested() -> None:
    """Three copies drift apart; another torch than the tested one gives other numbers under the same unit."""
    assert len({str(instructions(tier)).replace(f"[{tier},", "[") for tier in TIERS}) == 1
    installed = " ".join(rest for _, rest in instructions("weak"))
    pinned = re.findall(r"pip install [^&]*?([a-z0-9-]+==\S+)", installed)
    assert len(pinned) == 2
    setup = (ROOT / "Makefile").read_text()
    assert all(f" {pin}\n" in setup for pin in pinned)
    assert "-c /src/constraints.txt" in installed


def test_the_builder_is_sent_what_the_images_copy_and_no_more() -> None:
    """Results, signing keys and the environment lie in the same folder; a file that is lacking breaks the build."""
    sources = [w for word, rest in instructions("weak") if word == "COPY" for w in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    packages = {p.split(".")[0] for p in PROJECT["tool"]["setuptools"]["packages"]}
    others = {
        ".streamlit",
        "llm_memory_experiments.py",
        "prefect.yaml",
        "pyproject.toml",
        "README.md",
        "constraints.txt",
    }
    assert packages | others == set(sources)
    sent = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert sent == ["*", *(f"!{source}" for source in sources), "**/__pycache__"]
