"""What the gateway admits, and what the relay scans."""

from __future__ import annotations

import time

import jwt
import pytest

from system.kernel import events, ids
from system.kernel.errors import CouldNotRun, Unauthorized
from system.services.gateway import policy
from system.services.gateway.tokens import Tokens
from system.services.relay import policy as relay
from system.services.shared.signing import Keys
from system.stores.cassandra import tweets as cassandra_tweets

SECRET = "s" * 32


def header(claims: dict, secret: str = SECRET, algorithm: str = "HS256") -> bytes:
    return b"Bearer " + jwt.encode(claims, secret, algorithm=algorithm).encode()


def test_a_valid_token_names_its_user_also_the_second_time():
    """The second time it comes from the cache."""
    tokens, good = Tokens(Keys(SECRET)), header({"sub": "42", "exp": time.time() + 60})

    assert tokens.caller_of(good).user == b"42"
    assert tokens.caller_of(good).user == b"42"


@pytest.mark.parametrize("authorization", [
    None, b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer abc", b"Bearer a.b.c", b"Bearer " + b"x" * 5_000,
    header({"sub": "42", "exp": time.time() - 1}), header({"sub": "42"}), header({"exp": time.time() + 60}),
    header({"sub": "ann", "exp": time.time() + 60}), header({"sub": "42", "exp": time.time() + 60}, "t" * 32),
    header({"sub": "42", "exp": time.time() + 60}, "s" * 64, "HS512"),
    b"Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiI0MiIsImV4cCI6NDA3MDkwODgwMH0.",
], ids=["none", "empty", "no token", "blank", "basic", "noise", "three noises", "long", "expired", "no expiry", "no user",
        "no number", "other secret", "other algorithm", "algorithm none"])
def test_an_invalid_token_is_refused(authorization):
    """401 for each, never a user."""
    with pytest.raises(Unauthorized):
        Tokens(Keys(SECRET)).caller_of(authorization)


def test_a_cached_token_expires_at_its_exp():
    """The cache does not bypass `exp`."""
    now = [time.time()]
    tokens, good = Tokens(Keys(SECRET), lambda: now[0]), header({"sub": "42", "exp": int(now[0]) + 1})
    assert tokens.caller_of(good).user == b"42"

    now[0] += 2
    time.sleep(1.2)

    with pytest.raises(Unauthorized):
        tokens.caller_of(good)


def test_a_gateway_without_a_long_enough_secret_does_not_start():
    """Fails closed."""
    with pytest.raises(CouldNotRun):
        Keys("short")


@pytest.mark.parametrize(("requested", "allowed"), [
    (None, 5_000), ("", 5_000), ("100", 100), ("0", 1), ("99999", 5_000), ("-5", 5_000), ("x", 5_000),
])
def test_a_deadline_is_the_requested_one_up_to_the_gateways_own(requested, allowed):
    """Invalid values are ignored."""
    assert policy.deadline_ms(requested, 5.0) == allowed


@pytest.mark.parametrize(("method", "status", "attempts", "refused", "again"), [
    ("GET", None, 1, False, True), ("GET", 503, 1, False, True), ("GET", 503, 1, True, False), ("GET", 503, 2, False, False),
    ("GET", 500, 1, False, False), ("GET", 200, 1, False, False), ("POST", None, 1, False, False),
    ("DELETE", 503, 1, False, False),
])
def test_only_a_read_without_an_answer_is_retried(method, status, attempts, refused, again):
    """Never a write: it may have been executed."""
    assert policy.may_retry(method, status, attempts, 2, refused) is again


@pytest.mark.parametrize(("waited_s", "request_s", "blamed"), [(0.001, 5.0, False), (0.9, 5.0, False), (1.0, 5.0, True),
                                                               (0.2, 0.4, True), (0.1, 0.4, False)])
def test_a_client_with_a_short_deadline_opens_no_breaker(waited_s, request_s, blamed):
    """Twenty requests with `x-deadline-ms: 1` would close a service for all callers."""
    assert policy.is_service_timeout(waited_s, request_s) is blamed


@pytest.mark.parametrize(("in_flight", "most", "enters"), [(0, 1, True), (1, 1, False), (10_000, 0, True)])
def test_requests_beyond_the_bound_in_flight_are_refused(in_flight, most, enters):
    """0 disables shedding."""
    assert policy.admits(in_flight, most) is enters


