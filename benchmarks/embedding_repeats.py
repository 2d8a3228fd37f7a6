"""What does an embedder gain that keeps each distinct text, on data with repeats?

    python -m benchmarks.embedding_repeats --distinct 40 --times 5 --sets 5

    {
      "benchmark": "embedding_repeats",
      "ratio": 4.85,
      "needed": null,
      "seconds": {"each_distinct_text_once": 29.558, "every_row": 143.415, "every_row_in_batches_of_32": 78.765},
      "counts": {"rows": 1000, "distinct": 200, "data_sets": 5, "dimensions": 384},
      "compared": "all-MiniLM-L6-v2: encoding every row against each distinct text once; vectors equal to the bit",
      "host": {"machine": "Linux x86_64", "cores": 2, "torch_threads": 2, "load_1_min": 9.1, "torch": "2.13.0+cpu"},
      "ratio_to_batches_of_32": 2.66,
      "largest_difference_of_batches": 1.0640360414981842e-07
    }

The plain way encodes every row, one at a time as the embedder does, so that the vectors must be equal to the last bit. The
usual batches of 32 are timed as well; their vectors differ in the last bits with what stands beside a text in its batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Clock, ForgetfulEmbedder, show
from experiments.backends.sentence_embedder import SentenceEmbedder
from experiments.domains import get_domain
from experiments.seeds import generator

NAME = "embedding_repeats"
EMBEDDER = "all-MiniLM-L6-v2"
DATA_SEED = 42


def data_sets(distinct: int, times: int, n: int) -> list[list[str]]:
    """`n` data sets: each has `distinct` functions of big_o of its own, each `times` times, shuffled."""
    texts = [p.text for p in get_domain("big_o").problems(n * distinct, DATA_SEED)]
    found = []
    for i in range(n):
        rows = texts[i * distinct : (i + 1) * distinct] * times
        found.append([rows[j] for j in generator(DATA_SEED, NAME, i).permutation(len(rows))])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print.

    Raises:
        ValueError: the two ways gave different vectors.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--distinct", type=int, default=40, help="distinct texts of a data set")
    parser.add_argument("--times", type=int, default=5, help="how often each appears")
    parser.add_argument("--sets", type=int, default=5, help="data sets, each with texts of its own")
    given = parser.parse_args(arguments)
    keeping, forgetful = SentenceEmbedder(EMBEDDER), ForgetfulEmbedder(EMBEDDER)
    clock, seen, furthest = Clock(), list[str](), 0.0
    for rows in data_sets(given.distinct, given.times, given.sets):
        with clock.side("each_distinct_text_once"):
            ours, _ = keeping.embed(rows)
        with clock.side("every_row"):
            every = np.concatenate([forgetful.embed([row])[0] for row in rows])
        with clock.side("every_row_in_batches_of_32"):
            batched = forgetful.model.encode(rows, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        if not np.array_equal(ours, every):
            raise ValueError("the vectors of the two ways differ: the times compare unequal work")
        seen, furthest = seen + rows, max(furthest, float(np.abs(ours - batched).max()))
    once = clock.seconds["each_distinct_text_once"]
    show(
        NAME,
        clock.seconds["every_row"] / once,
        None,
        clock.seconds,
        {"rows": len(seen), "distinct": len(set(seen)), "data_sets": given.sets, "dimensions": int(ours.shape[1])},
        f"{EMBEDDER}: encoding every row against each distinct text once; vectors equal to the bit",
        ratio_to_batches_of_32=round(clock.seconds["every_row_in_batches_of_32"] / once, 2),
        largest_difference_of_batches=furthest,
    )


if __name__ == "__main__":
    main()
