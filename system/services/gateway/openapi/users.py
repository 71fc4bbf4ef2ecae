"""Parameters and responses of the routes of users and edges."""

from __future__ import annotations

from system.services.gateway.openapi.parts import (
    ASKED_ID,
    IDS,
    KEY,
    NAME,
    ONE_USER,
    TRUTH,
    USER_PAGE,
    USER_VIEW,
    USERS,
    Operation,
    data,
    page_of,
    record,
    text,
)
from system.services.gateway.openapi.parts import NAMES as NAMES_PARAMETER

PASSWORD = text(8, 128)
NAMES = text(1, 50, r"^[ -~\u00a1-\u00ac\u00ae-\u0377]{1,50}$")  # printable; the service also accepts other scripts
EDGE = data(record({"following": TRUTH, "pending_follow": TRUTH}))

OPERATIONS: dict[str, Operation] = {
    "follow": Operation(
        "Follow a user; a request if that user is protected", {200: EDGE}, (KEY,),
        record({"target_user_id": ASKED_ID})),
    "follow_approve": Operation("Approve a follow request", {200: EDGE}, (KEY,)),
    "follow_refuse": Operation("Refuse a follow request", {200: EDGE}),
    "follow_requests": Operation(
        "Users that requested to follow the caller, by id", {200: USER_PAGE}, (*page_of(1000, 100), *USER_VIEW)),
    "follower_remove": Operation("Remove a follower of the caller", {200: EDGE}),
    "followers": Operation("Followers of a user, by id", {200: USER_PAGE}, (*page_of(1000, 100), *USER_VIEW)),
    "following": Operation("Users that a user follows, by id", {200: USER_PAGE}, (*page_of(1000, 100), *USER_VIEW)),
    "me": Operation("The user of the token", {200: ONE_USER}, USER_VIEW),
    "me_change": Operation(
        "Change the caller's name or protection", {200: ONE_USER}, (),
        record({}, {"name": NAMES, "protected": TRUTH}) | {"minProperties": 1}),
    "profile": Operation("One user", {200: ONE_USER}, USER_VIEW),
    "sign_up": Operation(
        "Sign up a user (specific to the lab)", {201: ONE_USER}, (KEY,),
        record({"username": NAME, "password": PASSWORD}, {"name": NAMES})),
    "unfollow": Operation("Unfollow a user", {200: data(record({"following": TRUTH}))}),
    "username": Operation("One user by name", {200: ONE_USER}, USER_VIEW, path={"name": NAME}),
    "users": Operation("Users by id", {200: USERS}, (IDS, *USER_VIEW)),
    "usernames": Operation("Users by name", {200: USERS}, (NAMES_PARAMETER, *USER_VIEW)),
}
