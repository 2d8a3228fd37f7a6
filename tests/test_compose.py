"""docker/compose.yaml: the example's machines as services; checked by docker compose where that is installed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from checkout import ROOT

from lab.main import app
from workpools.example import EXAMPLE
from workpools.tiers import TIERS

FILE = ROOT / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def command(service: dict[str, Any]) -> list[list[str]]:
    """The words of each command that the shell runs, one after the other."""
    shell, option, script = service["command"]
    assert (shell, option) == ("sh", "-c")
    return [shlex.split(part) for part in script.split("&&")]


def test_each_machine_of_the_example_is_a_service(services: dict[str, Any]) -> None:
    """Memory, tier and name are those of lab plan --example, so that all three say the same."""
    assert set(services) == {"coordinator", *(one.host for one in EXAMPLE)}
    for one, tier in zip(EXAMPLE, TIERS, strict=True):
        service = services[one.host]
        assert service["mem_limit"] == f"{one.ram_gb:g}g"
        assert service["build"]["dockerfile"] == f"docker/Dockerfile.{tier}"
        assert service["image"] == f"llm-memory-experiments:{tier}"
        assert service["environment"]["LAB_HOST"] == one.host
        assert service["depends_on"] == {"coordinator": {"condition": "service_healthy"}}


def test_machines_join_the_coordinator_where_it_listens(services: dict[str, Any]) -> None:
    """An address, a port or an option that is misspelt shows only when somebody starts it all."""
    (up, invite, wait) = command(services["coordinator"])
    address = services["coordinator"]["networks"]["lab"]["ipv4_address"]
    assert up == ["lab", "up", "--lan", "--address", address, "--serve", "coordinator"]
    assert invite[:3] == ["lab", "invite", "--key"] and invite[-1] == "/keys/join" and wait[0] == "exec"
    for one in EXAMPLE:
        (join, wait) = command(services[one.host])
        assert join[:3] == ["lab", "join", f"http://{address}:4200"] and join[-2:] == ["--key-file", "/keys/join"]
        assert services[one.host]["environment"]["LAB_RESULTS_URL"] == f"quack://{address}:9494"
        assert "keys:/keys:ro" in services[one.host]["volumes"] and wait == ["exec", "sleep", "infinity"]


def test_the_commands_of_the_services_have_these_options(services: dict[str, Any]) -> None:
    """Typer says so itself: --help after the words reads them all and starts nothing."""
    for service in services.values():
        for words in command(service):
            if words[0] == "lab":
                given = words[1 : words.index(">")] if ">" in words else words[1:]
                with pytest.raises(SystemExit) as ended:
                    app([*given, "--help"], standalone_mode=True)
                assert ended.value.code == 0, words


def test_the_coordinators_image_is_that_of_a_strong_machine_with_the_page() -> None:
    """A fourth copy of the same file drifts apart as well."""
    strong, own = ((ROOT / "docker" / f"Dockerfile.{name}").read_text() for name in ("strong", "coordinator"))

    def plain(text: str) -> str:
        return re.sub(r"(?m)^(#|CMD).*\n", "", text)

    changed = plain(own).replace("[strong,quack,coordinator]", "[strong,quack]").replace("/data /keys", "/data")
    assert changed == plain(strong)


def test_docker_compose_reads_it() -> None:
    """Its own check, where it is installed."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [docker, "compose", "-f", str(FILE), "config", "-q"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
