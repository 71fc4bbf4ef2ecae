"""Events: encoding round-trips, and invalid records are rejected."""

import dataclasses
import json

import pytest

from system.kernel import events
from system.kernel.errors import WrongInput

TWEET = events.Tweet(7 << 22, 3, "hello", 1_800_000_000_000, 7 << 22, in_reply_to=5, media_keys=("3_1",))


def test_a_tweet_round_trips_through_an_event():
    """The event contains the whole tweet."""
    event = events.new_tweet(TWEET, "trace-1")
    decoded = events.decode(event.topic, b"3", event.encode())

    assert decoded == event
    assert events.tweet_of(decoded.payload) == TWEET


def test_any_text_round_trips_and_older_records_are_still_read():
    """Topics and outboxes contain records that were written with escapes."""
    event = events.new_tweet(dataclasses.replace(TWEET, text='\u00e9 \U0001f600 "\\ \u2028\n'))
    escaped = json.dumps({"id": event.id, "payload": event.payload, "trace": ""}).encode()

    assert events.decode(event.topic, b"3", event.encode()) == events.decode(event.topic, b"3", escaped) == event


def test_the_payload_names_every_field_of_a_tweet():
    """A field that is added to Tweet but not to the payload would be lost."""
    with_entities = dataclasses.replace(TWEET, text="#a", entities='{"hashtags":[]}')
    payload = events.tweet_payload(with_entities)
    assert set(payload) == {f.name for f in dataclasses.fields(events.Tweet)}
    assert events.tweet_of(payload).entities == with_entities.entities


def test_a_tweet_without_entities_costs_no_field():
    """Most tweets have none; an event of an earlier version reads the same."""
    assert "entities" not in events.tweet_payload(TWEET)
    assert events.tweet_of(events.tweet_payload(TWEET)).entities is None


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"id":"1"}', b'{"id":"1","payload":3}', b"\xff\xfe"])
def test_bytes_that_are_not_an_event_are_a_poison_message(value):
    """The consumer sends it to the dead-letter topic; it never crashes on it."""
    with pytest.raises(WrongInput, match="new_tweet"):
        events.decode("new_tweet", b"3", value)
