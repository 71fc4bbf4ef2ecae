"""Contract of every user directory: names are unique, edges are counted, every change is published."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import Conflict, NotFound, WrongInput
from system.kernel.events import Event
from system.ports import Edge, Mode, User
from tests.helpers.durable_stores import durable_settings, real_users, users


class Published:
    """Collects the events of a drained outbox; `refuse` makes the next call fail."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refuse = False

    async def __call__(self, events):
        if self.refuse:
            raise ConnectionError("the log is down")
        self.events.extend(events)


async def _three(users):
    return [(await users.create(name, name.title(), "hash")).id for name in ("ada", "bob", "cyd")]


async def test_a_new_user_is_found_by_name_and_id(users):
    """Only `by_name`, which a log-in needs, returns the password's hash; case does not matter."""
    ada = await users.create("AdaL", "Ada Lovelace", "argon-hash")

    assert (ada.username, ada.name, ada.followers, ada.password_hash) == ("AdaL", "Ada Lovelace", 0, "")
    assert await users.by_id([ada.id, 999_999]) == {ada.id: ada}
    named = await users.by_name("adal")
    assert named == User(ada.id, "AdaL", "Ada Lovelace", ada.created_ms, password_hash="argon-hash")
    assert await users.by_name("nobody") is None
    assert await users.ids_of(["adal", "nobody"]) == {"adal": ada.id}
    assert await users.ids_of([]) == {}


async def test_a_taken_name_is_a_conflict_in_any_case(users):
    """Names are unique, case-insensitively; the second sign-up certainly created no user."""
    await users.create("Ada", "Ada", "h")

    with pytest.raises(Conflict) as caught:
        await users.create("aDA", "Another", "h", key="other-key")

    assert caught.value.definite is True


async def test_a_repeated_sign_up_returns_the_first_user(users):
    """The same key creates one user; the same key for another name is a conflict."""
    first = await users.create("ada", "Ada", "h", key="k1")

    assert await users.create("ada", "Ada", "h", key="k1") == first
    with pytest.raises(Conflict):
        await users.create("bob", "Bob", "h", key="k1")
    assert await users.by_name("bob") is None


async def test_racing_sign_ups_with_one_key_create_one_user(users):
    """Losers of the race get the winner's user."""
    created = await asyncio.gather(*(users.create("ada", "Ada", "h", key="k1") for _ in range(12)))

    assert len({user.id for user in created}) == 1


async def test_a_follow_counts_once_and_its_version_grows_with_each_change(users):
    """A repeat changes neither the counters nor the version."""
    ada, bob, _ = await _three(users)

    assert await users.edge(ada, bob) == Edge(ada, bob, False, 0)
    assert await users.follow(ada, bob) == Edge(ada, bob, True, 1)
    assert await users.follow(ada, bob) == Edge(ada, bob, True, 1)
    assert await users.audience(bob) == 1
    assert await users.unfollow(ada, bob) == Edge(ada, bob, False, 2)
    assert await users.unfollow(ada, bob) == Edge(ada, bob, False, 2)
    assert await users.audience(bob) == 0
    assert await users.follow(ada, bob) == Edge(ada, bob, True, 3)
    both = await users.by_id([ada, bob])
    assert (both[ada].following, both[ada].followers) == (1, 0)
    assert (both[bob].following, both[bob].followers) == (0, 1)


async def test_an_unfollow_without_an_edge_is_published_and_counts_nothing(users):
    """It is a repeat like any other."""
    ada, bob, _ = await _three(users)
    published = Published()

    assert await users.unfollow(ada, bob) == Edge(ada, bob, False, 0)

    assert await users.audience(bob) == 0
    assert await users.drain_outbox(10, published) == 1


async def test_unknown_users_and_oneself_cannot_be_followed(users):
    """Nothing is written."""
    ada, *_ = await _three(users)
    published = Published()

    for follower, followee in ((ada, 999_999), (999_999, ada)):
        with pytest.raises(NotFound):
            await users.follow(follower, followee)
    with pytest.raises(WrongInput):
        await users.follow(ada, ada)

    assert await users.drain_outbox(10, published) == 0
    assert await users.audience(ada) == 0


async def test_edges_are_paged_in_ascending_order(users):
    """`after` is exclusive; ended edges are left out."""
    ada, bob, cyd = await _three(users)
    dan = (await users.create("dan", "Dan", "h")).id
    for follower in (dan, ada, cyd):
        await users.follow(follower, bob)
    await users.follow(ada, cyd)
    await users.unfollow(cyd, bob)

    assert await users.followers(bob, 0, 10) == [ada, dan]
    assert await users.followers(bob, 0, 1) == [ada]
    assert await users.followers(bob, ada, 10) == [dan]
    assert await users.following(ada, 0, 10) == [bob, cyd]
    assert await users.following(ada, bob, 10) == [cyd]


