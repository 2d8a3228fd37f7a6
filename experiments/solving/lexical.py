"""Retrieval by words: Okapi BM25, TF-IDF, and the fusion of several rankings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.domains.scripts import UNSPACED

# What Robertson and Zaragoza 2009 (Found. Trends Inf. Retr. 3:333) call good in many cases, and Lucene's defaults.
K1, B = 1.2, 0.75
FUSION_K = 60  # Cormack, Clarke and Buettcher 2009 (SIGIR, 758): not critical, fixed before their experiments
# Each sign counts, since in code it says much; so does each letter of scripts without spaces.
_TOKEN = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def tokens_of(text: str) -> list[str]:
    """Return words, numbers and single signs, in lower case."""
    return _TOKEN.findall(text.lower())


class BM25:
    """Texts that are searched by Okapi BM25 (Robertson and Zaragoza 2009).

    The idf is ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative, as in Lucene (Kamphuis et al. 2020, ECIR). A word
    that a query has twice counts twice.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._counter: Any = CountVectorizer(tokenizer=tokens_of, lowercase=False, token_pattern=None)
        counts = self._counter.fit_transform(texts).astype(np.float64).tocsr()
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        containing = np.asarray((counts > 0).sum(axis=0)).ravel()
        idf = np.log1p((len(texts) - containing + 0.5) / (containing + 0.5))
        length = np.repeat(lengths / lengths.mean(), np.diff(counts.indptr))
        tf = counts.data
        counts.data = idf[counts.indices] * tf * (K1 + 1) / (tf + K1 * (1 - B + B * length))
        self._weights = counts.T.tocsr()

    def scores(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Return scores of all texts, shape (queries, texts), from 0 upwards."""
        asked = self._counter.transform(queries).astype(np.float64)
        return np.asarray((asked @ self._weights).toarray())


class Tfidf:
    """Texts as vectors of their words: term frequency x inverse document frequency (Salton and Buckley 1988).

    Scikit-learn's, with its defaults: idf ln((1 + N) / (1 + n)) + 1, rows of unit length. Words and idf are those of the
    texts that it is made of; other words of a query count for nothing.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._made: Any = TfidfVectorizer(tokenizer=tokens_of, lowercase=False, token_pattern=None)
        self.rows: Any = self._made.fit_transform(texts).tocsr()  # sparse, shape (texts, words)

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return sparse rows of unit length, shape (texts, words); a row is zero where no word is known."""
        return self._made.transform(texts).tocsr()

    def scores(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Return the cosines of queries and texts, shape (queries, texts), 0 to 1."""
        return np.asarray((self.vectors(queries) @ self.rows.T).toarray())


def reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (60 + rank) of each score in its row, ranks from 1 (Cormack, Clarke and Buettcher 2009).

    The sum over several rankings is their fusion. Equal scores share the mean of their ranks.
    """
    from scipy.stats import rankdata

    return np.asarray(1.0 / (FUSION_K + rankdata(-np.round(scores, 9), axis=1)))
