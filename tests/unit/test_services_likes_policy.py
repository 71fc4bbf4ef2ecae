"""Which likes and pages may be asked for, and what one poll of events makes count again."""

from __future__ import annotations

import pytest

from system.kernel.errors import WrongInput
from system.services.likes import policy
from system.services.likes.handlers import LikeService
from system.stores.memory_users import MemoryUsers


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


@pytest.mark.parametrize(("shown", "part", "asked", "missing", "filled"), [
    ([5, 6], [5, 6], 2, 2, ([5, 6], 6, True)),      # full
    ([6], [5, 6], 2, 2, ([6], 6, True)),            # one was hidden: read on
    ([5], [5], 2, 2, ([5], 5, False)),              # nothing follows
    ([], [], 2, 2, ([], None, False)),
    ([5, 7, 9], [4, 5, 7, 9], 9, 2, ([5, 7], 7, True)),  # more than the page takes: the next begins behind the last taken
    ([5, 7], [4, 5, 7, 8], 9, 2, ([5, 7], 8, False)),
])
def test_a_page_takes_what_it_misses_and_ends_where_the_next_begins(shown, part, asked, missing, filled):
    """What a reader may not see leaves no gap in his page, and no page loses or repeats one."""
    assert policy.filled(shown, part, asked, missing) == filled


async def test_of_thousands_of_hidden_likers_a_page_reads_some_rounds_and_tells_where_it_stopped():
    """One a page, 3,000 hidden before the first that may be seen: at most five queries a page, and the pages come to him."""
    users, asked = MemoryUsers(), []

    class Likes:
        async def liking_users(self, tweet_id, after, limit):
            asked.append(limit)
            return [user for user in range(1, 3_002) if user > after][:limit]

    class Visible:
        async def visible(self, viewer, ids):
            return {each for each in ids if each == 3_001}

        async def readable(self, viewer, tweets):
            return tweets

    class Live:
        async def live(self, ids, spent):
            return dict.fromkeys(ids)

    users.by_id = lambda found: _now({each: each for each in found})
    service, pages, after = LikeService(Likes(), users, Live(), Visible()), [], None
    while True:
        asked.clear()
        page = await service.liking_users(7, 70, policy.Asked(1, after), None)
        assert len(asked) <= policy.MAX_ROUNDS
        pages.append(list(page.users))
        if page.next_after is None or pages[-1]:
            break
        after = page.next_after

    assert pages == [[], [], [], [3_001]]


async def _now(value):
    return value
