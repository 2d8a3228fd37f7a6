"""Details of trials: only what every reader reads alike is taken."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.canonical_json import canonical
from warehouse.delivery import reading
from warehouse.delivery.bundles import BadBundle

NAMES = st.text(st.sampled_from(["a", ":", "{", "}", ",", "[", '"', "\\", "é"]), max_size=2)


@settings(max_examples=400)
@given(
    st.recursive(
        st.lists(st.tuples(NAMES, st.just(1)), max_size=3), lambda inner: st.lists(st.tuples(NAMES, inner), max_size=3)
    )
)
def test_no_name_twice_is_passed_wherever_it_stands(pairs: list[Any]) -> None:
    """Of two values under one name, Python takes the last and DuckDB the first: a page could show what no metric rests on."""

    def text_of(inner: Any) -> str:
        if not isinstance(inner, list):
            return json.dumps(inner)
        return "{" + ",".join(f"{json.dumps(name)}:{text_of(value)}" for name, value in inner) + "}"

    def twice(inner: Any) -> bool:
        if not isinstance(inner, list):
            return False
        return len({name for name, _ in inner}) < len(inner) or any(twice(value) for _, value in inner)

    text = text_of(pairs)
    if not twice(pairs):
        reading.check_details(text)
        return
    assert reading.unsure(pa.chunked_array([["{}", text, '{"x":":"}']])) == [text]
    with pytest.raises(BadBundle, match="have a repeated name"):
        reading.check_details(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":-Infinity}',
        '{"a":1,"a":1}',
        '{"a":1 ,"a" :2}',
        '{"b":{"a":1,"a":1}}',
        "[]",
        "1",
        "",
        '{"a":01}',
        '{"a":"\\ud800"}',
        "{}{}",
        '{"a":' * 2000 + "1" + "}" * 2000,
    ],
)
def test_details_that_readers_may_read_differently_are_refused(text: str) -> None:
    """Text that Python, DuckDB and orjson read differently would be one number on a page and another in a metric."""
    assert reading.unsure(pa.chunked_array([[text]])) == [text]
    with pytest.raises(BadBundle, match="details"):
        reading.check_details(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":1}',
        '{"a" : 1}',
        '{"a":0.00005}',
        '{"a":5e-05}',
        '{"a":1E5}',
        '{"a":1.50}',
        '{"a":-0}',
        '{"a":":"}',
        '{"a":{"b":":"}, "c":"\\u00e9"}',
    ],
)
def test_details_may_be_written_in_any_way_that_reads_alike(text: str) -> None:
    """Order, spaces and forms of numbers change nothing of what is read, so they are no reason to refuse a result."""
    for one in reading.unsure(pa.chunked_array([[text]])):
        reading.check_details(one)


def test_ordinary_details_are_passed_at_once() -> None:
    """The fast look is worth nothing where it never says yes."""
    details = {
        "logprobs": [-0.51, -2.25],
        "retrieved": ["p-1", "é"],
        "prompt": "def f(n):\n    return n",
        "k": 5,
        "x": None,
    }
    assert reading.unsure(pa.chunked_array([[canonical(details)] * 3])) == []


@pytest.mark.parametrize(
    "texts", [['{"a":[1', "2]}"], ['{"a":1},{"b":2}', "{}"], ['{"a":"', '"}'], ["{}", "[]"], ["{}", "", "{}"]]
)
def test_details_are_judged_each_by_itself(texts: list[str]) -> None:
    """Many are looked at together: two halves that make a whole, or two in the place of one, must not pass for that."""
    wrong = [t for t in texts if t != "{}"]
    assert reading.unsure(pa.chunked_array([["{}"] * 40 + texts + ["{}"] * 40])) == wrong
