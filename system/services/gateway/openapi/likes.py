"""Parameters and responses of the routes of likes."""

from __future__ import annotations

from system.services.gateway.openapi.parts import (
    ASKED_ID,
    KEY,
    SEALED,
    TRUTH,
    TWEET_PAGE,
    TWEET_VIEW,
    USER_PAGE,
    USER_VIEW,
    Operation,
    Parameter,
    data,
    page_of,
    record,
)

WALKED = (page_of(100, 100)[0], Parameter("pagination_token", SEALED, "`next_token` or `previous_token` of a page, "
                                          "unchanged; leave it out for the first page"))
LIKED = data(record({"liked": TRUTH}))

OPERATIONS: dict[str, Operation] = {
    "like": Operation("Like a tweet", {200: LIKED}, (KEY,), record({"tweet_id": ASKED_ID})),
    "liked_tweets": Operation(
        "Tweets that a user likes, newest first", {200: TWEET_PAGE}, (*WALKED, *TWEET_VIEW)),
    "liking_users": Operation("Users that like a tweet, by id", {200: USER_PAGE}, (*page_of(100, 100), *USER_VIEW)),
    "unlike": Operation("Unlike a tweet", {200: LIKED}),
}
