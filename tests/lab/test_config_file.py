"""The values of a run in a file."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from typer.testing import CliRunner

from common.errors import LabError
from experiments.registry import PHASES, configure
from flows.plan import plan
from lab.config_file import _toml, example, read_config
from lab.main import app

WRITTEN = """
scale = "smoke"
domain = "equations"
until = "p2"
override = "to see all"
[on]
p1 = "weak"
[all]
data_seed = 7
[p2]
n_test = 3
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "lab.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("scale", ["smoke", "demo", "full"])
def test_the_example_has_every_value_as_it_is(tmp_path: Path, scale: str) -> None:
    """Who removes the # of all lines must get the run that nobody has changed, and find no value missing."""
    text = example(scale)
    assert read_config(written(tmp_path, text)).settings() == {}
    lines = [line.removeprefix("# ") if " = " in line or line == "# [on]" else line for line in text.splitlines()]
    parsed = tomllib.loads("\n".join(lines))
    for phase in PHASES:
        config = configure(phase, scale).model_dump(mode="json")
        own = {**parsed["all"], **parsed[phase]}
        assert {name for name, value in config.items() if value is not None} - set(own) == {"domain"}
        assert json.dumps(configure(phase, scale, own).model_dump(mode="json")) == json.dumps(config)


def test_a_file_and_the_options_name_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is another way to write the options, so the run and its results must be the same; options have precedence."""
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "lab.commands.pipeline.follow_pipeline", lambda run, how: seen.append((run, *astuple(how))) or 0
    )
    file = str(written(tmp_path, WRITTEN))

    def pipeline(*arguments: str) -> tuple[Any, ...]:
        done = CliRunner().invoke(app, ["pipeline", *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return seen[-1]

    by_file = pipeline("--config", file)
    options = ["--scale", "smoke", "--domain", "equations", "--set", "data_seed=7", "--set", "p2.n_test=3"]
    by_options = pipeline(*options, "--until", "p2", "--override", "to see all", "--on", "p1=weak")
    assert by_file[:-1] == by_options[:-1]
    assert by_file[-1] == f"lab.toml, SHA-256 {hashlib.sha256(WRITTEN.encode()).hexdigest()}"
    other = pipeline(
        "--config", file, "--set", "p2.n_test=4", "--domain", "big_o", "--until", "p1", "--mode", "replicate"
    )
    given = {phase: {"data_seed": 7, "domain": "big_o"} for phase in PHASES}
    given["p2"] |= {"n_test": 4}
    assert other[0].run_id == plan("smoke", given).run.run_id
    assert other[2:4] == ("replicate", "p1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale = smoke", "is no TOML"),
        ("scale = 3", "wrong value 3 at scale"),
        ("scales = 'smoke'", "unknown key at scales"),
        ("values = {}", "unknown key values"),
        ("mode = 'both'", "wrong value 'both' at mode"),
        ("p2 = 3", "p2 is no table"),
        ("[all]\nn_test = 3", "not all phases have n_test"),
        ("[p9]\nn_test = 3", "unknown key at p9"),
        ("[p2]\nn_tests = 3", "n_tests"),
        ("[p2]\nn_test = -3", "n_test"),
        ("a = " + "[" * 100_000, "is no TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    """A value that is misspelt must not be a run with the default."""

    def planned() -> None:
        plan("smoke", {"p2": read_config(written(tmp_path, text)).values["p2"]})

    with pytest.raises(LabError, match=message):
        planned()


SIMPLE = st.integers(-(2**53), 2**53) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SIMPLE | st.text("ä\"\\'#\n\x7f\U0001f600 x", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b_c"]), inner, max_size=2),
    max_leaves=5,
)


@drawn(VALUES)
def test_what_is_printed_is_read_back(value: Any) -> None:
    """A file that lab itself prints has to be TOML, whatever a value holds."""
    assert tomllib.loads(f"value = {_toml(value)}")["value"] == value
