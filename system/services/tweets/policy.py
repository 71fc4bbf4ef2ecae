"""What may be posted, and what makes two posts the same. Pure: reads no clock, no store."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.events import Tweet
from system.kernel.http.asgi import only
from system.kernel.text import weight

MAX_RAW = 10_000         # code points before URLs and emoji are counted; bounds the work and the row
MAX_MEDIA = 4            # attachments; Twitter's limit
MEDIA_ID = re.compile(r"[0-9]{1,19}_[0-9]{1,19}")
MAX_IDS = 100            # ids in one look-up; Twitter's API v2
MAX_KEY = 128            # characters of an Idempotency-Key
DEFAULT_RESULTS = 10     # of a user's tweets page; Twitter's API v2
MIN_RESULTS = 1          # Twitter requires 5; a smaller page does no harm


@dataclass(frozen=True)
class Draft:
    """A post before it has an id.

    `in_reply_to`: id of the tweet it replies to. `media_keys`: ids of finalised media.
    """

    text: str
    in_reply_to: int | None = None
    media_keys: tuple[str, ...] = ()


def draft(body: Any) -> Draft:
    """Return the post in a JSON body of `POST /2/tweets`. Raises WrongInput naming field, value and bound."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `text`.")
    only(body, ("text", "reply", "media"))
    media = _media(body.get("media"))
    return Draft(_text(body.get("text", ""), bool(media)), _reply(body.get("reply")), media)


def _text(text: Any, has_media: bool) -> str:
    if not isinstance(text, str):
        raise WrongInput(f"`text` is {type(text).__name__}; it must be a string that counts 1 to {weight.MAX_WEIGHT}.")
    if not has_media and weight.is_blank(text):
        raise WrongInput(f"`text` is blank; it must be a string that counts 1 to {weight.MAX_WEIGHT}, or the tweet needs "
                         "a picture.")
    if len(text) > MAX_RAW:
        raise WrongInput(f"`text` has {len(text)} characters; it may have {MAX_RAW}, and count {weight.MAX_WEIGHT}. Shorten it.")
    if "\x00" in text or weight.has_invalid(text) or not _encodable(text):
        raise WrongInput("`text` holds a NUL, U+FFFE, U+FEFF, U+FFFF or an unpaired surrogate; send well-formed UTF-8 "
                         "without them.")
    counted = weight.weight(text)
    if counted > weight.MAX_WEIGHT:
        raise WrongInput(f"`text` counts {counted}; it may count {weight.MAX_WEIGHT}: a URL counts {weight.URL_WEIGHT}, an emoji "
                         "or a character of Chinese, Japanese or Korean 2. Shorten it.")
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reply(raw: Any) -> int | None:
    if raw is None:
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("in_reply_to_tweet_id"), str):
        raise WrongInput(f"`reply` is {str(raw)[:80]!r}; it must be an object with `in_reply_to_tweet_id`, a decimal string.")
    only(raw, ("in_reply_to_tweet_id",), "reply.")
    return ids.parse(raw["in_reply_to_tweet_id"], "reply.in_reply_to_tweet_id")


def _media(raw: Any) -> tuple[str, ...]:
    if raw is None:
        return ()
    keys = raw.get("media_ids") if isinstance(raw, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_MEDIA or not all(isinstance(k, str) and k for k in keys):
        raise WrongInput(f"`media.media_ids` is {str(keys)[:80]!r}; it must be a list of 1 to {MAX_MEDIA} media ids.")
    only(raw, ("media_ids",), "media.")
    if not all(MEDIA_ID.fullmatch(key) for key in keys):
        raise WrongInput(f"`media.media_ids` holds {str(keys)[:80]!r}; use the ids that initialize returned.")
    if len(set(keys)) < len(keys):
        raise WrongInput(f"`media.media_ids` is {str(keys)[:80]!r}; it must name each picture once: remove the repeated one.")
    return tuple(keys)


def body_hash(value: Draft) -> str:
    """Return a hash of the content of a post, 32 hex digits.

    Two posts with one Idempotency-Key must have the same.
    """
    content = json.dumps([value.text, value.in_reply_to, value.media_keys], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def check_key(key: str) -> str:
    """Return the Idempotency-Key if it is valid. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def tweet(tweet_id: int, author_id: int, value: Draft, parent: Tweet | None, packed: str = "") -> Tweet:
    """Return the tweet of a draft: time from its id, conversation from its parent. Deterministic. `packed`: its entities."""
    conversation = parent.conversation_id if parent else (value.in_reply_to or tweet_id)
    return Tweet(tweet_id, author_id, value.text, ids.ms_of(tweet_id), conversation, value.in_reply_to, value.media_keys,
                 entities=packed)


def may_reply(parent: Tweet | None, replay: bool) -> bool:
    """Return whether a post may reply to `parent`.

    An unknown or deleted one: only a replay of an accepted post.
    """
    return replay or (parent is not None and not parent.deleted)


def id_list(text: str) -> list[int]:
    """Return the ids of a comma-separated `ids` parameter. Raises WrongInput unless there are 1 to 100."""
    parts = [part for part in text.split(",") if part]
    if not 1 <= len(parts) <= MAX_IDS:
        raise WrongInput(f"`ids` holds {len(parts)} ids; it must hold 1 to {MAX_IDS}, separated by commas.")
    return list(dict.fromkeys(ids.parse(part, "ids") for part in parts))