async def test_racing_changes_leave_counters_that_match_the_edges(users):
    """Both directions concurrently, follow and unfollow, many tasks: no deadlock, no drift."""
    everyone = await _three(users)
    pairs = [(a, b) for a in everyone for b in everyone if a != b]

    await asyncio.gather(*(
        (users.follow if turn % 3 else users.unfollow)(*pairs[turn % len(pairs)]) for turn in range(120)
    ))

    by_id = await users.by_id(everyone)
    for user in everyone:
        assert by_id[user].followers == len(await users.followers(user, 0, 10)) == await users.audience(user)
        assert by_id[user].following == len(await users.following(user, 0, 10))


async def test_every_change_and_every_repeat_is_published_in_order(users):
    """A repeat has the same event id: consumers get it twice, its effects happen once."""
    ada, bob, _ = await _three(users)
    published = Published()
    await users.follow(ada, bob, trace="t1")
    await users.follow(ada, bob)
    await users.unfollow(ada, bob)

    assert await users.drain_outbox(10, published) == 3
    assert await users.drain_outbox(10, published) == 0

    assert [event.id for event in published.events] == [f"{ada}-{bob}-1", f"{ada}-{bob}-1", f"{ada}-{bob}-2"]
    assert published.events[0] == Event("new_follow", ada, f"{ada}-{bob}-1",
                                   {"follower_id": ada, "followee_id": bob, "following": True, "version": 1}, "t1")
    assert published.events[2].payload["following"] is False


async def test_a_drain_that_cannot_publish_keeps_its_rows(users):
    """Rows leave the outbox only after the log has acknowledged them; `limit` bounds a drain."""
    ada, bob, cyd = await _three(users)
    published = Published()
    await users.follow(ada, bob)
    await users.follow(ada, cyd)
    published.refuse = True

    with pytest.raises(ConnectionError):
        await users.drain_outbox(10, published)
    published.refuse = False

    assert await users.drain_outbox(1, published) == 1
    assert await users.drain_outbox(10, published) == 1
    assert [event.payload["followee_id"] for event in published.events] == [bob, cyd]


async def test_a_follow_wakes_the_relay_within_a_second(users):
    """Without any follow it polls every second."""
    ada, bob, _ = await _three(users)
    wakeups = users.outbox_wakeups()
    await asyncio.wait_for(anext(wakeups), 3.0)

    waiting = asyncio.ensure_future(anext(wakeups))
    await asyncio.sleep(0.05)
    await users.follow(ada, bob)
    await asyncio.wait_for(waiting, 0.7)

    await asyncio.wait_for(anext(wakeups), 3.0)
    await wakeups.aclose()
    assert waiting.done()


async def test_a_repeated_mode_keeps_its_first_timestamp(users):
    """Pushing stops once the flag is older than the readers' cached copy, so a repeat must keep its age."""
    assert await users.mode(7) is None
    pulled = await users.set_mode(7, Mode.PULL, since_id=100)

    await asyncio.sleep(0.01)
    again = await users.set_mode(7, Mode.PULL, since_id=200)

    assert again == pulled
    assert (pulled.mode, pulled.since_id, pulled.pulled_once) == (Mode.PULL, 100, True)


async def test_an_author_that_was_ever_pulled_stays_on_the_list(users):
    """Readers keep merging their list until their tweets of the pull mode are below every floor."""
    await users.set_mode(7, Mode.PULL, since_id=100)
    await users.set_mode(8, Mode.PUSH, since_id=100)

    pushed = await users.set_mode(7, Mode.PUSH, since_id=300)

    assert (pushed.mode, pushed.since_id, pushed.pulled_once) == (Mode.PUSH, 300, True)
    assert await users.modes() == [pushed]
    assert await users.mode(8) is None


async def test_seeded_users_and_edges_are_ordinary_ones(users):
    """Counters match the edges, no event is published, and the next user gets the next id."""
    import numpy as np

    odd = User(3, "cyd", "tab\there \\ back\nslash", 1_700_000_000_000, password_hash="h")
    seeded = [User(1, "ada", "Ada", 1_700_000_000_000), User(2, "bob", "Bob", 1_700_000_000_000), odd]
    follower_ids, followee_ids = np.array([1, 1, 2], dtype=np.int64), np.array([2, 3, 3], dtype=np.int64)

    await users.bulk_load(seeded, follower_ids, followee_ids)

    by_id = await users.by_id([1, 2, 3])
    assert by_id[3] == User(3, "cyd", "tab\there \\ back\nslash", 1_700_000_000_000, followers=2, following=0)
    assert (await users.edge(1, 2)).following is True
    assert [edge.tolist() for edge in await users.all_edges()] == [[1, 1, 2], [2, 3, 3]]
    assert await users.drain_outbox(10, Published()) == 0
    assert (await users.create("dan", "Dan", "h")).id == 4
    assert (await users.unfollow(1, 3)).version == 2
    assert await users.audience(3) == 1
