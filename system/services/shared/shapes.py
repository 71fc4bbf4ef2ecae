"""JSON in the shapes of Twitter's API v2: tweets, users, the envelope. Ids are decimal strings.

Without `tweet.fields` a tweet carries every field that costs no look-up; with it, `id`, `text` and the named
ones. `public_metrics` of a tweet have to be counted, so they are returned only if named.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from system.kernel.errors import WrongInput
from system.kernel.events import Tweet
from system.kernel.text import entities
from system.ports import User

TWEET_FIELDS = (  # those of Twitter's API v2, so that existing clients work unchanged
    "attachments", "author_id", "context_annotations", "conversation_id", "created_at", "edit_controls",
    "edit_history_tweet_ids", "entities", "geo", "id", "in_reply_to_user_id", "lang", "non_public_metrics", "organic_metrics",
    "possibly_sensitive", "promoted_metrics", "public_metrics", "referenced_tweets", "reply_settings", "source", "text",
    "withheld",
)

USER_FIELDS = (
    "affiliation", "connection_status", "created_at", "description", "entities", "id", "is_identity_verified", "location",
    "most_recent_tweet_id", "name", "parody", "pinned_tweet_id", "profile_banner_url", "profile_image_url", "protected",
    "public_metrics", "receives_your_dm", "subscription_type", "url", "username", "verified", "verified_followers_count",
    "verified_type", "withheld",
)
METRICS = "public_metrics"
ENTITIES = "entities"

MEDIA_EXPANSION = "attachments.media_keys"
EXPANSIONS = ("author_id", MEDIA_EXPANSION)

Json = dict[str, Any]


@lru_cache(maxsize=4096)
def _second(wall_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_s))


def timestamp(wall_ms: int) -> str:
    """Return a wall time (ms since 1970) as Twitter writes it: 2026-11-22T18:00:00.000Z."""
    return f"{_second(wall_ms // 1000)}.{wall_ms % 1000:03d}Z"


def tweet(value: Tweet, fields: frozenset[str] | None = None, metrics: Mapping[int, Json] | None = None) -> Json:
    """Return one tweet.

    `fields`: as `fields_of` returned them. `metrics`: by tweet id; None if not requested.
    """
    text_id = str(value.id)
    shape: Json = {
        "id": text_id, "text": value.text, "author_id": str(value.author_id), "created_at": timestamp(value.created_ms),
        "conversation_id": str(value.conversation_id), "edit_history_tweet_ids": [text_id],
    }
    if value.in_reply_to is not None:
        shape["referenced_tweets"] = [{"type": "replied_to", "id": str(value.in_reply_to)}]
    if value.media_keys:
        shape["attachments"] = {"media_keys": list(value.media_keys)}
    if value.entities != "" and (fields is None or ENTITIES in fields) and (packed := entities.of(value)):
        shape[ENTITIES] = orjson.Fragment(packed)
    if metrics is not None and value.id in metrics:
        shape[METRICS] = metrics[value.id]
    if fields is not None:
        return {name: part for name, part in shape.items() if name in fields}
    return shape


def tweet_metrics(likes: int) -> Json:
    """Return a tweet's `public_metrics`. The lab does not count replies and views, so they are left out."""
    return {"like_count": likes, "quote_count": 0, "retweet_count": 0}


def fields_of(query: Mapping[str, str]) -> frozenset[str] | None:
    """Return the fields that `tweet.fields` names and those that are always present; None if it is absent.

    Raises WrongInput on a field that a tweet cannot have; fields of Twitter's API without a value in the lab
    are left out.
    """
    text = query.get("tweet.fields")
    if text is None:
        return None
    named = frozenset(part for part in text.split(",") if part)
    unknown = sorted(named.difference(TWEET_FIELDS))
    if unknown:
        raise WrongInput(f"`tweet.fields` names {unknown[0][:40]!r}; it may name {', '.join(TWEET_FIELDS)}.")
    return named | {"id", "text", "edit_history_tweet_ids"}


def wants_authors(query: Mapping[str, str]) -> bool:
    """Return whether the request wants the authors under `includes.users`.

    Raises WrongInput on an unsupported expansion, and on a field that a user cannot have.
    """
    user_fields_of(query)
    text = query.get("expansions")
    if not text:
        return False
    named = [part for part in text.split(",") if part]
    unknown = [part for part in named if part not in EXPANSIONS]
    if unknown:
        raise WrongInput(f"`expansions` names {unknown[0][:40]!r}; supported are {', '.join(EXPANSIONS)}.")
    return EXPANSIONS[0] in named


def user(value: User, fields: frozenset[str] | None = None) -> Json:
    """Return one user. `fields`: as `user_fields_of` returned them."""
    shape: Json = {
        "id": str(value.id), "username": value.username, "name": value.name, "created_at": timestamp(value.created_ms),
        "protected": value.protected,
        "public_metrics": {"followers_count": value.followers, "following_count": value.following},
    }
    if fields is not None:
        return {name: part for name, part in shape.items() if name in fields}
    return shape


def user_fields_of(query: Mapping[str, str]) -> frozenset[str] | None:
    """Return the fields that `user.fields` names and those that are always present.

    None (all) if it is absent.

    Raises WrongInput on a field that a user cannot have; fields of Twitter's API without a value in the lab
    are left out.
    """
    text = query.get("user.fields")
    if text is None:
        return None
    named = frozenset(part for part in text.split(",") if part)
    unknown = sorted(named.difference(USER_FIELDS))
    if unknown:
        raise WrongInput(f"`user.fields` names {unknown[0][:40]!r}; it may name {', '.join(USER_FIELDS)}.")
    return named | {"id", "name", "username"}


def user_page(users: Sequence[User], next_token: str | None, fields: frozenset[str] | None = None,
              previous_token: str | None = None) -> Json:
    """Return the envelope of a page of users."""
    meta: Json = {"result_count": len(users)}
    if next_token is not None:
        meta["next_token"] = next_token
    if previous_token is not None:
        meta["previous_token"] = previous_token
    return {"data": [user(value, fields) for value in users], "meta": meta}


def users(values: Sequence[User], query: Mapping[str, str]) -> list[Json]:
    """Return users for `includes`, with the fields that the request names."""
    fields = user_fields_of(query)
    return [user(value, fields) for value in values]


def page(data: Sequence[Json], next_token: str | None, users: Sequence[Json] | None = None,
         previous_token: str | None = None) -> Json:
    """Return the envelope of a page of tweets, newest first.

    `users`: for `includes`; None if not requested.
    """
    meta: Json = {"result_count": len(data)}
    if data:
        meta["newest_id"], meta["oldest_id"] = data[0]["id"], data[-1]["id"]
    if next_token is not None:
        meta["next_token"] = next_token
    if previous_token is not None:
        meta["previous_token"] = previous_token
    envelope: Json = {"data": data, "meta": meta}
    if users is not None:
        envelope["includes"] = {"users": users}
    return envelope


def missing(kind: str, value: str) -> Json:
    """Return the `errors` entry for one of several requested objects that does not exist."""
    return {"title": "Not Found Error", "detail": f"Could not find {kind} with id: [{value}].", "type": "about:blank",
            "status": 404, "resource_type": kind, "resource_id": value}
