"""Parameters and responses of the routes of tweets, timelines and search."""

from __future__ import annotations

from system.services.gateway.openapi.parts import (
    ASKED_ID,
    BOUNDS,
    COUNT,
    IDS,
    KEY,
    ONE_TWEET,
    SEALED,
    TIME,
    TIMELINE_WINDOW,
    TRUTH,
    TWEET_PAGE,
    TWEET_VIEW,
    TWEET_WINDOW,
    TWEETS,
    Operation,
    Parameter,
    data,
    listed,
    named,
    page_of,
    record,
    several,
    text,
)

MEDIA_ID = text(3, 39, "^[0-9]{1,19}_[0-9]{1,19}$")
_WORD = "[a-z0-9]{1,15}"
_TERM = f'({_WORD}|#[a-z][a-z0-9_]{{0,14}}|from:[A-Za-z0-9_]{{1,15}}|"{_WORD}( {_WORD}){{0,3}}")'
# A subset of the accepted queries: the service also accepts words of other scripts, and exclusions before the
# first term.
QUERY = text(1, 512, f"^{_TERM}( -?{_TERM}){{0,5}}$")
SEARCHED = (
    Parameter("query", QUERY,
              'words, "phrase", #tag, $cashtag, @username, from:, to:, conversation_id:, url:, has:, is:, OR, groups, and - '
              "before any of them", required=True),
    *BOUNDS)
SEARCH_WINDOW = (
    *SEARCHED, page_of(100, 10)[0],
    Parameter("sort_order", {"type": "string", "enum": ["relevancy", "recency"]},
              "by relevance (the default: words, age and likes), or newest first"),
    Parameter("next_token", SEALED, "`next_token` of the previous page of the same search"),
    Parameter("pagination_token", SEALED, "another name of `next_token`"),
    *TWEET_VIEW)
COUNTED = record(
    {"data": listed(record({"start": TIME, "end": TIME, "tweet_count": COUNT})), "meta": record({"total_tweet_count": COUNT})})
COUNT_WINDOW = (*SEARCHED, Parameter("granularity", {"type": "string", "enum": ["minute", "hour", "day"], "default": "hour"},
                                     "the length of each count's time"),
                Parameter("search_count.fields", several(("end", "start", "tweet_count")), "accepted; all are returned"))
# A subset of the accepted texts: these characters count 1 each, and without a dot there is no URL. Other texts
# may have more characters, or fewer.
_PLAIN = r"[\x01-\x2d\x2f-\xff]"
POST = record(
    {"text": text(1, 280, rf"^{_PLAIN}*[!-\-/-~]{_PLAIN}*$")},
    {"reply": record({"in_reply_to_tweet_id": ASKED_ID}), "media": record({"media_ids": listed(MEDIA_ID, 4) | {"minItems": 1}})})

OPERATIONS: dict[str, Operation] = {
    "counts": Operation("How many tweets match a query, by time", {200: COUNTED}, COUNT_WINDOW),
    "delete": Operation("Delete a tweet of the caller", {200: data(record({"deleted": TRUTH}))}),
    "home": Operation("The caller's home timeline, newest first", {200: TWEET_PAGE}, TIMELINE_WINDOW),
    "mentions": Operation("Tweets that mention a user, newest first", {200: TWEET_PAGE}, TWEET_WINDOW),
    "post": Operation("Post a tweet", {201: data(named("Tweet"))}, (KEY,), POST),
    "search": Operation(
        "Tweets that match a query", {200: TWEET_PAGE}, SEARCH_WINDOW),
    "tweet": Operation("One tweet", {200: ONE_TWEET}, TWEET_VIEW),
    "tweets": Operation("Tweets by id", {200: TWEETS}, (IDS, *TWEET_VIEW)),
    "user_tweets": Operation("Tweets of a user, newest first", {200: TWEET_PAGE}, TIMELINE_WINDOW),
}
