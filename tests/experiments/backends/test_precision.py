"""Precision is in the id of a unit, is what its model computes in, and nothing on a host changes it."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_llama import make

from experiments.backends import catalog, placement
from experiments.backends.model_cache import Backends, no_files
from experiments.contract import Json, Unit
from experiments.precision import Precision
from experiments.protocol import code_version
from experiments.protocol.identity import check_unit, make_unit
from experiments.registry import PHASES, configure, get_phase

PROMPT = "Question : apple is a fruit or a tool ? Answer :"
OPTIONS = [" fruit", " tool", " a fruit", " a tool"]
# Modules of experiments/ that read the environment or LAB_HOME, and why no result changes with it.
READ_THE_HOST = {
    "backends/__init__.py": "how threads wait",
    "backends/conversions.py": "half-made weights, which are removed",
    "backends/embedding_cache.py": "vectors by the digest of all that decides them",
    "backends/mlx_lm_engine.py": "the command that installs MLX",
    "backends/ollama_backend.py": "the server; what it has is in the id by its digest and release",
    "backends/placement.py": "cores and memory; settings that change numbers are taken out",
    "backends/weights.py": "weights by their digest",
    "domains/jsonl_file.py": "the user's data by their digest",
}


def first_unit(phase: str, **given: object) -> Unit:
    config = configure(phase, "smoke", given)
    return make_unit(phase, config, {"problems": ["a", "b"]}, models=[config.model, "all-MiniLM-L6-v2"])


@pytest.mark.parametrize("phase", PHASES)
def test_one_unit_has_another_id_in_each_precision(phase: str) -> None:
    """Equal ids would mix the numbers of two precisions in one run, and each would pass for the other."""
    found = {first_unit(phase, precision=p).unit_id for p in Precision}
    assert len(found) == len(Precision)
    assert first_unit(phase).unit_id == first_unit(phase, precision="float32").unit_id
    assert first_unit(phase, trainer="mlx").unit_id != first_unit(phase).unit_id


def test_another_release_of_what_computes_is_another_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to move numbers; a host with another one is refused with both releases."""
    unit = first_unit("p2")
    assert unit.identity["engines"]["transformers"].keys() == {"torch", "transformers"}
    config = configure("p2", "smoke")
    check_unit(unit, config)
    with monkeypatch.context() as other:
        other.setattr(catalog, "releases_of", lambda packages: dict.fromkeys(packages, "0.1"))
        other.setattr("experiments.backends.transformers_backend.releases_of", lambda p: dict.fromkeys(p, "0.1"))
        assert first_unit("p2").unit_id != unit.unit_id
        with pytest.raises(Exception, match=r"computes with torch 0\.1 here, planned with \d+\.\d+"):
            check_unit(unit, config)
    assert "bitsandbytes" in first_unit("p2", precision="int8").identity["engines"]["transformers"]


def test_the_engines_have_their_own_defaults() -> None:
    """Ollama computes in what its weights are stored in, and models of MLX are trained by MLX, unless somebody says so."""
    ollama, mlx = (configure("p3", "smoke", {"model": name}) for name in ("ollama/phi3", "mlx/own"))
    assert (ollama.precision, mlx.precision, mlx.trainer) == (Precision.STORED, Precision.FLOAT32, "mlx")
    assert configure("p3", "smoke", {"model": "mlx/own", "trainer": "peft"}).trainer == "peft"


def test_a_config_of_before_is_read_as_it_was() -> None:
    """Plans without the fields were computed in float32, by transformers and peft."""
    stored = configure("e2", "smoke").model_dump(mode="json")
    old = {k: v for k, v in stored.items() if k not in ("precision", "trainer")}
    config = get_phase("e2").Config(**old)
    assert (config.precision, config.trainer) == (Precision.FLOAT32, "peft")


def test_no_other_module_reads_the_host() -> None:
    """A setting of a host that reaches a result goes through one of these; a new one must say here why it changes none."""
    root = code_version.PACKAGE
    found = set()
    for path in root.rglob("*.py"):
        names = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(ast.parse(path.read_text("utf-8")))}
        if names & {
            "environ",
            "getenv",
            "lab_home",
            "cpu_count",
            "virtual_memory",
            "gethostname",
            "host_name",
            "platform",
        }:
            found.add(path.relative_to(root).as_posix())
    assert found == READ_THE_HOST.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield make(tmp_path_factory.mktemp("tiny") / "llama")


def scores(folder: Path, precision: Precision) -> tuple[float, ...]:
    model = Backends(no_files).language_model(f"hf/{folder}", precision=precision)
    assert model.describe()["numbers"] == precision.value
    return model.score(PROMPT, OPTIONS).logprobs


ENVIRONMENT = st.dictionaries(
    st.sampled_from([*placement.FEWER_BITS, "MLX_ENABLE_TF32", "LAB_HOST", "OMP_WAIT_POLICY"]),
    st.sampled_from(["1", "0", "BF16", "ANY", "STRICT", "pi-4"]),
)
LEFT_BY_AN_ASSESSMENT = st.dictionaries(
    st.sampled_from(["dtype.json", "lora.json", "capability_report_pi-4.json", "precision.json"]),
    st.one_of(
        st.sampled_from(list(Precision)).map(lambda p: {"cpu": p.value, "cuda": p.value}),
        st.floats(1, 1e4).map(lambda v: {"mlx": v, "torch": 1.0, "prefill_bfloat16_tokens_per_s": v}),
    ),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    environment=ENVIRONMENT,
    left=LEFT_BY_AN_ASSESSMENT,
    free_gb=st.floats(2.0, 500.0),
    precision=st.sampled_from([Precision.FLOAT32, Precision.BFLOAT16]),
)
def test_no_setting_of_a_host_changes_a_result(
    environment: dict[str, str],
    left: dict[str, Json],
    free_gb: float,
    precision: Precision,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever the environment, the files that an assessment left and the memory: the same id, the same numbers, or none.

    An assessment once chose bfloat16 for its host, and little memory 8 bits: both under the ids of float32.
    """
    plain, unit = scores(folder, precision), first_unit("p2", precision=precision)
    home = tmp_path_factory.mktemp("home")
    for name, content in left.items():
        (home / name).write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as host:
        host.setenv("LAB_HOME", str(home))
        for name, value in environment.items():
            host.setenv(name, value)
        host.setattr(placement, "placements", {})
        host.setattr(placement, "memory_gb", lambda device: free_gb)
        assert first_unit("p2", precision=precision).unit_id == unit.unit_id
        assert scores(folder, precision) == plain
        assert not set(placement.FEWER_BITS) & os.environ.keys()
        assert os.environ["MLX_ENABLE_TF32"] == "0"


def test_torch_multiplies_float32_as_float32(folder: Path) -> None:
    """Some library, or a script beside, may have allowed TF32 for this process."""
    import torch

    torch.set_float32_matmul_precision("medium")
    scores(folder, Precision.FLOAT32)
    assert torch.get_float32_matmul_precision() == "highest"