def test_every_route_has_a_unique_name_and_path():
    """Names and (method, path) are unique; the services are those of the mesh."""
    assert len({route.name for route in policy.ROUTES}) == len({(r.method, r.path) for r in policy.ROUTES}) == len(policy.ROUTES)
    assert {route.service for route in policy.ROUTES} == {"users", "tweets", "timelines", "search", "media", "likes"}
    assert [route.name for route in policy.ROUTES if route.open] == ["revoke", "sign_up", "token"]


# ---- the relay -------------------------------------------------------------------------------------------

NOW_MS = 1_800_000_005_000
NOW = 180_000_000


def test_the_relay_and_the_store_use_the_same_partitions():
    """Shards and bucket width are defined in both; the relay reads what the store writes."""
    assert (relay.SHARDS, relay.BUCKET_MS) == (cassandra_tweets.SHARDS, cassandra_tweets.BUCKET_MS)


def test_a_row_stored_under_the_time_of_its_id_is_still_visited():
    """A later one is stored under its own time: a repeat of a key minutes after its reservation."""
    id_ = ids.compose(NOW_MS, 1, 1)
    last_ms = events.LATE_MS - 1 + 10_000  # a write that takes ten seconds

    assert events.outbox_time_ms(id_, NOW_MS + events.LATE_MS - 1) == NOW_MS
    assert events.outbox_time_ms(id_, NOW_MS + events.LATE_MS) == NOW_MS + events.LATE_MS
    assert events.outbox_time_ms(id_, NOW_MS - 5_000) == NOW_MS  # by a clock that is behind
    assert last_ms < (relay.REVISIT[-1] - 1) * relay.BUCKET_MS


def test_a_walk_visits_the_newest_buckets_and_again_30_s_and_2_min_later():
    """Each old bucket is visited once: when the current bucket moves on."""
    assert relay.next_walk(NOW_MS - 5_000, NOW_MS) == [NOW - 1, NOW]
    assert relay.next_walk(NOW_MS - 5_001, NOW_MS) == [NOW - 12, NOW - 3, NOW - 2, NOW - 1, NOW]


def test_every_bucket_is_visited_at_each_age_however_irregular_the_walks_are():
    """Walks 1 to 40 s apart: no bucket is skipped at 30 s or 2 min."""
    now_ms, visits = NOW_MS, {}
    for step in [1, 5, 5, 12, 40, 7, 3, 25, 5, 5] * 6:
        buckets = relay.next_walk(now_ms, now_ms + step * 1_000)
        now_ms += step * 1_000
        for bucket in buckets:
            visits.setdefault(bucket, []).append(relay.bucket_of(now_ms) - bucket)

    settled = [bucket for bucket in visits if NOW + 1 <= bucket < relay.bucket_of(now_ms) - 16]
    assert settled and all(any(age >= 12 for age in visits[bucket]) and any(3 <= age <= 7 for age in visits[bucket])
                           for bucket in settled)


@pytest.mark.parametrize(("mark", "first"), [(0, NOW - 360), (NOW - 60, NOW - 63), (NOW, NOW - 3), (NOW - 99_999, NOW - 8_640)])
def test_the_first_walk_starts_below_the_mark(mark, first):
    """30 s below it; an hour back without a mark; never beyond the TTL of the rows."""
    walk = relay.first_walk(mark, NOW_MS)

    assert (walk[0], walk[-1]) == (first, NOW)


@pytest.mark.parametrize(("age_ms", "announced", "due"), [(2_999, False, False), (3_000, False, True), (60_000, True, False)])
def test_a_row_is_published_if_its_event_has_not_appeared_for_three_seconds(age_ms, announced, due):
    """Its writer had that time."""
    assert relay.overdue(NOW_MS - age_ms, NOW_MS, announced) is due


@pytest.mark.parametrize(("waiting", "mark"), [([], NOW), ([NOW - 2, NOW], NOW - 2)])
def test_the_mark_stays_below_rows_that_still_wait(waiting, mark):
    """Below it every row is known to be published."""
    assert relay.mark_after(NOW_MS, waiting) == mark
