"""The entities of a tweet in the cache, in what is served, and in entries of an earlier version."""

import dataclasses

import orjson

from scenarios.world import seeded_tweets
from system.kernel.events import Tweet
from system.kernel.text import entities, weight
from system.services.shared import shapes
from system.stores.redis import tweets as redis_tweets

TAGGED = Tweet(7 << 22, 3, "look #Zoo", 1_800_000_000_000, 7 << 22)
SHAPE = {"hashtags": [{"start": 5, "end": 9, "tag": "Zoo"}]}


def served(tweet, fields=None):
    return orjson.loads(orjson.dumps(shapes.tweet(tweet, fields)))


def test_a_cached_tweet_has_its_entities_whatever_it_was_read_with():
    """The cache holds them, so that a page computes nothing."""
    for entities_ in (None, entities.packed(TAGGED.text)):
        cached = redis_tweets._decoded(redis_tweets._encoded(dataclasses.replace(TAGGED, entities=entities_)))

        assert cached == TAGGED and cached.entities == entities.packed(TAGGED.text)
    plain = redis_tweets._decoded(redis_tweets._encoded(dataclasses.replace(TAGGED, text="a zoo.")))
    assert plain.entities == ""


def test_a_cached_entry_of_an_earlier_version_is_read():
    """It has seven parts; the entities are computed when the tweet is served."""
    old = redis_tweets._decoded(orjson.dumps([TAGGED.id, 3, TAGGED.text, TAGGED.created_ms, TAGGED.conversation_id, None, []]))

    assert old == TAGGED and old.entities is None
    assert served(old)["entities"] == SHAPE


def test_entities_are_served_by_default_and_if_named():
    """They cost no look-up. A tweet without any has no such field."""
    assert served(TAGGED)["entities"] == served(TAGGED, frozenset({"id", "entities"}))["entities"] == SHAPE
    assert "entities" not in served(TAGGED, frozenset({"id", "text"}))
    assert "entities" not in served(dataclasses.replace(TAGGED, text="a zoo"))


def test_the_load_generator_posts_only_texts_that_count_at_most_280():
    """Its texts have up to nine words of the seeded vocabulary and a hashtag; the longest of them still fits."""
    longest = sorted(range(seeded_tweets.WORDS), key=lambda index: -len(seeded_tweets.vocabulary()[index]))
    text = seeded_tweets.text_of(longest[:seeded_tweets.LONGEST_TEXT], longest[0])

    assert weight.weight(text) <= weight.MAX_WEIGHT
    assert [entity.value for entity in entities.entities(text)] == [seeded_tweets.vocabulary()[longest[0]]]
