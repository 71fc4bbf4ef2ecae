"""Events: what is written is what is read, and what is no event is told as such."""

import dataclasses
import json

import pytest

from system.kernel import events
from system.kernel.errors import WrongInput

TWEET = events.Tweet(7 << 22, 3, "hello", 1_800_000_000_000, 7 << 22, in_reply_to=5, media_keys=("3_1",))


def test_a_tweet_survives_its_journey_through_the_log():
    """The event carries the whole tweet."""
    event = events.new_tweet(TWEET, "trace-1")
    back = events.decode(event.topic, b"3", event.encode())

    assert back == event
    assert events.tweet_of(back.payload) == TWEET


def test_any_text_survives_and_older_records_are_still_read():
    """Records that were written with escapes stand in topics and outboxes."""
    event = events.new_tweet(dataclasses.replace(TWEET, text='\u00e9 \U0001f600 "\\ \u2028\n'))
    escaped = json.dumps({"id": event.id, "payload": event.payload, "trace": ""}).encode()

    assert events.decode(event.topic, b"3", event.encode()) == events.decode(event.topic, b"3", escaped) == event


def test_the_payload_names_every_field_of_a_tweet():
    """A field that is added to Tweet and not to the payload would be lost on the way."""
    assert set(events.tweet_payload(TWEET)) == {f.name for f in dataclasses.fields(events.Tweet)}


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"id":"1"}', b'{"id":"1","payload":3}', b"\xff\xfe"])
def test_what_is_no_event_is_a_poison_message(value):
    """The consumer buries it; it never crashes on it."""
    with pytest.raises(WrongInput, match="new_tweet"):
        events.decode("new_tweet", b"3", value)
