"""The training of one adapter of E2: what it says where there is nothing to train on."""

from __future__ import annotations

import pytest

from experiments.solving.adapters import why_empty


@pytest.mark.parametrize(
    ("name", "of", "solved", "cause"),
    [
        ("s", "s", False, "solved nothing"),
        ("tokens", "r", False, "solved nothing"),
        ("tokens", "s", True, "the first of dataset s has more tokens than all of dataset r"),
        ("tokens", "r", True, "the first of dataset r has more tokens than all of dataset s"),
        ("r", "r", False, "validation holds out all of them, 1"),
        ("s", "s", True, "validation holds out all of them, 1"),
    ],
)
def test_an_empty_dataset_says_why(name: str, of: str, solved: bool, cause: str) -> None:
    """Each was said to be empty since the baseline solved nothing, also where it had solved much."""
    assert why_empty(name, of, solved, 1).endswith(cause)
