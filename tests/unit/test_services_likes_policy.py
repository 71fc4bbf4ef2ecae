"""Which likes and pages may be asked for, and what one poll of events makes count again."""

from __future__ import annotations

import pytest

from system.kernel.errors import WrongInput
from system.services.likes import policy


def test_a_like_names_its_tweet_as_a_decimal_string():
    """As in Twitter's API v2."""
    assert policy.tweet_of({"tweet_id": "1234567890123456789"}) == 1234567890123456789


@pytest.mark.parametrize("body", [None, [], {}, {"tweet_id": 5}, {"tweet_id": "-5"}, {"tweet_id": "5x"}, {"tweet_id": "9" * 20}])
def test_any_other_body_is_refused(body):
    """The error is the caller's, and nothing happened."""
    with pytest.raises(WrongInput):
        policy.tweet_of(body)


@pytest.mark.parametrize(("query", "cursor", "asked"), [
    ({}, None, (100, None)), ({"max_results": "1"}, None, (1, None)), ({"max_results": "100"}, 77, (100, 77)),
])
def test_a_page_has_1_to_100_entries_and_begins_after_its_token(query, cursor, asked):
    """Twitter's bounds; the token is the last id that was looked at."""
    found = policy.page(query, cursor)
    assert (found.limit, found.cursor) == asked


@pytest.mark.parametrize("query", [{"max_results": "0"}, {"max_results": "101"}, {"max_results": "x"}])
def test_a_page_outside_its_bounds_is_refused(query):
    """The message names the parameter."""
    with pytest.raises(WrongInput) as caught:
        policy.page(query, None)
    assert next(iter(query)) in caught.value.detail


@pytest.mark.parametrize("key", ["k" * 129, "line\nbreak"])
def test_a_key_is_short_and_printable(key):
    """128 characters at most; an empty one means that none was sent."""
    with pytest.raises(WrongInput):
        policy.check_key(key)
    assert policy.check_key("") == ""


def test_ten_events_about_one_tweet_cost_one_recount():
    """Counts are sizes of sets, so gathering loses nothing; a statement counts at most 200 tweets."""
    assert policy.recounts([7] * 10) == [[7]]
    assert policy.recounts([3, 1, 3, 2]) == [[3, 1, 2]]
    assert [len(batch) for batch in policy.recounts(range(401))] == [200, 200, 1]
    assert policy.recounts([]) == []


@pytest.mark.parametrize(("shown", "limit", "part", "asked", "on"), [
    (2, 2, [5, 6], 2, False),  # full
    (1, 2, [5, 6], 2, True),   # one was hidden: read on
    (1, 2, [5], 2, False),     # nothing follows
    (0, 2, [], 2, False),
])
def test_a_page_reads_on_until_it_is_full_or_nothing_follows(shown, limit, part, asked, on):
    """What a reader may not see leaves no gap in his page."""
    assert policy.goes_on(shown, limit, part, asked) is on
