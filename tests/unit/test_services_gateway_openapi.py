"""The OpenAPI document: complete, closed, and with the bounds of the services."""

from __future__ import annotations

import re

import pytest
from jsonschema import Draft202012Validator

from system.kernel.events import Tweet
from system.kernel.scopes import SCOPES
from system.kernel.text import weight
from system.ports import User
from system.services.gateway import policy
from system.services.gateway.openapi import document as describe
from system.services.gateway.openapi import parts as describe_parts
from system.services.media import policy as media
from system.services.shared import bodies, paging, shapes
from system.services.tweets import policy as tweets
from system.services.users import policy as users

DOCUMENT = describe.document(policy.ROUTES)
OPERATIONS = {each["operationId"]: each for path in DOCUMENT["paths"].values() for each in path.values()}


def problems(name: str, status: str, body: object) -> list[str]:
    """Return how `body` differs from the schema of route `name` for this status."""
    schema = OPERATIONS[name]["responses"][status]["content"]["application/json"]["schema"]
    fits = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    return [problem.message for problem in fits.iter_errors(body)]


def test_every_route_is_described_and_nothing_else_is():
    """A route without a description is undocumented; a description without a route is wrong."""
    assert set(describe.OPERATIONS) == {route.name for route in policy.ROUTES} == set(OPERATIONS)


@pytest.mark.parametrize("route", policy.ROUTES, ids=lambda route: route.name)
def test_a_route_that_is_not_open_names_a_scope_that_exists(route):
    """A misspelled scope would lock every caller out."""
    security = OPERATIONS[route.name].get("security")

    assert route.open or route.scope in SCOPES
    assert security == (None if route.open else [{"bearer": [route.scope]}])


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_path_parameter_and_every_post_body_has_a_schema(name):
    """Path parameters are all named; POST routes have a body or none, as described."""
    path = next(path for path, methods in DOCUMENT["paths"].items() if any(m["operationId"] == name for m in methods.values()))
    described = {parameter["name"] for parameter in OPERATIONS[name]["parameters"] if parameter["in"] == "path"}

    assert described == set(re.findall(r"{(\w+)}", path))
    for each in OPERATIONS[name]["parameters"]:
        Draft202012Validator.check_schema(each["schema"])


def test_bounds_are_those_of_the_services():
    """The gateway may not import a service, so the numbers are repeated."""
    assert describe_parts.TWEET_FIELDS == shapes.TWEET_FIELDS
    assert tuple(sorted(bodies.EXPANSIONS)) == describe_parts.EXPANSION_NAMES
    assert describe_parts.MEDIA_FIELD_NAMES == bodies.MEDIA_FIELDS
    assert (describe_parts.POLL_FIELD_NAMES, describe_parts.PLACE_FIELD_NAMES) == (bodies.POLL_FIELDS, bodies.PLACE_FIELDS)
    assert describe.OPERATIONS["post"].body["properties"]["text"]["maxLength"] == weight.MAX_WEIGHT == 280
    assert describe_parts.TWEET["properties"]["text"]["maxLength"] == tweets.MAX_RAW
    assert describe_parts.TWEET_WINDOW[0].schema["maximum"] == paging.MAX_RESULTS == 100
    assert describe.OPERATIONS["followers"].parameters[0].schema["maximum"] == users.MAX_RESULTS == 1000
    assert describe.OPERATIONS["sign_up"].body["properties"]["password"]["minLength"] == users.MIN_PASSWORD == 8
    assert tuple(describe.OPERATIONS["media_initialize"].body["properties"]["media_type"]["enum"]) == media.TYPES


def test_current_ids_and_cursors_match_their_patterns():
    """All that responses return: ids of 19 digits, cursors in both directions and of a cut trail."""
    now = 1_800_000_000_000_000_000
    samples = {describe_parts.ASKED_ID["pattern"]: ["0", "7", str(now), "8" + "9" * 18],
             describe_parts.IDS.schema["pattern"]: [f"{now},7,{now}"],
             describe_parts.TOKEN["pattern"]: [str(now), f"{now}.{now + 1}", f"{now}~", str(paging.NEWEST.start), "0"]}

    for pattern, texts in samples.items():
        assert [each for each in texts if not re.fullmatch(pattern, each)] == []
    for text in (str(2**63), "9" * 19, "1" * 20, "", "7,8"):
        assert not re.fullmatch(describe_parts.ASKED_ID["pattern"], text)


def test_responses_of_services_match_their_schemas():
    """Shapes as the services build them, with and without their optional parts."""
    tweet = Tweet(9, 7, "hello", 1_800_000_000_000, 9, in_reply_to=8, media_keys=("7_1",))
    user = User(7, "ann", "Ann", 1_800_000_000_000)

    includes = {"users": [shapes.user(user)], "tweets": [shapes.tweet(tweet)]}
    assert problems("tweet", "200", {"data": shapes.tweet(tweet), "includes": includes}) == []
    short = shapes.tweet(tweet, frozenset({"id", "text", "edit_history_tweet_ids"}))
    page = {"data": [short], "meta": shapes.page_meta([9], "8", "9"), "includes": {"users": [shapes.user(user)]}}
    assert problems("home", "200", page) == []
    assert problems("followers", "200", shapes.user_page([user], "8", None, "9")) == []
    assert problems("home", "200", {"meta": shapes.page_meta([], None)}) == [] == problems(
        "followers", "200", shapes.user_page([], None))
    assert problems("home", "200", {"data": [], "meta": shapes.page_meta([], None)}) != []  # an empty page has no `data`
    assert problems("users", "200", {"data": [shapes.user(user)], "errors": [shapes.missing("user", "5")]}) == []
