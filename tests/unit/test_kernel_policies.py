"""The knobs: one value for services and twin, refused where a name or a type is wrong."""

import pytest

from system.kernel import policies
from system.kernel.errors import WrongInput


def test_knobs_survive_their_journey_through_the_environment():
    """What a scenario declares is what a service reads."""
    told = policies.from_dict({"fanout": {"push_limit": 150}, "retry": {"budget": 0.2}})

    assert policies.from_json(told.to_json()) == told
    assert told.fanout.push_limit == 150
    assert told.fanout.chunk == 4_000


@pytest.mark.parametrize(("block", "word"), [
    ({"fan_out": {}}, "policies.fan_out"),
    ({"fanout": {"pushlimit": 1}}, "policies.fanout.pushlimit"),
    ({"fanout": {"push_limit": "many"}}, "'many'"),
    ({"fanout": {"push_limit": -1}}, "must not be negative"),
    ({"fanout": {"push_limit": True}}, "True"),
    ({"fanout": 3}, "must be a block"),
])
def test_a_wrong_knob_is_named_with_its_bound(block, word):
    """The message holds the full name and what is allowed."""
    with pytest.raises(WrongInput, match=word):
        policies.from_dict(block)
