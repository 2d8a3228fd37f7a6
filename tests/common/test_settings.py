"""What a user set, as the command line takes it again."""

from __future__ import annotations

from common.settings import set_options


def test_a_value_that_all_phases_share_is_typed_once() -> None:
    """The command that pages and errors show must name the same plan, or a run would begin anew."""
    given = {"p1": {"domain": "equations", "k": 5}, "p2": {"domain": "equations", "embedders": ["a b"]}}
    assert set_options(given, ["p1", "p2"]) == [
        *("--set", 'domain="equations"'),
        *("--set", "p1.k=5"),
        *("--set", 'p2.embedders=["a b"]'),
    ]
    assert set_options(given, ["p1", "p2", "p3"])[:2] == ["--set", 'p1.domain="equations"']
    assert set_options({}, ["p1"]) == []
