"""The knobs: one value for services and twin; unknown names and wrong types are rejected."""

import pytest

from system.kernel import policies
from system.kernel.errors import WrongInput


def test_knobs_round_trip_through_the_environment():
    """What a scenario declares is what a service reads."""
    knobs = policies.from_dict({"fanout": {"push_limit": 150}, "retry": {"budget": 0.2}})

    assert policies.from_json(knobs.to_json()) == knobs
    assert knobs.fanout.push_limit == 150
    assert knobs.fanout.chunk == 4_000


@pytest.mark.parametrize(("block", "word"), [
    ({"fan_out": {}}, "policies.fan_out"),
    ({"fanout": {"pushlimit": 1}}, "policies.fanout.pushlimit"),
    ({"fanout": {"push_limit": "many"}}, "'many'"),
    ({"fanout": {"push_limit": -1}}, "must not be negative"),
    ({"fanout": {"push_limit": True}}, "True"),
    ({"fanout": 3}, "must be a block"),
])
def test_an_invalid_knob_is_named_with_its_bound(block, word):
    """The message contains the full name and the allowed values."""
    with pytest.raises(WrongInput, match=word):
        policies.from_dict(block)
