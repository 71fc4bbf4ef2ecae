"""Which likes and pages may be requested, and what one poll of events recounts."""

from __future__ import annotations

import pytest

from system.kernel.errors import WrongInput
from system.services.likes import policy
from system.services.likes.handlers import LikeService
from tests.fakes.users import MemoryUsers


def test_a_like_names_its_tweet_as_a_decimal_string():
    """As in Twitter's API v2."""
    assert policy.tweet_of({"tweet_id": "1234567890123456789"}) == 1234567890123456789


@pytest.mark.parametrize("body", [None, [], {}, {"tweet_id": 5}, {"tweet_id": "-5"}, {"tweet_id": "5x"}, {"tweet_id": "9" * 20}])
def test_any_other_body_is_refused(body):
    """With a client error; nothing happened."""
    with pytest.raises(WrongInput):
        policy.tweet_of(body)


@pytest.mark.parametrize(("query", "cursor", "expected"), [
    ({}, None, (100, None)), ({"max_results": "1"}, None, (1, None)), ({"max_results": "100"}, 77, (100, 77)),
])
def test_a_page_has_1_to_100_entries_and_starts_after_its_token(query, cursor, expected):
    """Twitter's bounds; the token is the last id that was scanned."""
    request = policy.page_request(query, cursor)
    assert (request.limit, request.cursor) == expected


@pytest.mark.parametrize("query", [{"max_results": "0"}, {"max_results": "101"}, {"max_results": "x"}])
def test_a_page_outside_its_bounds_is_refused(query):
    """The message names the parameter."""
    with pytest.raises(WrongInput) as caught:
        policy.page_request(query, None)
    assert next(iter(query)) in caught.value.detail


@pytest.mark.parametrize("key", ["k" * 129, "line\nbreak"])
def test_a_key_is_short_and_printable(key):
    """128 characters at most; an empty key means that none was sent."""
    with pytest.raises(WrongInput):
        policy.check_key(key)
    assert policy.check_key("") == ""


def test_ten_events_about_one_tweet_cost_one_recount():
    """Counts are sizes of sets, so batching loses nothing; one statement counts at most 200 tweets."""
    assert policy.recounts([7] * 10) == [[7]]
    assert policy.recounts([3, 1, 3, 2]) == [[3, 1, 2]]
    assert [len(batch) for batch in policy.recounts(range(401))] == [200, 200, 1]
    assert policy.recounts([]) == []


@pytest.mark.parametrize(("shown", "scanned", "more", "ended"), [
    ([9, 7, 5], 5, True, ([9, 7], 7)),      # more visible ids than fit: it ends at the last one shown
    ([9, 7, 5], 5, False, ([9, 7], 7)),
    ([9, 7], 5, False, ([9, 7], None)),     # only hidden ids follow: no cursor reveals them
    ([9], 9, False, ([9], None)),
    ([], None, False, ([], None)),
    ([9], 3, True, ([9], 3)),               # the rounds did not suffice: a short page with a next one
    ([9, 7], 3, True, ([9, 7], 3)),
])
def test_a_page_ends_at_the_last_id_it_shows_or_where_its_rounds_ended(shown, scanned, more, ended):
    """Two entries per page. Hidden entries leave no gap in a page, and no page loses or repeats an entry."""
    assert policy.page_end(shown, 2, scanned, more) == ended


async def test_with_thousands_of_hidden_liked_tweets_a_page_reads_a_few_rounds_and_the_next_continues():
    """One entry per page, 3,000 hidden before the first visible one.

    At most five queries per page, and the pages reach it.
    """
    queries = []

    class Likes:
        async def liked_tweets(self, user_id, before, limit):
            queries.append(limit)
            return [tweet for tweet in range(3_001, 0, -1) if before is None or tweet < before][:limit]

    class Visible:
        async def readable(self, viewer, tweets):
            return {key: tweet for key, tweet in tweets.items() if key == 1}

        async def require(self, viewer, user_id):
            pass

    class Live:
        async def live(self, ids, spent):
            return {each: each for each in ids}

    service, pages, before = LikeService(Likes(), MemoryUsers(), Live(), Visible()), [], None
    while True:
        queries.clear()
        page = await service.liked_tweets(7, 70, policy.PageRequest(1, before), None)
        assert len(queries) <= policy.MAX_ROUNDS
        pages.append(list(page.tweets))
        before = page.next_before
        if before is None:
            break

    assert pages == [[], [], [], [1]]


class Live:
    """Every tweet lives."""

    async def live(self, ids, spent):
        return dict.fromkeys(ids)


def every_id_a_user():
    """A directory in which every id is a user, represented by the id itself."""
    users = MemoryUsers()
    users.by_id = lambda ids: _now({each: each for each in ids})
    return users


async def test_no_cursor_of_liking_users_names_a_hidden_user():
    """3,000 hidden users before, between and after two visible ones.

    One query per page, and cursors that name those two.
    """
    users, queries = every_id_a_user(), []
    visible_ids = {1_000, 2_000}

    class Likes:
        async def liking_users(self, tweet_id, after, limit, hidden=()):
            queries.append(limit)
            return [user for user in range(1, 3_002) if user > after and user not in hidden][:limit]

    class Visible:
        async def hidden_from(self, viewer):
            return frozenset(range(1, 3_002)) - visible_ids

        async def visible(self, viewer, ids):
            return visible_ids & set(ids)

        async def readable(self, viewer, tweets):
            return tweets

    service = LikeService(Likes(), users, Live(), Visible())
    first = await service.liking_users(7, 70, policy.PageRequest(1, None), None)
    last = await service.liking_users(7, 70, policy.PageRequest(1, first.next_after), None)

    assert (first.users, first.next_after, last.users, last.next_after) == ((1_000,), 1_000, (2_000,), None)
    assert len(queries) == 2


async def test_a_user_who_became_hidden_during_the_read_of_the_likes_is_left_out():
    """Hidden users are read before the likes.

    A user who turns protected in between is filtered by the check afterwards.
    """

    class Likes:
        async def liking_users(self, tweet_id, after, limit, hidden=()):
            return [user for user in (1, 2, 3) if user not in hidden][:limit]

    class Visible:
        async def hidden_from(self, viewer):
            return frozenset({1})

        async def visible(self, viewer, ids):
            return {3} & set(ids)

        async def readable(self, viewer, tweets):
            return tweets

    page = await LikeService(Likes(), every_id_a_user(), Live(), Visible()).liking_users(7, 70, policy.PageRequest(9, None), None)

    assert page.users == (3,)


async def _now(value):
    return value
