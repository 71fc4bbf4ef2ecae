"""Building blocks of route descriptions: JSON Schemas of parameters and bodies. Data only.

Objects are closed (`additionalProperties: false`): a field that a service adds without a schema here fails
the API tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from system.kernel.ids import MAX_ID

Schema = dict[str, Any]

TWEET_FIELDS = (  # those of Twitter's API v2; the lab leaves out fields that it has no value for
    "attachments", "author_id", "context_annotations", "conversation_id", "created_at", "edit_controls",
    "edit_history_tweet_ids", "entities", "geo", "id", "in_reply_to_user_id", "lang", "non_public_metrics", "organic_metrics",
    "possibly_sensitive", "promoted_metrics", "public_metrics", "referenced_tweets", "reply_settings", "source", "text",
    "withheld",
)

USER_FIELD_NAMES = (  # as above
    "affiliation", "connection_status", "created_at", "description", "entities", "id", "is_identity_verified", "location",
    "most_recent_tweet_id", "name", "parody", "pinned_tweet_id", "profile_banner_url", "profile_image_url", "protected",
    "public_metrics", "receives_your_dm", "subscription_type", "url", "username", "verified", "verified_followers_count",
    "verified_type", "withheld",
)


EXPANSION_NAMES = (
    "attachments.media_keys", "attachments.poll_ids", "author_id", "edit_history_tweet_ids", "entities.mentions.username",
    "geo.place_id", "in_reply_to_user_id", "referenced_tweets.id", "referenced_tweets.id.author_id",
)
MEDIA_FIELD_NAMES = (
    "alt_text", "duration_ms", "height", "media_key", "non_public_metrics", "organic_metrics", "preview_image_url",
    "promoted_metrics", "public_metrics", "type", "url", "variants", "width",
)
POLL_FIELD_NAMES = ("duration_minutes", "end_datetime", "id", "options", "voting_status")
PLACE_FIELD_NAMES = ("contained_within", "country", "country_code", "full_name", "geo", "id", "name", "place_type")


@dataclass(frozen=True)
class Parameter:
    """One parameter. `place`: query, path or header. A list is sent as one value, separated by commas."""

    name: str
    schema: Schema
    about: str
    required: bool = False
    place: str = "query"


@dataclass(frozen=True)
class Operation:
    """The description of one route.

    `answers`: success status -> schema of its JSON body. `body`: schema of the request body, None if it has
    none; `form`: the body is form-encoded instead of JSON.
    """

    summary: str
    answers: Mapping[int, Schema]
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    form: bool = False
    path: Mapping[str, Schema] = field(default_factory=dict)
    """Schemas of path parameters that are not ids."""


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, closed: bool = True) -> Schema:
    """Return the schema of an object with these fields and, where `closed`, no other."""
    shape: dict[str, Any] = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    if closed:
        shape["additionalProperties"] = False
    return shape


def listed(items: Schema, most: int | None = None) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items} | ({"maxItems": most} if most is not None else {})


def data(schema: Schema) -> Schema:
    """Return the schema of the envelope `{"data": …}`."""
    return record({"data": schema})


def whole(low: int, high: int, default: int | None = None) -> Schema:
    """Return the schema of an integer."""
    return {"type": "integer", "minimum": low, "maximum": high} | ({"default": default} if default is not None else {})


def text(low: int, high: int, pattern: str | None = None) -> Schema:
    """Return the schema of a string; lengths in code points."""
    return {"type": "string", "minLength": low, "maxLength": high} | ({"pattern": pattern} if pattern else {})


def named(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


TRUTH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
ID: Schema = text(1, 19, "^[0-9]{1,19}$") | {"description": f"an integer from 0 to {MAX_ID}, as decimal digits"}
# A short pattern cannot express "at most 2^63 - 1": this one means "below 9 * 10^18", which tweets reach in
# the year 2078.
_ASKED = "[0-8]?[0-9]{1,18}"
ASKED_ID: Schema = text(1, 19, f"^{_ASKED}$")
TOKEN: Schema = text(1, 2000, rf"^({MAX_ID}|{_ASKED}(\.{_ASKED}){{0,99}}~?)$")
SEALED: Schema = text(1, 4096, "^[A-Za-z0-9_-]+$")
TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
ASKED_TIME: Schema = text(20, 20, "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$")
NAME: Schema = text(1, 15, "^[A-Za-z0-9_]{1,15}$")

TWEET_COUNTS = ("retweet_count", "reply_count", "like_count", "quote_count", "bookmark_count", "impression_count")
ERROR = record({"title": {"type": "string"}, "detail": {"type": "string"}, "type": {"type": "string"},
                "status": {"type": "integer"}}, closed=False)
MISSING = record({"title": {"type": "string"}, "detail": {"type": "string"}, "type": {"type": "string"},
                  "status": {"type": "integer"}, "resource_type": {"type": "string"}, "resource_id": {"type": "string"},
                  "value": {"type": "string"}, "parameter": {"type": "string"}})
USER = record(
    {"id": ID, "username": NAME, "name": text(1, 50)},
    {"created_at": TIME, "protected": TRUTH, "public_metrics": record(
        {"followers_count": COUNT, "following_count": COUNT, "listed_count": COUNT}, {"tweet_count": COUNT}),
     "connection_status": listed({"enum": ["follow_request_received", "follow_request_sent", "followed_by", "following"]})})
_PLACE: Mapping[str, Schema] = {"start": COUNT, "end": COUNT}
ENTITIES = record({}, {
    "urls": listed(record({**_PLACE, "url": text(1, 4096), "expanded_url": text(1, 4103), "display_url": text(1, 30)})),
    "hashtags": listed(record({**_PLACE, "tag": text(1, 280)})), "cashtags": listed(record({**_PLACE, "tag": text(1, 9)})),
    "mentions": listed(record({**_PLACE, "username": text(1, 20, "^[A-Za-z0-9_]{1,20}$")}, {"id": ID}))})
TWEET = record(
    {"id": ID, "text": text(0, 10_000), "edit_history_tweet_ids": listed(ID)},
    {"author_id": ID, "created_at": TIME, "conversation_id": ID, "in_reply_to_user_id": ID,
     "referenced_tweets": listed(record({"type": {"const": "replied_to"}, "id": ID})),
     "attachments": record({"media_keys": listed({"type": "string"})}), "entities": ENTITIES,
     "public_metrics": record(dict.fromkeys(TWEET_COUNTS, COUNT))})
NEIGHBORS: Mapping[str, Schema] = {  # each is left out if there is no such page; a search has no previous_token
    "next_token": {"type": "string"}, "previous_token": {"type": "string"}}
TWEETS_META = record({"result_count": COUNT}, {"newest_id": ID, "oldest_id": ID, **NEIGHBORS})
USERS_META = record({"result_count": COUNT}, NEIGHBORS)

COMPONENTS: dict[str, Schema] = {"Error": ERROR, "Missing": MISSING, "Tweet": TWEET, "User": USER}
"""Schemas that others reference by `named`."""

MEDIA_SHOWN = record({"media_key": {"type": "string"}, "type": {"const": "photo"}}, {"url": {"type": "string"}})
INCLUDES: Mapping[str, Schema] = {"includes": record({}, {
    "users": listed(named("User")), "tweets": listed(named("Tweet")), "media": listed(MEDIA_SHOWN)})}
ERRORS: Mapping[str, Schema] = {"errors": listed(named("Missing"))}
ONE_TWEET = record({"data": named("Tweet")}, {**INCLUDES, **ERRORS})
ONE_USER = data(named("User"))
# An empty page has no `data`.
TWEET_PAGE = record({"meta": TWEETS_META}, {"data": listed(named("Tweet")) | {"minItems": 1}, **INCLUDES, **ERRORS})
USER_PAGE = record({"meta": USERS_META}, {"data": listed(named("User")) | {"minItems": 1}, **ERRORS})
TWEETS = record({}, {"data": listed(named("Tweet")) | {"minItems": 1}, **INCLUDES, **ERRORS})
USERS = record({}, {"data": listed(named("User")) | {"minItems": 1}, **ERRORS})

IDS = Parameter("ids", text(1, 1999, f"^{_ASKED}(,{_ASKED}){{0,99}}$"), "1 to 100 ids, separated by commas", required=True)
NAMES = Parameter("usernames", text(1, 1599, "^[A-Za-z0-9_]{1,15}(,[A-Za-z0-9_]{1,15}){0,99}$"),
                  "1 to 100 usernames, separated by commas", required=True)


def several(names: Sequence[str]) -> Schema:
    """Return the schema of one or more of `names`, separated by commas."""
    one = f"({'|'.join(name.replace('.', r'[.]') for name in names)})"
    return {"type": "string", "pattern": f"^{one}(,{one}){{0,{len(names) - 1}}}$"}


FIELDS = Parameter("tweet.fields", several(TWEET_FIELDS), "fields of a tweet, separated by commas; if absent, all but "
                   "public_metrics and in_reply_to_user_id, which have to be looked up")
USER_FIELDS = Parameter("user.fields", several(USER_FIELD_NAMES),
                        "fields of a user, separated by commas; if absent, all but connection_status (only for single users)")
EXPANSIONS = Parameter(
    "expansions", several(EXPANSION_NAMES),
    "objects to include: users, tweets, media. Each brings its field into `data`. No tweet of the lab has a poll or a place")
MEDIA_FIELDS = Parameter("media.fields", several(MEDIA_FIELD_NAMES), "fields of included pictures; if absent, all")
POLL_FIELDS = Parameter("poll.fields", several(POLL_FIELD_NAMES), "accepted; no tweet of the lab has a poll")
PLACE_FIELDS = Parameter("place.fields", several(PLACE_FIELD_NAMES), "accepted; no tweet of the lab has a place")
TWEET_VIEW = (FIELDS, EXPANSIONS, USER_FIELDS, MEDIA_FIELDS, POLL_FIELDS, PLACE_FIELDS)
USER_VIEW = (USER_FIELDS, FIELDS, Parameter("expansions", several(("pinned_tweet_id",)), "accepted; no user of the lab has a "
                                            "pinned tweet"))
KEY = Parameter("idempotency-key", text(1, 128, "^[!-~]{1,128}$"), "requests with the same key are executed once", place="header")


def page_of(most: int, default: int, least: int = 1) -> tuple[Parameter, ...]:
    """Return the parameters of a list with cursors."""
    return (Parameter("max_results", whole(least, most, default), "entries in one page"),
            Parameter("pagination_token", TOKEN, "`next_token` or `previous_token` of a page, unchanged; leave it out for the "
                      "first page. A bare id is valid too: the page after that id"))


BOUNDS = (Parameter("since_id", ASKED_ID, "only tweets newer than this one"),
          Parameter("until_id", ASKED_ID, "only tweets older than this one"),
          Parameter("start_time", ASKED_TIME, "only tweets from this time on"),
          Parameter("end_time", ASKED_TIME, "only tweets before this time"))
EXCLUDE = Parameter("exclude", several(("replies", "retweets")),
                    "leaves replies out; a page may then be short or empty and still have a `next_token`")
TWEET_WINDOW = (*page_of(100, 10), *BOUNDS, *TWEET_VIEW)
TIMELINE_WINDOW = (*TWEET_WINDOW, EXCLUDE)
