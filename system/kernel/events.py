"""Events that services publish to Kafka. Delivery is at least once: consumers may see an event repeatedly.

| topic | key | meaning |
|---|---|---|
| new_tweet | author id | a tweet is durable; carries the whole tweet |
| tweet_deleted | author id | a tweet's `deleted` flag is durable |
| new_follow | follower id | a follow edge changed; the consumer reads the edge again |
| new_like | tweet id | a like changed; the consumer counts the tweet's likes again |

Each topic has a dead-letter topic `<topic>.dead`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from system.kernel.errors import WrongInput
from system.kernel.ids import MAX_ID, ms_of

NEW_TWEET = "new_tweet"
TWEET_DELETED = "tweet_deleted"
NEW_FOLLOW = "new_follow"
NEW_LIKE = "new_like"
TOPICS = (NEW_TWEET, TWEET_DELETED, NEW_FOLLOW, NEW_LIKE)
GROUPS: dict[str, tuple[str, ...]] = {
    "fanout": (NEW_TWEET, TWEET_DELETED, NEW_FOLLOW),
    "indexer": (NEW_TWEET, TWEET_DELETED, NEW_LIKE),
    "liker": (NEW_LIKE,),
}
"""Consumer group -> the topics that it reads. The groups of the relays are not included."""
RELAYED = (NEW_TWEET, TWEET_DELETED)
"""Topics that every relay reads, each relay in its own group, to learn which outbox rows are published."""
DEAD = ".dead"
# Longest age of a tweet id at which the outbox still stores the tweet under the time in its id: the relay
# reads an outbox bucket until it is 110 s old, and the write itself may take some seconds.
LATE_MS = 90_000


@dataclass(frozen=True)
class Tweet:
    """A tweet as it is stored.

    `created_ms`: wall time in ms since 1970, as encoded in the id. `conversation_id`: id of the first tweet
    of the thread (the tweet's own id if it is not a reply). `media_keys`: ids of attached media.
    `deleted`: once True, it stays True. `entities`: as `kernel/text/entities.py` packs them; None where the tweet
    was stored without them (`entities.of` computes them); no part of what makes two tweets equal.
    """

    id: int
    author_id: int
    text: str
    created_ms: int
    conversation_id: int
    in_reply_to: int | None = None
    media_keys: tuple[str, ...] = ()
    deleted: bool = False
    entities: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Event:
    """One event. `id`: the same for every copy of the event. `payload`: plain JSON values.

    `trace`: the id of the request that caused it and, if the request is sampled, a space and its W3C
    traceparent (`kernel/telemetry/tracing.py`).
    """

    topic: str
    key: int
    id: str
    payload: dict[str, Any]
    trace: str = ""

    def encode(self) -> bytes:
        """Return the event as JSON bytes: the value of a Kafka record, and the body of an outbox row."""
        return orjson.dumps({"id": self.id, "payload": self.payload, "trace": self.trace})  # 0.5 µs; json.dumps took 12


def decode(topic: str, key: bytes | None, value: bytes) -> Event:
    """Return the event in a Kafka record. Raises WrongInput if it contains none (a poison message)."""
    try:
        raw = orjson.loads(value)
        return Event(topic, int(key or b"0"), str(raw["id"]), dict(raw["payload"]), str(raw.get("trace", "")))
    except (ValueError, KeyError, TypeError) as problem:
        raise WrongInput(f"A record of topic {topic} is not an event ({problem!r}): {value[:80]!r}.") from None


def flaw(event: Event) -> str:
    """Return why `event` can never be processed; "" if its fields are valid for its topic."""
    if not _is_id(event.key):
        return f"its key is {event.key}; the key must be an id: a whole number from 0 to {MAX_ID}"
    invalid = [name for name in _IDS.get(event.topic, ()) if not _is_id(event.payload.get(name))]
    if not invalid and event.topic == NEW_TWEET:
        invalid = [name for name, fits in _TWEET_FIELDS.items() if not fits(event.payload.get(name))]
    if not invalid:
        return ""
    value = repr(event.payload.get(invalid[0]))[:80]
    return (f"{invalid[0]} is {value}, which is not valid in an event of {event.topic}; "
            f"an id is a whole number from 0 to {MAX_ID}")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID


_IDS = {
    NEW_TWEET: ("id", "author_id", "conversation_id"), TWEET_DELETED: ("id", "author_id"),
    NEW_FOLLOW: ("follower_id", "followee_id"), NEW_LIKE: ("tweet_id", "user_id"),
}
_TWEET_FIELDS: dict[str, Callable[[Any], bool]] = {
    "created_ms": _is_id,
    "text": lambda value: isinstance(value, str),
    "in_reply_to": lambda value: value is None or _is_id(value),
    "media_keys": lambda value: isinstance(value, list | tuple) and all(isinstance(key, str) for key in value),
    "deleted": lambda value: isinstance(value, bool),
    "entities": lambda value: value is None or isinstance(value, str),
}


def tweet_payload(tweet: Tweet) -> dict[str, Any]:
    """Return `tweet` as plain JSON values; ids stay integers."""
    payload = {  # field by field: dataclasses.asdict takes 20 µs, more than any other client-side step of a post
        "id": tweet.id, "author_id": tweet.author_id, "text": tweet.text, "created_ms": tweet.created_ms,
        "conversation_id": tweet.conversation_id, "in_reply_to": tweet.in_reply_to, "media_keys": list(tweet.media_keys),
        "deleted": tweet.deleted,
    }
    if tweet.entities:
        payload["entities"] = tweet.entities
    return payload


def tweet_of(payload: dict[str, Any]) -> Tweet:
    """Return the tweet in a payload. Raises WrongInput if a field is missing."""
    try:
        return Tweet(**(payload | {"media_keys": tuple(payload.get("media_keys", ()))}))
    except TypeError as problem:
        raise WrongInput(f"A payload is not a tweet: {problem}.") from None


def new_tweet(tweet: Tweet, trace: str = "") -> Event:
    """Return the event that reports that the tweet is durable."""
    return Event(NEW_TWEET, tweet.author_id, str(tweet.id), tweet_payload(tweet), trace)


def outbox_time_ms(tweet_id: int, now_ms: int) -> int:
    """Return the time under which the outbox stores a tweet, in ms since 1970.

    This is the time in the id, so that a repeated write targets the same row. If the id is LATE_MS old or
    older, it is the current time, because the relay may no longer read the bucket of the id's time.
    """
    created_ms = ms_of(tweet_id)
    return created_ms if now_ms - created_ms < LATE_MS else now_ms


def tweet_deleted(tweet_id: int, author_id: int, trace: str = "") -> Event:
    """Return the event that reports that the tweet's `deleted` flag is durable."""
    return Event(TWEET_DELETED, author_id, f"{tweet_id}-deleted", {"id": tweet_id, "author_id": author_id}, trace)


def new_follow(follower_id: int, followee_id: int, following: bool, version: int, trace: str = "") -> Event:
    """Return the event that reports a changed follow edge.

    `following`: the state of the edge at `version`. It may be outdated: consumers read the edge itself.
    """
    payload = {"follower_id": follower_id, "followee_id": followee_id, "following": following, "version": version}
    return Event(NEW_FOLLOW, follower_id, f"{follower_id}-{followee_id}-{version}", payload, trace)


def new_like(user_id: int, tweet_id: int, liked: bool, version: int, trace: str = "") -> Event:
    """Return the event that reports a changed like.

    `liked`: the state of the like at `version`. It may be outdated: consumers read the likes themselves.
    """
    payload = {"tweet_id": tweet_id, "user_id": user_id, "liked": liked, "version": version}
    return Event(NEW_LIKE, tweet_id, f"{tweet_id}-{user_id}-{version}", payload, trace)
