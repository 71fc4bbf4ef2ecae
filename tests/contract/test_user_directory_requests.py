"""Contract of every user directory for protected users: a follow is a request to approve or refuse."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import Conflict, NotFound
from system.ports import Edge
from tests.helpers.durable_stores import durable_settings, real_users, users


async def _pair(users):
    ada, bob = [(await users.create(name, name.title(), "hash")).id for name in ("ada", "bob")]
    await users.set_profile(bob, protected=True)
    return ada, bob


async def _published(users):
    events = []

    async def publish(batch):
        events.extend(batch)

    await users.drain_outbox(1000, publish)
    return [(event.payload["following"], event.payload["version"]) for event in events]


async def test_a_follow_of_a_protected_user_is_a_request(users):
    """A request is no edge: it is not counted, not listed, gives no read access, and publishes no event."""
    ada, bob = await _pair(users)

    assert await users.follow(ada, bob) == Edge(ada, bob, False, 1, pending=True)
    assert await users.follow(ada, bob) == Edge(ada, bob, False, 1, pending=True)
    assert await users.edge(ada, bob) == Edge(ada, bob, False, 1, pending=True)
    assert (await users.followers(bob, -1, 10), await users.requests(bob, -1, 10)) == ([], [ada])
    assert (await users.by_id([bob]))[bob].followers == 0
    assert await users.follows(ada, [bob]) == set()
    assert await _published(users) == []


async def test_an_approved_request_is_an_edge(users):
    """It is counted, listed and published; approving again changes nothing."""
    ada, bob = await _pair(users)
    await users.follow(ada, bob)

    assert await users.approve(ada, bob) == Edge(ada, bob, True, 2)
    assert await users.approve(ada, bob) == Edge(ada, bob, True, 2)
    assert (await users.followers(bob, -1, 10), await users.requests(bob, -1, 10)) == ([ada], [])
    assert (await users.by_id([bob]))[bob].followers == 1
    assert await users.follows(ada, [bob, ada]) == {bob}
    assert await _published(users) == [(True, 2), (True, 2)]


@pytest.mark.parametrize("end", ["refuse", "unfollow"], ids=["refused by the followee", "withdrawn by the follower"])
async def test_a_request_can_be_ended_by_either_side(users, end):
    """The request is removed, ending it may be repeated, and the follower may request again."""
    ada, bob = await _pair(users)
    await users.follow(ada, bob)

    assert await getattr(users, end)(ada, bob) == Edge(ada, bob, False, 2)
    assert await getattr(users, end)(ada, bob) == Edge(ada, bob, False, 2)
    assert await users.requests(bob, -1, 10) == []
    assert await users.follow(ada, bob) == Edge(ada, bob, False, 3, pending=True)


async def test_an_approval_without_a_request_changes_nothing(users):
    """Approving and refusing without a request leave no row; unknown users are not found."""
    ada, bob = await _pair(users)

    assert await users.approve(ada, bob) == Edge(ada, bob, False, 0)
    assert await users.refuse(ada, bob) == Edge(ada, bob, False, 0)
    with pytest.raises(NotFound):
        await users.approve(ada, 999_999)
    with pytest.raises(NotFound):
        await users.set_profile(999_999, protected=True)


async def test_an_approval_without_a_request_binds_no_key(users):
    """The request comes later; the same approval, repeated with its key, is then the first with an effect."""
    ada, bob = await _pair(users)

    assert await users.approve(ada, bob, key="k1") == Edge(ada, bob, False, 0)
    await users.follow(ada, bob)
    assert await users.approve(ada, bob, key="k1") == Edge(ada, bob, True, 2)
    await users.unfollow(ada, bob)
    await users.follow(ada, bob)
    assert await users.approve(ada, bob, key="k1") == Edge(ada, bob, False, 4, pending=True)  # a repeat changes nothing


async def test_followers_stay_and_requests_wait_when_protection_changes(users):
    """Followers remain, an earlier request stays pending, and a public user is followed immediately."""
    ada, bob = await _pair(users)
    await users.set_profile(bob, protected=False)
    cyd = (await users.create("cyd", "Cyd", "hash")).id
    await users.follow(cyd, bob)
    await users.set_profile(bob, protected=True)
    await users.follow(ada, bob)
    await users.set_profile(bob, protected=False)

    assert (await users.followers(bob, -1, 10), await users.requests(bob, -1, 10)) == ([cyd], [ada])
    assert await users.refuse(cyd, bob) == Edge(cyd, bob, True, 1)
    assert await users.follow(ada, bob) == Edge(ada, bob, True, 2)
    assert await users.requests(bob, -1, 10) == []


async def test_protected_users_are_returned_in_full_and_only_after_a_change(users):
    """A poll with the known version returns None; any change gives a higher version and the whole set."""
    ada, bob = await _pair(users)

    first = await users.protected_users()
    assert first.ids == frozenset([bob])
    assert await users.protected_users(first.version) is None
    await users.set_profile(ada, name="Ada B", protected=True)
    await users.set_profile(ada, protected=True)
    second = await users.protected_users(first.version)
    assert (second.ids, second.version) == (frozenset([ada, bob]), first.version + 1)
    assert (await users.by_id([ada]))[ada].name == "Ada B"
    assert (await users.by_name("ada")).protected is True


async def test_a_repeat_with_the_same_key_does_not_follow_again(users):
    """Followed with a key, unfollowed, sent again: the user stays unfollowed.

    Another target with the key is refused.
    """
    ada, bob = await _pair(users)
    cyd = (await users.create("cyd", "Cyd", "hash")).id
    await users.follow(ada, cyd, key="key-of-ada")
    await users.unfollow(ada, cyd)

    assert await users.follow(ada, cyd, key="key-of-ada") == Edge(ada, cyd, False, 2)
    with pytest.raises(Conflict) as caught:
        await users.follow(ada, bob, key="key-of-ada")
    assert caught.value.status == 422
    assert await users.requests(bob, -1, 10) == []


async def test_follows_that_race_protection_are_either_edges_or_requests(users):
    """None is both; every edge is counted."""
    bob = (await users.create("bob", "Bob", "hash")).id
    fans = [(await users.create(f"fan{n}", "Fan", "hash")).id for n in range(12)]

    results = await asyncio.gather(*(users.follow(fan, bob) for fan in fans[:6]), users.set_profile(bob, protected=True),
                                   *(users.follow(fan, bob) for fan in fans[6:]))

    edges = [edge for edge in results if isinstance(edge, Edge)]
    assert all(edge.following != edge.pending for edge in edges)
    assert await users.followers(bob, -1, 100) == [edge.follower_id for edge in edges if edge.following]
    assert await users.audience(bob) == sum(edge.following for edge in edges)
