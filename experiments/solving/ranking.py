"""How good a ranking is: measures of information retrieval, where a memo is relevant if its class is the query's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Ranking(NamedTuple):
    """Measures of the first k of a ranking, each 0 to 1; None where nothing in memory is relevant."""

    recall: float | None  # share of all that is relevant in memory
    reciprocal_rank: float | None  # 1 / place of the first that is relevant, 0 if none is among the k
    ndcg: float | None  # gain discounted by place, over that of the best ranking


def ranking_of(hits: Sequence[bool], relevant: int) -> Ranking:
    """Measure the first k of a ranking.

    recall@k = hits / relevant. Reciprocal rank: Voorhees 1999 (TREC-8), cut at k. nDCG@k with gain 1 and discount
    1 / log2(place + 1): Jarvelin and Kekalainen 2002 (ACM Trans. Inf. Syst. 20:422), in the form of Burges et al. 2005.

    Args:
        hits: for each place, the best first, whether what stands there is relevant.
        relevant: how many in memory are.
    """
    if not relevant:
        return Ranking(None, None, None)
    discounts = [1 / math.log2(place + 1) for place in range(1, max(len(hits), 1) + 1)]
    gain = sum(d for d, hit in zip(discounts, hits, strict=False) if hit)
    first = next((1 / place for place, hit in enumerate(hits, 1) if hit), 0.0)
    return Ranking(sum(hits) / relevant, first, gain / sum(discounts[:relevant]))
