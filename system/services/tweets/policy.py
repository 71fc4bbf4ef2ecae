"""What may be posted, and what makes two posts the same. Decides; reads no clock, no store."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.events import Tweet

MAX_TEXT = 280           # code points; Twitter's limit, without its double weight for some scripts
MAX_MEDIA = 4            # attachments; Twitter's limit
MEDIA_ID = re.compile(r"[0-9]{1,19}_[0-9]{1,19}")
MAX_IDS = 100            # ids in one look-up; Twitter's API v2
MAX_KEY = 128            # characters of an Idempotency-Key
DEFAULT_RESULTS = 10     # of a user's tweets page; Twitter's API v2
MIN_RESULTS = 1          # Twitter asks for 5; a smaller page costs nobody


@dataclass(frozen=True)
class Draft:
    """A post before it has an id. `in_reply_to`: id of the tweet it answers. `media_keys`: ids of finalised media."""

    text: str
    in_reply_to: int | None = None
    media_keys: tuple[str, ...] = ()


def draft(body: Any) -> Draft:
    """Return the post in a JSON body of `POST /2/tweets`. Raises WrongInput naming field, value and bound."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `text`.")
    media = _media(body.get("media"))
    text = body.get("text", "")
    if not isinstance(text, str) or len(text) > MAX_TEXT or not (text.strip() or media):
        size = len(text) if isinstance(text, str) else type(text).__name__
        raise WrongInput(f"`text` has {size} characters; it must be a string of 1 to {MAX_TEXT}, not only blanks.")
    if "\x00" in text or not _encodable(text):
        raise WrongInput("`text` holds a NUL or half a surrogate pair; send well-formed UTF-8.")
    return Draft(text, _reply(body.get("reply")), media)


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
    return ids.parse(raw["in_reply_to_tweet_id"], "reply.in_reply_to_tweet_id")


def _media(raw: Any) -> tuple[str, ...]:
    if raw is None:
        return ()
    keys = raw.get("media_ids") if isinstance(raw, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_MEDIA or not all(isinstance(k, str) and k for k in keys):
        raise WrongInput(f"`media.media_ids` is {str(keys)[:80]!r}; it must be a list of 1 to {MAX_MEDIA} media ids.")
    if not all(MEDIA_ID.fullmatch(key) for key in keys):
        raise WrongInput(f"`media.media_ids` holds {str(keys)[:80]!r}; use the ids that initialize returned.")
    if len(set(keys)) < len(keys):
        raise WrongInput(f"`media.media_ids` is {str(keys)[:80]!r}; it must name each picture once: leave the repeated one out.")
    return tuple(keys)


def body_hash(value: Draft) -> str:
    """Return what makes two posts with the same Idempotency-Key the same: 32 hex digits of their meaning."""
    meaning = json.dumps([value.text, value.in_reply_to, value.media_keys], separators=(",", ":"))
    return hashlib.sha256(meaning.encode()).hexdigest()[:32]


def check_key(key: str) -> str:
    """Return an Idempotency-Key that may be used. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def tweet(tweet_id: int, author_id: int, value: Draft, parent: Tweet | None) -> Tweet:
    """Return the tweet of a draft: time from its id, conversation from its parent. The same arguments give the same tweet."""
    conversation = parent.conversation_id if parent else (value.in_reply_to or tweet_id)
    return Tweet(tweet_id, author_id, value.text, ids.ms_of(tweet_id), conversation, value.in_reply_to, value.media_keys)


def may_reply(parent: Tweet | None, replay: bool) -> bool:
    """May a post answer `parent`? Not where it is unknown or deleted; a replay of an accepted post always may."""
    return replay or (parent is not None and not parent.deleted)


def id_list(text: str) -> list[int]:
    """Return the ids of a comma-separated `ids` parameter. Raises WrongInput unless there are 1 to 100."""
    parts = [part for part in text.split(",") if part]
    if not 1 <= len(parts) <= MAX_IDS:
        raise WrongInput(f"`ids` holds {len(parts)} ids; it must hold 1 to {MAX_IDS}, separated by commas.")
    return list(dict.fromkeys(ids.parse(part, "ids") for part in parts))
