"""The parameters of a search besides its query, and the versions of documents."""

from __future__ import annotations

import pytest

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.services.search import policy
from system.services.shared import paging


@pytest.mark.parametrize(("params", "before", "since"), [
    ({}, None, None),
    ({"until_id": "900", "since_id": "100"}, 900, 100),
    ({"start_time": "2026-11-22T18:00:00Z"}, None, ids.floor_id(1_795_370_400_000) - 1),
    ({"end_time": "2026-11-22T18:00:00.500Z"}, ids.floor_id(1_795_370_400_500), None),
    ({"end_time": "2026-11-22T18:00:00Z", "until_id": "7"}, 7, None),
    ({"start_time": "1999-01-01T00:00:00Z"}, None, 0),
])
def test_the_tightest_bound_of_each_side_applies(params, before, since):
    """Ids and times bound ids; both bounds are exclusive, `start_time` itself is included."""
    assert paging.bounds(params) == (before, since)


@pytest.mark.parametrize("params", [
    {"since_id": "x"}, {"until_id": "-1"}, {"start_time": "yesterday"}, {"start_time": "2026-11-22T18:00:00"},
    {"end_time": "2026-13-01T00:00:00Z"},
])
def test_bounds_that_are_not_ids_or_times_are_refused(params):
    """400, naming the parameter."""
    with pytest.raises(WrongInput, match=r"since_id|until_id|start_time|end_time"):
        paging.bounds(params)


def test_results_are_ranked_unless_newest_first_is_requested():
    """`sort_order`, as Twitter names it."""
    assert (policy.order_of(None), policy.order_of("recency")) == (policy.RELEVANCY, policy.RECENCY)
    with pytest.raises(WrongInput, match="sort_order"):
        policy.order_of("random")


def test_a_read_that_saw_a_tweet_alive_never_wins_over_one_that_saw_it_deleted():
    """The live read started before the deleted read ended, whatever their overlap."""
    assert policy.version(False, 100, 500) < policy.version(True, 50, 101)
