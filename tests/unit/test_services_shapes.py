"""The JSON of the public API: what a client may ask for and what it gets."""

import pytest

from system.kernel.errors import WrongInput
from system.kernel.events import Tweet
from system.services.shared import shapes

ANSWER = Tweet(20, 7, "so do I", 1_700_000_000_123, 10, in_reply_to=10)


def test_a_tweet_tells_everything_where_no_field_was_named():
    """Ids are decimal strings; times are UTC with milliseconds."""
    assert shapes.tweet(ANSWER) == {
        "id": "20", "text": "so do I", "author_id": "7", "created_at": "2023-11-14T22:13:20.123Z", "conversation_id": "10",
        "edit_history_tweet_ids": ["20"], "referenced_tweets": [{"type": "replied_to", "id": "10"}],
    }


def test_named_fields_come_with_those_that_are_always_there():
    """As Twitter does: `id`, `text` and the edit history need not be named."""
    fields = shapes.fields_of({"tweet.fields": "author_id"})

    assert set(shapes.tweet(ANSWER, fields)) == {"id", "text", "edit_history_tweet_ids", "author_id"}


def test_a_field_of_twitters_that_the_lab_does_not_know_is_left_out():
    """A client that always asks for the language of a tweet still works."""
    fields = shapes.fields_of({"tweet.fields": "lang,entities,created_at"})

    assert set(shapes.tweet(ANSWER, fields)) == {"id", "text", "edit_history_tweet_ids", "created_at"}


@pytest.mark.parametrize(("query", "named"), [({"tweet.fields": "created_at,secret"}, "secret"), ({"expansions": "geo"}, "geo")])
def test_what_no_tweet_can_have_is_refused_by_name(query, named):
    """With what may be named."""
    with pytest.raises(WrongInput, match=named):
        shapes.fields_of(query)
        shapes.wants_authors(query)
