"""What the routes of tweets, timelines and search take and give."""

from __future__ import annotations

from system.services.gateway.describe_parts import (
    ASKED_ID,
    ERRORS,
    EXPANSIONS,
    FIELDS,
    IDS,
    INCLUDES,
    KEY,
    ONE_TWEET,
    TRUTH,
    TWEET_PAGE,
    TWEET_WINDOW,
    Operation,
    Parameter,
    data,
    listed,
    named,
    record,
    text,
)

MEDIA_ID = text(3, 39, "^[0-9]{1,19}_[0-9]{1,19}$")
WORDS = text(1, 512, "^[A-Za-z0-9]{1,15}( [A-Za-z0-9]{1,15}){0,15}$")
POST = record(
    {"text": text(1, 280, r"^[^\x00]*[!-~][^\x00]*$")},
    {"reply": record({"in_reply_to_tweet_id": ASKED_ID}, closed=False),
     "media": record({"media_ids": listed(MEDIA_ID, 4) | {"minItems": 1}}, closed=False)}, closed=False)

OPERATIONS: dict[str, Operation] = {
    "delete": Operation("Delete a tweet of one's own", {200: data(record({"deleted": TRUTH}))}),
    "home": Operation("One's home timeline, newest first", {200: TWEET_PAGE}, TWEET_WINDOW),
    "post": Operation("Post a tweet", {201: data(named("Tweet"))}, (KEY,), POST),
    "search": Operation(
        "Recent tweets that hold all words", {200: TWEET_PAGE},
        (Parameter("query", WORDS, "words, separated by blanks", required=True), *TWEET_WINDOW)),
    "tweet": Operation("One tweet", {200: ONE_TWEET}, (FIELDS, EXPANSIONS)),
    "tweets": Operation(
        "Tweets by id", {200: record({"data": listed(named("Tweet"))}, {**INCLUDES, **ERRORS})}, (IDS, FIELDS, EXPANSIONS)),
    "user_tweets": Operation("Tweets of a user, newest first", {200: TWEET_PAGE}, TWEET_WINDOW),
}
