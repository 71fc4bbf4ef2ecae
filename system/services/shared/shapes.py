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
USER_EXPANSIONS = ("pinned_tweet_id",)

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


def tweet_metrics(likes: int, replies: int = 0) -> Json:
    """Return a tweet's `public_metrics`. The lab has no retweets, quotes and bookmarks, and does not count views."""
    return {"retweet_count": 0, "reply_count": replies, "like_count": likes, "quote_count": 0, "bookmark_count": 0,
            "impression_count": 0}


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


def user(value: User, fields: frozenset[str] | None = None, tweets: Mapping[int, int] | None = None) -> Json:
    """Return one user. `fields`: as `user_fields_of` returned them. `tweets`: user -> number of tweets, if counted."""
    shape: Json = {
        "id": str(value.id), "username": value.username, "name": value.name, "created_at": timestamp(value.created_ms),
        "protected": value.protected,
        METRICS: {"followers_count": value.followers, "following_count": value.following, "listed_count": 0},
    }
    if tweets and value.id in tweets:
        shape[METRICS]["tweet_count"] = tweets[value.id]
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


def user_expansions_of(query: Mapping[str, str]) -> None:
    """Check `expansions` and `tweet.fields` of a request for users.

    The one expansion adds nothing: no user of the lab has a pinned tweet. Raises WrongInput on another.
    """
    fields_of(query)
    unknown = [part for part in query.get("expansions", "").split(",") if part and part not in USER_EXPANSIONS]
    if unknown:
        raise WrongInput(f"`expansions` names {unknown[0][:40]!r}; it may name {', '.join(USER_EXPANSIONS)}.")


def user_page(users: Sequence[User], next_token: str | None, fields: frozenset[str] | None = None,
              previous_token: str | None = None, tweets: Mapping[int, int] | None = None) -> Json:
    """Return the body of a page of users. An empty page has no `data`. `tweets`: as for `user`."""
    data: Json = {"data": [user(value, fields, tweets) for value in users]} if users else {}
    return data | {"meta": {"result_count": len(users)} | _neighbors(next_token, previous_token)}


def page_meta(ids: Sequence[int], next_token: str | None, previous_token: str | None = None) -> Json:
    """Return `meta` of a page of tweets. `ids`: of its tweets, in any order."""
    meta: Json = {"result_count": len(ids)}
    if ids:
        meta["newest_id"], meta["oldest_id"] = str(max(ids)), str(min(ids))
    return meta | _neighbors(next_token, previous_token)


def _neighbors(next_token: str | None, previous_token: str | None) -> Json:
    tokens = {"next_token": next_token, "previous_token": previous_token}
    return {name: token for name, token in tokens.items() if token is not None}


def missing(kind: str, value: str, parameter: str = "ids") -> Json:
    """Return the `errors` entry for one of several requested objects that does not exist.

    `parameter`: the parameter or field that names it.
    """
    return {"title": "Not Found Error", "detail": f"Could not find {kind} with {parameter}: [{value}].",
            "type": "about:blank", "status": 404, "resource_type": kind, "resource_id": value, "value": value,
            "parameter": parameter}
