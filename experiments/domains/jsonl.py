"""The domain jsonl: the user's own labelled texts, answered by choosing a label.

One JSON object a line, in UTF-8:

    {"id": "r17", "text": "The battery died on day two.", "label": "negative", "group": "shop-3"}

    id      a string of 1 to 200 characters, or a whole number; no two lines have the same
    text    a string of 1 to 4,000 characters that does not name a label
    label   a string of 1 to 100 characters, or a whole number; 2 to 50 different ones in the file
    group   optional, like id: with split: group all lines of a group are in memory or all in the test; without it each
            line is its own group

Other fields are refused, empty lines are skipped. `lab data check FILE` lists the errors.

A run names the file as domain=jsonl:/absolute/path.jsonl. What is stored and hashed is its content instead:
jsonl:<title>@<SHA-256>, saved under LAB_HOME/data/<SHA-256>.jsonl. So a unit means the same on every host; one
without the file fetches it from the results store, or reports which file it needs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import LabError
from experiments.domains import code_text
from experiments.domains.base import Problem, judged_by_choice
from experiments.domains.jsonl_file import data_file, data_name, read_rows
from experiments.domains.scripts import WORD, first_of, normal_text
from experiments.seeds import generator

SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
TERMS = 60  # at most
TERM_LETTERS = 4  # a shorter word is seldom one


class JsonLines:
    """Implements experiments.domains.base.Domain."""

    answers: Literal["choice", "guessing"] = "choice"
    telling: frozenset[str] = frozenset()
    instruction = "Which label fits this text?"
    noun = "Text"
    lead = "Answer:"
    feature_names = (
        *"log_characters log_words log_sentences word_length distinct_words".split(),
        *"digits capitals marks questions exclamations".split(),
        *code_text.NAMES,
    )

    def __init__(self, named: str) -> None:
        """Read the file <title>@<SHA-256>. Raises LabError: no such form, or the file is not on this host."""
        self.name = f"jsonl:{named}"
        self.title, self.sha256 = data_name(self.name)
        self.version = f"jsonl-2-{self.sha256}"
        self.rows = tuple(read_rows(data_file(self.name)))
        self.maximum = len(self.rows)
        self.options = tuple(sorted({p.label for p in self.rows}))
        self.max_attempts = max(1, len(self.options) // 2)  # half of the labels, as three of six in big_o

    def problems(self, n: int, seed: int, names: str = "neutral") -> list[Problem]:
        """Return `n` lines drawn by `seed`, classes as equal as the file allows.

        Lines with equal texts are included: the leakage gate reports them.
        """
        if names != "neutral":
            raise LabError(f"names = {names!r}: your own texts have no other names", "leave names at neutral")
        if not 1 <= n <= len(self.rows):
            what = f"{n} problems asked for; {self.title} has {len(self.rows)}"
            raise LabError(what, f"--set n_problems={len(self.rows)}, or less")
        by_class: dict[str, list[Problem]] = defaultdict(list)
        for p in self.rows:
            by_class[p.label].append(p)
        chosen: list[Problem] = []
        left = n
        # The rarest class first: the others share what it lacks.
        for i, label in enumerate(sorted(by_class, key=lambda c: (len(by_class[c]), c))):
            share = min(len(by_class[label]), left // (len(by_class) - i))
            order = generator(seed, "jsonl", label).permutation(len(by_class[label]))[:share]
            chosen += [by_class[label][j] for j in order]
            left -= share
        return [chosen[i] for i in generator(seed, "jsonl", "order", n).permutation(len(chosen))]

    def drawn(self, n: int, seed: int) -> list[Problem]:
        """Return `n` lines drawn by `seed` whatever their labels.

        Raises:
            LabError: the file has fewer.
        """
        if n > len(self.rows):
            what = f"{n} problems asked for; {self.title} has {len(self.rows)}"
            raise LabError(what, f"--set n_problems={len(self.rows)}, or less")
        return [self.rows[i] for i in generator(seed, "jsonl", "natural").permutation(len(self.rows))[:n]]

    def normalise(self, problem: Problem) -> str:
        """Return the text whatever its case, layout and the marks around it."""
        return normal_text(problem.text)

    judge = staticmethod(judged_by_choice)

    def features(self, problem: Problem) -> NDArray[np.float64]:
        """Return lengths, shares of characters and words, and counts that see the structure of code; shape (22,)."""
        text = problem.text
        words = [w.casefold() for w in WORD.findall(text)]
        characters, n = max(1, len(text)), max(1, len(words))
        shares = np.array(
            [
                np.log1p(len(text)),
                np.log1p(len(words)),
                np.log1p(len(SENTENCE.findall(text))),
                sum(map(len, words)) / n,
                len(set(words)) / n,
                sum(c.isdigit() for c in text) / characters,
                sum(c.isupper() for c in text) / characters,
                sum(not c.isalnum() and not c.isspace() for c in text) / characters,
                text.count("?") / n,
                text.count("!") / n,
            ]
        )
        return np.concatenate([shares, code_text.features(text)])

    def describe(self, problem: Problem) -> str:
        """Return length and marks of the text: "A text of 9 words, with digits."; a part that names a label is left out."""
        text = problem.text
        n = len(WORD.findall(text))
        parts = [f"a text of {n} word{'' if n == 1 else 's'}"]
        marks = {"?": "a question", "!": "an exclamation", "\n": "several lines"}
        parts += [phrase for mark, phrase in marks.items() if mark in text]
        parts += ["digits"] if any(c.isdigit() for c in text) else []
        first, *others = [part for part in parts if not first_of(self.options, part)] or ["a text"]
        sentence = first + (f", with {', '.join(others)}" if others else "")
        return f"{sentence[0].upper()}{sentence[1:]}."

    def terms(self) -> frozenset[str]:
        """Return the words that most texts share, without those of labels and those in more than half of the texts."""
        return self._terms

    @cached_property
    def _terms(self) -> frozenset[str]:
        seen = Counter(w for p in self.rows for w in {w.casefold() for w in WORD.findall(p.text)})
        labels = {w.casefold() for label in self.options for w in WORD.findall(label)}
        known = [w for w, n in seen.items() if 2 <= n <= len(self.rows) / 2 and len(w) >= TERM_LETTERS]
        return frozenset(sorted(set(known) - labels, key=lambda w: (-seen[w], w))[:TERMS])

    def similarity(self, answer: str, other: str) -> float:
        """Return 1 for the same label, else 0: labels have no known order."""
        return float(answer == other)
