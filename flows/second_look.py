"""Refuse a second look: a test for a fixed number of problems that was made on fewer or more of the same ones."""

from __future__ import annotations

from collections.abc import Collection

from duckdb import DuckDBPyConnection

from common.errors import LabError
from experiments.contract import Json
from experiments.registry import get_phase
from flows.plan import Run
from warehouse.database import records

# What may differ between two looks at one study: how many problems, in what parts, looked at how often.
OF_A_LOOK = frozenset(("n_test", "per_unit", "look_every"))


def refuse_second_look(con: DuckDBPyConnection, run: Run, phases: Collection[str]) -> None:
    """Refuse to begin a phase whose test was made in another run on another number of the same problems.

    Doubling 30 to 240 problems until a test passes raises false passes from 2.7 to 7.4 % (docs/science.md, One look).

    Args:
        phases: those that are to run; one that this run has begun goes on.

    Raises:
        LabError: naming the run whose verdict stands.
    """
    for phase in phases:
        config = run.configs[phase].model_dump(mode="json")
        if not hasattr(get_phase(phase), "level_of") or records.units_of(con, run.run_id, phase):
            continue
        for other in records.tests_of(con, phase):
            if _study(other.config) == _study(config) and _look(other.config) != _look(config):
                mend = f"other problems: --set data_seed={config['data_seed'] + 1}"
                if phase == "p2":
                    mend += "; a study with looks has them from its beginning: --set p2.look_every=10"
                raise LabError(
                    f"{phase} was tested on {other.config['n_test']} of these problems in run {other.run_id}, {other.status}; "
                    f"to test {config['n_test']} of them now would be a second look",
                    mend,
                )


def _study(config: Json) -> Json:
    return {k: v for k, v in config.items() if k not in OF_A_LOOK}


def _look(config: Json) -> tuple[int, int]:
    return config["n_test"], config.get("look_every", 0)
