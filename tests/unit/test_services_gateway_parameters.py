"""Query parameters: those that a route describes are passed on, all others are refused in Twitter's error shape."""

from __future__ import annotations

import base64
import hmac
import json
import time

import jwt
import pytest

from system.kernel.errors import InvalidParameter
from system.services.gateway.openapi import document
from system.services.gateway.parameters import Parameters
from system.services.shared.signing import Keys
from tests.helpers.gateway_on_memory import SECRET

HOME = Parameters(document.OPERATIONS["home"])


@pytest.mark.parametrize("query", [
    b"max_results=5", b"max_results=5&pagination_token=7&tweet.fields=created_at", b"tweet%2Efields=created_at",
    b"max_results=5&",
    b"start_time=2026-01-01T00%3A00%3A00Z&end_time=2026-01-02T00%3A00%3A00Z&exclude=replies,retweets", b"&",
])
def test_a_described_parameter_is_accepted(query):
    """However it is encoded."""
    assert HOME.check(query) is None


@pytest.mark.parametrize(("query", "name", "says"), [
    (b"walrus=1", "walrus", "is not one of [max_results,"), (b"max_results=5&Max_results=6", "Max_results", "is not one of"),
    (b"next_token=7", "next_token", "Send `pagination_token` instead"),
    (b"max_results=5&max_results=6", "max_results", "is repeated"),
    (b"count=5", "count", "Send `max_results` instead"),
    (b"tweet_fields=created_at", "tweet_fields", "Send `tweet.fields` instead"),
    (b"max_results=5&max%5Fresults=6", "max_results", "is repeated"), (b"=5", "", "is not one of"),
])
def test_any_other_parameter_is_refused_by_name(query, name, says):
    """`next_token` on a timeline once returned the first page for ever: a paginator never ended."""
    with pytest.raises(InvalidParameter) as refused:
        HOME.check(query)

    assert f"[{name}]" in refused.value.detail and says in refused.value.detail


def test_the_refusal_has_the_shape_of_twitters_api():
    """tweepy reads `errors[].message`, twitter-api-v2 `detail`."""
    with pytest.raises(InvalidParameter) as refused:
        HOME.check(b"walrus=7%20times")
    body = refused.value.body()

    assert body["errors"] == [{"parameters": {"walrus": ["7 times"]}, "message": body["detail"]}]
    assert (body["title"], body["status"]) == ("Invalid Request", 400)
    assert body["type"] == "https://api.twitter.com/2/problems/invalid-request"


def test_a_route_without_parameters_refuses_all():
    """Also one that is not a GET."""
    with pytest.raises(InvalidParameter, match="this route has none"):
        Parameters(document.OPERATIONS["post"]).check(b"text=walrus")


@pytest.mark.parametrize(("ahead_s", "accepted"), [(-60, True), (0, True), (8, True), (13, False)])
def test_a_token_may_be_issued_up_to_ten_seconds_ahead(ahead_s, accepted):
    """The clock of the machine that issued it may be fast; its expiry is checked exactly."""
    token = jwt.encode({"sub": "42", "iat": time.time() + ahead_s, "exp": time.time() + 60}, SECRET, "HS256")

    if accepted:
        assert Keys(SECRET).claims_of(token)["sub"] == "42"
    else:
        with pytest.raises(jwt.ImmatureSignatureError):
            Keys(SECRET).claims_of(token)


@pytest.mark.parametrize("issued", ["yesterday", True, [1]])
def test_a_token_with_an_invalid_time_of_issue_is_refused(issued):
    """`iat` is a number of seconds, or absent."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (
        {"alg": "HS256", "typ": "JWT"}, {"sub": "42", "exp": int(time.time()) + 60, "iat": issued})]
    signature = hmac.new(SECRET.encode(), b".".join(parts), "sha256").digest()
    token = b".".join((*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")))

    with pytest.raises(jwt.InvalidTokenError):
        Keys(SECRET).claims_of(token)


def test_an_expired_token_has_no_tolerance():
    """One second late is late."""
    token = jwt.encode({"sub": "42", "exp": time.time() - 1}, SECRET, "HS256")

    with pytest.raises(jwt.ExpiredSignatureError):
        Keys(SECRET).claims_of(token)

