"""How much faster is E0's sweep than embedding memory and queries anew for every configuration?

    python -m benchmarks.e0_sweep --memory 150 --queries 50 --sample 4

    {
      "benchmark": "e0_sweep",
      "ratio": 561.72,
      "needed": 100.0,
      "seconds": {"whole_unit": 23.789, "grid_alone": 1.593, "plain_a_configuration": 22.369, "plain_scaled": 894.741},
      "counts": {"configurations": 40, "plain_measured": 4, "memory": 150, "queries": 50},
      "compared": "run() embedding anew a configuration, 4 of 40 measured and scaled, against grid_alone; same trials",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 7.8, "torch": "2.13.0+cpu"},
      "ratio_of_whole_unit": 37.61,
      "bound_of_whole_unit": 40
    }

Both sides are E0's own run(): the plain way is a run() a configuration, on a grid of one, with an embedder that keeps
nothing. Its seconds are a sample's mean times the number of configurations. Two ratios, since the sweep embeds too:
- ratio: against the grid alone, run() with the vectors at hand (split, leakage check, features, scores, relevance). This is
  what the configurations cost once the text is embedded, and what a bound of 100 can be asked of.
- ratio_of_whole_unit: against run() with its one embedding. An embedder has 40 configurations, so this cannot pass 40; nor
  with three embedders, which embed three times for 120.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

from benchmarks.common import Clock, ForgetfulEmbedder, show
from experiments import e0_retrieval_parameters as e0
from experiments.backends.model_cache import Backends, no_files
from experiments.backends.sentence_embedder import SentenceEmbedder
from experiments.contract import Trial, Unit
from experiments.findings import Earlier
from experiments.seeds import generator

NAME = "e0_sweep"
EMBEDDER = "all-MiniLM-L6-v2"
NEEDED = 100.0


def unit_of(config: e0.Config) -> Unit:
    """The one unit of a config with one embedder."""
    [unit] = e0.units(config, Earlier(), [])
    return unit


def single(config: e0.Config) -> list[Unit]:
    """A unit for each configuration of the grid."""
    grid = itertools.product(config.text_weights, config.ks, config.distances)
    return [
        unit_of(config.model_copy(update={"text_weights": (w,), "ks": (k,), "distances": (d,)})) for w, k, d in grid
    ]


def found(trials: Sequence[Trial]) -> dict[tuple[str, str], object]:
    """What retrieval brought, by configuration and query."""
    return {(t.condition, t.problem_id): (t.error, t.details) for t in trials}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Raises:
        ValueError: the two ways found different relevance for a configuration and query.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--memory", type=int, default=150, help="problems in memory")
    parser.add_argument("--queries", type=int, default=50, help="problems that ask")
    parser.add_argument("--sample", type=int, default=4, help="configurations measured in the plain way, of 150")
    given = parser.parse_args(arguments)
    config = e0.Config(n_memory=given.memory, n_queries=given.queries, embedders=(EMBEDDER,))
    sweep, cells = unit_of(config), single(config)
    forgetful = Backends(no_files, {EMBEDDER: ForgetfulEmbedder(EMBEDDER)})
    keeping = Backends(no_files, {EMBEDDER: SentenceEmbedder(EMBEDDER)})
    swept = found(e0.run(sweep, keeping))  # not timed: makes the problems, and embeds for the grid alone
    clock = Clock()
    sample = sorted(generator(config.data_seed, NAME).permutation(len(cells))[: given.sample])
    for i in sample:
        with clock.side("whole_unit"):
            whole = e0.run(sweep, forgetful)
        with clock.side("grid_alone"):
            alone = e0.run(sweep, keeping)
        with clock.side("plain"):
            plain = e0.run(cells[i], forgetful)
        if not found(whole) == found(alone) == swept or not found(plain).items() <= swept.items():
            raise ValueError(f"configuration {i} has other results in the plain way: the times compare unequal work")
    seconds = {side: total / len(sample) for side, total in clock.seconds.items()}
    seconds["plain_a_configuration"] = seconds.pop("plain")
    seconds["plain_scaled"] = seconds["plain_a_configuration"] * len(cells)
    show(
        NAME,
        seconds["plain_scaled"] / seconds["grid_alone"],
        NEEDED,
        seconds,
        {"configurations": len(cells), "plain_measured": len(sample), "memory": given.memory, "queries": given.queries},
        f"run() embedding anew a configuration, {len(sample)} of {len(cells)} measured and scaled, against grid_alone; same trials",
        ratio_of_whole_unit=round(seconds["plain_scaled"] / seconds["whole_unit"], 2),
        bound_of_whole_unit=len(cells),
    )


if __name__ == "__main__":
    main()
