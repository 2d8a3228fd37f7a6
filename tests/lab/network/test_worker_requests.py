"""The requests that Prefect's workers and runs can send, read from the installed Prefect's sources."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import prefect
from checkout import ROOT
from packaging.requirements import Requirement

from lab.network.auth_proxy import ASKED

SOURCES = Path(prefect.__file__).parent
VERBS = {"get", "post", "patch", "put", "delete"}
# What runs neither in a worker nor in a run of this project: the server, commands, tests, deploying, other kinds of workers.
ELSEWHERE = set(
    "_experimental _sdk _vendor agent.py analytics automations.py blocks bundles cli client deployments docker infrastructure "
    "server task_worker.py testing".split()
)
ITS_COMMAND = {"cli/worker.py", "cli/_worker_utils.py"}
ALLOWED = """
GET /admin/storage
GET /admin/version
GET /deployments/{}
GET /flow_runs/{}
GET /flows/{}
GET /health
GET /task_runs/{}
GET /variables/name/{}
GET /work_pools/{}
GET /work_queues/{}
PATCH /flow_runs/{}
PATCH /flow_runs/{}/labels
POST /artifacts/filter
POST /deployments/get_scheduled_flow_runs
POST /flow_runs/filter
POST /flow_runs/{}/set_state
POST /flows/
POST /logs/
POST /task_runs/
POST /work_pools/{}/get_scheduled_flow_runs
POST /work_pools/{}/queues/filter
POST /work_pools/{}/workers/filter
POST /work_pools/{}/workers/heartbeat
POST /work_queues/filter
"""
# Of features that our shards do not use, or that are the coordinator's.
NEVER = """
DELETE /flow_runs/{}/input/{}
DELETE /variables/name/{}
GET /admin/settings
GET /block_documents/{}
GET /block_types/slug/{}/block_documents/name/{}
GET /collections/views/aggregate-worker-metadata
GET /flow_runs/{}/input/{}
PATCH /artifacts/{}
PATCH /variables/name/{}
PATCH /work_pools/{}
POST /artifacts/
POST /concurrency_limits/decrement
POST /concurrency_limits/increment
POST /flow_runs/
POST /flow_runs/{}/input
POST /flow_runs/{}/input/filter
POST /flow_runs/{}/resume
POST /v2/concurrency_limits/decrement
POST /v2/concurrency_limits/decrement-with-lease
POST /v2/concurrency_limits/increment
POST /v2/concurrency_limits/increment-with-lease
POST /v2/concurrency_limits/leases/{}/renew
POST /variables/
POST /work_pools/
"""


def path_in(node: ast.expr) -> str:
    """The path in a call, each value that is put into it as {}; {} for one that is computed."""
    if isinstance(node, ast.Constant):
        found = re.sub(r"\{[^}]*\}", "{}", str(node.value))
    elif isinstance(node, ast.JoinedStr):
        parts = (str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        found = "".join(parts).removeprefix("{}")
    else:
        found = "{}"
    return f"/{found.removeprefix('/')}"


def requests_in(tree: ast.AST) -> set[str]:
    """The requests that code sends by itself: request("POST", "/logs/") and _client.post("/logs/")."""
    found = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
            name = call.func.attr
            if name == "request" and len(call.args) > 1 and isinstance(call.args[0], ast.Constant):
                found.add(f"{call.args[0].value} {path_in(call.args[1])}")
            elif name in VERBS and ast.unparse(call.func.value).endswith("_client"):
                found.add(f"{name.upper()} {path_in(call.args[0])}")
    return found


def client_methods(sources: Path) -> dict[str, set[str]]:
    """The requests of each method of Prefect's client, by name."""
    found: dict[str, set[str]] = {}
    for path in sorted((sources / "client" / "orchestration").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (sent := requests_in(node)):
                found.setdefault(node.name, set()).update(sent)
    return found


def worker_files(sources: Path) -> Iterable[Path]:
    for path in sorted(sources.rglob("*.py")):
        inside = path.relative_to(sources)
        if inside.parts[0] not in ELSEWHERE or inside.as_posix() in ITS_COMMAND:
            yield path


def worker_requests(sources: Path) -> set[str]:
    """All requests that the code of workers and runs names, by itself or by a method of the client."""
    methods, found = client_methods(sources), set()
    for path in worker_files(sources):
        tree = ast.parse(path.read_text())
        found |= requests_in(tree)
        named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & set(methods)
        found |= {request for name in named for request in methods[name]}
    return found


def test_each_request_that_a_worker_can_send_is_known() -> None:
    """A new version of Prefect brings new requests of workers: somebody has to decide on each before joined machines use it."""
    allowed, never = set(ALLOWED.split("\n")) - {""}, set(NEVER.split("\n")) - {""}
    found = worker_requests(SOURCES)
    assert found - allowed - never == set()
    assert allowed | never == found
    for request in sorted(found):
        asked = request.replace(" /", " /api/", 1).replace("work_pools/{}", "work_pools/weak").replace("{}", "0" * 32)
        assert bool(ASKED.fullmatch(asked)) is (request in allowed), request


def test_a_new_request_would_be_seen(tmp_path: Path) -> None:
    """By a method of the client, by a method that is new, and without one."""
    (tmp_path / "client" / "orchestration").mkdir(parents=True)
    (tmp_path / "workers").mkdir()
    client = 'class C:\n    def grab(self, x):\n        return self.request("POST", "/secrets/{x}/grab")\n'
    (tmp_path / "client" / "orchestration" / "c.py").write_text(client)
    worker = 'def work(c, x):\n    c.grab(x)\n    c._client.put(f"/pools/{x}/key")\n    c._client.get(x)\n'
    (tmp_path / "workers" / "base.py").write_text(worker)
    assert worker_requests(tmp_path) == {"POST /secrets/{}/grab", "PUT /pools/{}/key", "GET /{}"}


def test_prefect_stays_at_the_version_that_the_list_was_made_for() -> None:
    """A newer one could give a path of the list another meaning; joined machines and coordinator install the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = (r for text in project["dependencies"] if (r := Requirement(text)).name == "prefect")
    assert prefect.__version__ in wanted.specifier
    major, minor = prefect.__version__.split(".")[:2]
    assert f"{major}.{int(minor) + 1}.0" not in wanted.specifier
