"""Building blocks of route descriptions: JSON Schemas of parameters and bodies. Data only.

Objects are closed (`additionalProperties: false`): a field that a service adds without a schema here fails
the API tests.
"""

from __future__ import annotations

from collections.abc import Mapping
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

ERROR = record({"title": {"type": "string"}, "detail": {"type": "string"}, "type": {"type": "string"},
                "status": {"type": "integer"}}, closed=False)
MISSING = record({"title": {"type": "string"}, "detail": {"type": "string"}, "type": {"type": "string"},
                  "status": {"type": "integer"}, "resource_type": {"type": "string"}, "resource_id": {"type": "string"}})
USER = record(
    {"id": ID, "username": NAME, "name": text(1, 50)},
    {"created_at": TIME, "protected": TRUTH, "public_metrics": record({"followers_count": COUNT, "following_count": COUNT}),
     "connection_status": listed({"enum": ["follow_request_received", "follow_request_sent", "followed_by", "following"]})})
_PLACE: Mapping[str, Schema] = {"start": COUNT, "end": COUNT}
ENTITIES = record({}, {
    "urls": listed(record({**_PLACE, "url": text(1, 4096), "expanded_url": text(1, 4103), "display_url": text(1, 30)})),
    "hashtags": listed(record({**_PLACE, "tag": text(1, 280)})), "cashtags": listed(record({**_PLACE, "tag": text(1, 9)})),
    "mentions": listed(record({**_PLACE, "username": text(1, 20, "^[A-Za-z0-9_]{1,20}$")}, {"id": ID}))})
TWEET = record(
    {"id": ID, "text": text(0, 10_000), "edit_history_tweet_ids": listed(ID)},
    {"author_id": ID, "created_at": TIME, "conversation_id": ID,
     "referenced_tweets": listed(record({"type": {"const": "replied_to"}, "id": ID})),
     "attachments": record({"media_keys": listed({"type": "string"})}), "entities": ENTITIES,
     "public_metrics": record({"like_count": COUNT, "quote_count": COUNT, "retweet_count": COUNT})})
NEIGHBORS: Mapping[str, Schema] = {  # each is left out if there is no such page; a search has no previous_token
    "next_token": {"type": "string"}, "previous_token": {"type": "string"}}
TWEETS_META = record({"result_count": COUNT}, {"newest_id": ID, "oldest_id": ID, **NEIGHBORS})
USERS_META = record({"result_count": COUNT}, NEIGHBORS)

COMPONENTS: dict[str, Schema] = {"Error": ERROR, "Missing": MISSING, "Tweet": TWEET, "User": USER}
"""Schemas that others reference by `named`."""

MEDIA_SHOWN = record({"media_key": {"type": "string"}, "type": {"const": "photo"}, "url": {"type": "string"}})
INCLUDES: Mapping[str, Schema] = {"includes": record({}, {"users": listed(named("User")), "media": listed(MEDIA_SHOWN)})}
ERRORS: Mapping[str, Schema] = {"errors": listed(named("Missing"))}
ONE_TWEET = record({"data": named("Tweet")}, INCLUDES)
ONE_USER = data(named("User"))
TWEET_PAGE = record({"data": listed(named("Tweet")), "meta": TWEETS_META}, {**INCLUDES, **ERRORS})
USER_PAGE = record({"data": listed(named("User")), "meta": USERS_META}, ERRORS)

IDS = Parameter("ids", text(1, 1999, f"^{_ASKED}(,{_ASKED}){{0,99}}$"), "1 to 100 ids, separated by commas", required=True)
_ANY_FIELD = f"({'|'.join(TWEET_FIELDS)})"
FIELDS = Parameter("tweet.fields", {"type": "string", "pattern": f"^{_ANY_FIELD}(,{_ANY_FIELD}){{0,21}}$"},
                   "fields of a tweet, separated by commas; if absent, all but public_metrics")
_ANY_OF_USER = f"({'|'.join(USER_FIELD_NAMES)})"
USER_FIELDS = Parameter("user.fields", {"type": "string", "pattern": f"^{_ANY_OF_USER}(,{_ANY_OF_USER}){{0,23}}$"},
                        "fields of a user, separated by commas; if absent, all but connection_status (only for single users)")
_EXPANSION = r"(author_id|attachments\.media_keys)"
EXPANSIONS = Parameter("expansions", {"type": "string", "pattern": f"^{_EXPANSION}(,{_EXPANSION}){{0,1}}$"},
                       "author_id: authors in includes.users; attachments.media_keys: pictures in includes.media")
KEY = Parameter("idempotency-key", text(1, 128, "^[!-~]{1,128}$"), "requests with the same key are executed once", place="header")


def page_of(most: int, default: int, least: int = 1) -> tuple[Parameter, ...]:
    """Return the parameters of a list with cursors."""
    return (Parameter("max_results", whole(least, most, default), "entries in one page"),
            Parameter("pagination_token", TOKEN, "`next_token` or `previous_token` of a page, unchanged; leave it out for the "
                      "first page. A bare id is valid too: the page after that id"))


TWEET_WINDOW = (*page_of(100, 10), Parameter("since_id", ASKED_ID, "only tweets newer than this one"),
                Parameter("until_id", ASKED_ID, "only tweets older than this one"), FIELDS, EXPANSIONS, USER_FIELDS)
