"""Numbers, intervals, durations and sizes read alike on the page and on the command line."""

from __future__ import annotations

import pytest

from common.text import duration, number, size, with_interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.62, "0.620"),
        (1.3421, "1.34"),
        (123.4, "123"),
        (1234.5, "1,234"),
        (0.0, "0"),
        (3.2e-5, "3.20e-05"),
        (-0.0712, "-0.0712"),
        (None, "undefined"),
        (float("nan"), "undefined"),
        (999.7, "1,000"),
    ],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    """A missing number is never shown as a number."""
    assert number(value) == text


def test_an_interval_is_shown_whole_or_not_at_all() -> None:
    """A value without an interval must not look as if it had one, and an undefined value has none."""
    assert with_interval(0.61949, 0.55, 0.69) == "0.619 (0.550 to 0.690)"
    assert with_interval(0.0, -0.25, 1234.5) == "0 (-0.250 to 1,234)"
    assert with_interval(2, None, 0.69) == with_interval(2, 0.5, None) == with_interval(2, None, None) == "2.00"
    assert with_interval(None, 0.5, 0.69) == "undefined"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-5, "0 s"),
        (0, "0 s"),
        (3.04, "3.0 s"),
        (48.2, "48 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (100 * 3600, "100 h 0 min"),
    ],
)
def test_durations_are_rounded_up_to_the_next_unit(seconds: float | None, text: str) -> None:
    """60 s is a minute and 60 min an hour, also after rounding."""
    assert duration(seconds) == text


def test_sizes_have_a_unit_that_fits() -> None:
    """A number of bytes with eight digits is hard to read."""
    assert [size(n) for n in (0, 999, 999.6, 1000, 12_345_678, 5e12)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1 kB",
        "12.3 MB",
        "5 TB",
    ]
