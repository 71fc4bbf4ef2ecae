"""What the routes of likes take and give."""

from __future__ import annotations

from system.services.gateway.openapi.parts import (
    ASKED_ID,
    EXPANSIONS,
    FIELDS,
    KEY,
    SEALED,
    TRUTH,
    TWEET_PAGE,
    USER_FIELDS,
    USER_PAGE,
    Operation,
    Parameter,
    data,
    page_of,
    record,
)

WALKED = (page_of(100, 100)[0], Parameter("pagination_token", SEALED, "`next_token` of the page before, or `previous_token` of "
                                          "the page after, as it was given; none for the first page"))
LIKED = data(record({"liked": TRUTH}))

OPERATIONS: dict[str, Operation] = {
    "like": Operation("Like a tweet", {200: LIKED}, (KEY,), record({"tweet_id": ASKED_ID}, closed=False)),
    "liked_tweets": Operation(
        "What a user likes, newest tweet first", {200: TWEET_PAGE}, (*WALKED, FIELDS, EXPANSIONS, USER_FIELDS)),
    "liking_users": Operation("Who likes a tweet, by id", {200: USER_PAGE}, (*page_of(100, 100), USER_FIELDS)),
    "unlike": Operation("Take a like back", {200: LIKED}),
}
