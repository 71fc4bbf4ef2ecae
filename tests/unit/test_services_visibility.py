"""Visibility: the rule, the greatest age of its cached set, and that it fails closed."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import Forbidden, NotFound, StoreUnavailable, WrongInput
from system.kernel.events import Tweet
from system.services.shared.visibility import Visibility
from system.services.users import policy
from system.services.users.edges import Edges
from tests.fakes.users import MemoryUsers


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def _people(users, *names):
    return [(await users.create(name, name, "")).id for name in names]


async def _users_and_ids():
    """Ann is protected and approved bob; cyd and the others are public."""
    users, clock = MemoryUsers(), Clock()
    ann, bob, cyd = await _people(users, "ann", "bob", "cyd")
    await users.follow(bob, ann)
    await users.set_profile(ann, protected=True)
    return users, clock, Visibility(users, 2.0, clock), ann, bob, cyd


async def test_a_protected_author_is_visible_to_themselves_and_approved_followers():
    """All others see only the public ones; a request grants nothing."""
    users, _, rule, ann, bob, cyd = await _users_and_ids()

    assert await rule.visible(ann, [ann, cyd]) == {ann, cyd}
    assert await rule.visible(bob, [ann, cyd]) == {ann, cyd}
    assert await rule.visible(cyd, [ann, bob]) == {bob}
    await users.follow(cyd, ann)
    assert await rule.visible(cyd, [ann]) == set()
    await users.approve(cyd, ann)
    assert await rule.visible(cyd, [ann]) == {ann}


async def test_a_removed_follower_loses_access_immediately():
    """The edge is read again for each page, without any TTL."""
    users, _, rule, ann, bob, _ = await _users_and_ids()
    assert await rule.visible(bob, [ann]) == {ann}

    await users.unfollow(bob, ann)

    assert await rule.visible(bob, [ann]) == set()
    with pytest.raises(Forbidden):
        await rule.require(bob, ann)


async def test_a_switch_to_protected_is_visible_when_the_cached_set_expired():
    """The set is at most 2 s old; the switch is acknowledged after that time."""
    users, clock, rule, _, bob, cyd = await _users_and_ids()
    assert await rule.visible(bob, [cyd]) == {cyd}
    await users.set_profile(cyd, protected=True)

    clock.now_s += 2.0

    assert await rule.visible(bob, [cyd]) == set()


async def test_the_cached_set_is_refreshed_before_it_expires():
    """After a quarter of its TTL the next reader starts a refresh, and does not wait for it."""
    users, clock, rule, _, bob, cyd = await _users_and_ids()
    await rule.visible(bob, [cyd])
    await users.set_profile(cyd, protected=True)
    clock.now_s += 0.6

    await rule.visible(bob, [cyd])
    await asyncio.sleep(0)

    assert await rule.visible(bob, [cyd]) == set()


async def test_without_the_store_reads_continue_for_the_ttl_and_then_fail_closed():
    """503, never a guess."""
    users, clock, rule, _, bob, cyd = await _users_and_ids()
    await rule.visible(bob, [cyd])

    async def away(known=-1):
        raise StoreUnavailable("PostgreSQL is away", definite=True)

    users.protected_users = away
    clock.now_s += 1.9
    assert await rule.visible(bob, [cyd]) == {cyd}
    clock.now_s += 0.1
    with pytest.raises(StoreUnavailable) as caught:
        await rule.visible(bob, [cyd])
    assert caught.value.definite is True


async def test_tweets_that_may_not_be_read_are_left_out_in_order():
    """A page keeps its order."""
    _, _, rule, ann, _, cyd = await _users_and_ids()
    tweets = {9: Tweet(9, cyd, "c", 0, 9), 8: Tweet(8, ann, "secret", 0, 8), 7: Tweet(7, cyd, "d", 0, 7)}

    assert list(await rule.readable(cyd, tweets)) == [9, 7]
    assert await rule.readable(cyd, {}) == {}


async def test_protection_is_acknowledged_only_after_every_older_set_expired():
    """The response waits for the TTL; a switch to public, or a new name, does not."""
    users = MemoryUsers()
    (ann,) = await _people(users, "ann")
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    edges = Edges(users, Visibility(users, 2.0), 2.0, sleep)

    assert (await edges.change_profile(ann, policy.Profile(None, True))).protected is True
    assert (await edges.change_profile(ann, policy.Profile("Ann", None))).name == "Ann"
    assert (await edges.change_profile(ann, policy.Profile(None, False))).protected is False
    assert slept == [2.0]


async def test_only_users_themselves_answer_requests_and_remove_followers():
    """Other callers are refused, and so is a path that names one user twice."""
    users = MemoryUsers()
    ann, bob = await _people(users, "ann", "bob")
    edges = Edges(users, Visibility(users, 2.0), 2.0)

    for answer in (edges.approve, edges.refuse, edges.remove):
        with pytest.raises(Forbidden):
            await answer(bob, ann, bob, "")
        with pytest.raises(WrongInput):
            await answer(ann, ann, ann, "")
    with pytest.raises(Forbidden):
        await edges.requests(bob, ann, -1, 10)
    with pytest.raises(NotFound):
        await edges.approve(ann, ann, bob, "")


@pytest.mark.parametrize("body", [None, {}, {"protected": "yes"}, {"protected": 1}, {"protected": None}, {"followers": 9},
                                  {"name": ""}, {"name": "x" * 51}, {"protected": True, "id": "7"}])
def test_a_profile_change_accepts_name_and_protection_only(body):
    """No other field can be assigned."""
    with pytest.raises(WrongInput):
        policy.profile(body)


def test_a_profile_may_change_one_field_or_both():
    """None keeps the current value."""
    assert policy.profile({"protected": True}) == policy.Profile(None, True)
    assert policy.profile({"name": "Ann", "protected": False}) == policy.Profile("Ann", False)
