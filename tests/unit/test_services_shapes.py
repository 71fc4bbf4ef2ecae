"""The JSON of the public API: what a client may request, and the response."""

import pytest

from system.kernel.errors import WrongInput
from system.kernel.events import Tweet
from system.services.shared import bodies, shapes

ANSWER = Tweet(20, 7, "so do I", 1_700_000_000_123, 10, in_reply_to=10)


def test_a_tweet_has_all_fields_if_none_was_named():
    """Ids are decimal strings; times are UTC with milliseconds."""
    assert shapes.tweet(ANSWER) == {
        "id": "20", "text": "so do I", "author_id": "7", "created_at": "2023-11-14T22:13:20.123Z", "conversation_id": "10",
        "edit_history_tweet_ids": ["20"], "referenced_tweets": [{"type": "replied_to", "id": "10"}],
    }


def test_named_fields_are_returned_with_the_default_ones():
    """As in Twitter's API: `id`, `text` and the edit history need not be named."""
    fields = shapes.fields_of({"tweet.fields": "author_id"})

    assert set(shapes.tweet(ANSWER, fields)) == {"id", "text", "edit_history_tweet_ids", "author_id"}


def test_a_twitter_field_without_a_value_in_the_lab_is_left_out():
    """A client that always requests the language of a tweet still works."""
    fields = shapes.fields_of({"tweet.fields": "lang,entities,created_at"})

    assert set(shapes.tweet(ANSWER, fields)) == {"id", "text", "edit_history_tweet_ids", "created_at"}


@pytest.mark.parametrize(("query", "named"), [
    ({"tweet.fields": "created_at,secret"}, "secret"), ({"expansions": "geo"}, "geo"), ({"user.fields": "walrus"}, "walrus"),
    ({"media.fields": "url,walrus"}, "walrus"), ({"poll.fields": "walrus"}, "walrus"), ({"place.fields": "walrus"}, "walrus"),
])
def test_an_unknown_field_is_refused_by_name(query, named):
    """With the fields that may be named."""
    with pytest.raises(WrongInput, match=f"names '{named}'"):
        bodies.view_of(query)


def test_the_nine_expansions_of_twitter_are_accepted():
    """Also those of what the lab does not have: polls and places."""
    named = ("author_id,in_reply_to_user_id,referenced_tweets.id,referenced_tweets.id.author_id,attachments.media_keys,"
             "attachments.poll_ids,entities.mentions.username,geo.place_id,edit_history_tweet_ids")

    assert bodies.view_of({"expansions": named}).expansions == frozenset(named.split(","))


@pytest.mark.parametrize(("expansion", "field"), [
    ("author_id", "author_id"), ("attachments.media_keys", "attachments"), ("referenced_tweets.id", "referenced_tweets"),
    ("in_reply_to_user_id", "in_reply_to_user_id"), ("referenced_tweets.id.author_id", "referenced_tweets"),
])
def test_an_expansion_brings_its_field_whatever_tweet_fields_says(expansion, field):
    """A client looks up the included object by the field's value. Learned from tweepy's users, who got authors without ids."""
    assert field in bodies.view_of({"expansions": expansion, "tweet.fields": "created_at"}).fields


def test_a_request_that_needs_no_lookup_is_plain():
    """Home timelines are read that way."""
    assert bodies.view_of({}).is_plain and bodies.view_of({"tweet.fields": "created_at"}).is_plain
    for query in ({"tweet.fields": "public_metrics"}, {"tweet.fields": "in_reply_to_user_id"}, {"expansions": "author_id"}):
        assert not bodies.view_of(query).is_plain
