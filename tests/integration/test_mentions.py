"""Entities and mentions on the real servers: posted, listed, hidden; crashes and old rows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from system.kernel import events
from system.kernel.text import entities
from system.services.tweets.policy import Draft
from tests.helpers.races_bench import Bench, held
from tests.helpers.services_rig import Rig, stored, until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


async def named(rig: Rig, *names: str) -> list[tuple[int, str]]:
    """Sign users up; return (id, username) of each."""
    users = await rig.people(*names)
    found = await rig.ports.users.by_id(users)
    return [(user, found[user].username) for user in users]


async def mentions(rig: Rig, viewer: int, user: int, query: str = "") -> tuple[list[int], dict[str, Any]]:
    status, body, _ = await rig.ask("GET", f"/2/users/{user}/mentions{query}", viewer)
    assert status == 200, body
    return [int(tweet["id"]) for tweet in body.get("data", ())], body["meta"]


async def lists(rig: Rig, viewer: int, user: int, wanted: list[int]) -> None:
    """Wait until the mentions of `user` are exactly these tweets."""
    async def shown() -> bool:
        return (await mentions(rig, viewer, user))[0] == wanted

    await until(shown)


async def test_a_tweet_carries_its_entities_everywhere(rig):
    """In the response to the post, by id, on the author's page, at home and in a search; with positions and ids."""
    (ann, anns), (bob, bobs) = await named(rig, "ann", "bob")
    text = f"🦭 @{bobs.upper()} @nobody_at_all see https://zoo.org/a #漢字 $ZOO"
    status, body, _ = await rig.ask("POST", "/2/tweets", ann, json={"text": text})
    tweet = int(body["data"]["id"])
    wanted = entities.unpacked(entities.pack(entities.entities(text), {bobs: bob}))

    assert status == 201 and body["data"]["entities"] == wanted
    assert wanted["mentions"][0] == {"start": 2, "end": 3 + len(bobs), "username": bobs.upper(), "id": str(bob)}
    assert "id" not in wanted["mentions"][1] and set(wanted) == {"mentions", "urls", "hashtags", "cashtags"}
    for path in (f"/2/tweets/{tweet}", f"/2/tweets?ids={tweet}", f"/2/users/{ann}/tweets",
                 f"/2/users/{ann}/timelines/reverse_chronological?tweet.fields=entities"):
        _, body, _ = await rig.ask("GET", path, ann)
        assert (body["data"] if isinstance(body["data"], dict) else body["data"][0])["entities"] == wanted, path
    assert "entities" not in (await rig.ask("GET", f"/2/tweets/{tweet}?tweet.fields=author_id", ann))[1]["data"]

    async def found() -> bool:
        hits = []
        for query in (f"@{bobs}", "%23漢字", "url:zoo.org", "%24zoo has:mentions"):
            path = f"/2/tweets/search/recent?query=from:{anns} {query}"
            hits += [hit["id"] for hit in (await rig.ask("GET", path, ann))[1].get("data", ())]
        return hits == [str(tweet)] * 4

    await until(found)


async def test_a_mention_is_listed_and_changes_no_home_timeline(rig):
    """Newest first, for anybody; deleted ones disappear; the home timeline of the mentioned user does not change."""
    (ann, _), (bob, bobs), (cyd, _) = await named(rig, "ann", "bob", "cyd")
    assert await mentions(rig, bob, bob) == ([], {"result_count": 0})
    posted = [await rig.post(ann, f"{n} @{bobs} and @{bobs.upper()}") for n in range(3)]
    await rig.post(ann, f"no mention: {bobs}@zoo.org @{bobs}/list")
    await lists(rig, cyd, bob, posted[::-1])

    assert await rig.home(bob) == []
    assert (await rig.ask("DELETE", f"/2/tweets/{posted[1]}", ann))[0] == 200
    assert (await mentions(rig, bob, bob))[0] == [posted[2], posted[0]]
    assert (await rig.ask("GET", "/2/users/999999999999/mentions", ann))[0] == 404


async def test_pages_of_mentions_are_disjoint_and_complete(rig):
    """Cursors by id, `since_id` and `until_id`, with tweets between that the reader may not see."""
    (ann, _), (eve, _), (bob, bobs) = await named(rig, "ann", "eve", "bob")
    assert (await rig.ask("PUT", "/2/users/me", eve, json={"protected": True}))[0] == 200
    posted = []
    for n in range(7):
        posted.append(await rig.post(ann, f"{n} @{bobs}"))
        await rig.post(eve, f"secret {n} @{bobs}")
    await lists(rig, bob, bob, posted[::-1])

    read, token = [], ""
    for _ in range(9):
        page, meta = await mentions(rig, bob, bob, f"?max_results=2{token}")
        read += page
        if "next_token" not in meta:
            break
        token = f"&pagination_token={meta['next_token']}"
    assert read == posted[::-1]
    assert (await mentions(rig, bob, bob, f"?since_id={posted[2]}&until_id={posted[5]}"))[0] == [posted[4], posted[3]]


async def test_a_protected_author_is_listed_only_for_followers_and_until_they_leave(rig):
    """Approved: shown. After the unfollow: hidden at once. The mentions of a protected user are theirs and their followers'."""
    (eve, _), (bob, bobs), (cyd, _) = await named(rig, "eve", "bob", "cyd")
    assert (await rig.ask("PUT", "/2/users/me", eve, json={"protected": True}))[0] == 200
    await rig.ports.users.follow(bob, eve)
    await rig.ports.users.approve(bob, eve)
    tweet = await rig.post(eve, f"psst @{bobs}")
    await lists(rig, bob, bob, [tweet])

    assert (await mentions(rig, cyd, bob))[0] == []
    assert (await rig.ask("DELETE", f"/2/users/{bob}/following/{eve}", bob))[0] == 200
    assert (await mentions(rig, bob, bob))[0] == []
    assert (await rig.ask("GET", f"/2/users/{eve}/mentions", cyd))[0] == 403


async def test_a_tweet_of_an_earlier_version_has_its_entities(rig):
    """It was stored without them: they are computed when it is read, from Cassandra and from the cache."""
    (ann, _), (_, bobs) = await named(rig, "ann", "bob")
    old = await stored(rig.ports, ann, f"hello @{bobs} #zoo")
    rows = await rig.ports.tweets.get([old.id])

    assert old.entities is None and rows[old.id].entities is None
    for _ in range(2):
        _, body, _ = await rig.ask("GET", f"/2/tweets/{old.id}", ann)
        assert body["data"]["entities"] == entities.unpacked(entities.packed(old.text))


async def test_a_mention_survives_a_crash_of_the_fanout_worker(bench: Bench):
    """The worker dies after the delivery and before it noted the mention: the event is delivered again, and notes it once."""
    ann, bob = await bench.people(2)
    bobs = (await bench.ports.users.by_id([bob]))[bob].username
    tweet = await stored(bench.ports, ann, f"@{bobs} hello")
    event = events.new_tweet(tweet)
    with held("fanout.before_mentions", tweet_id=tweet.id) as point:
        crashed = asyncio.create_task(bench.fanout().new_tweet(event))
        await point.reached()
        crashed.cancel()
        await asyncio.gather(crashed, return_exceptions=True)
    assert await bench.ports.tweets.mentions(bob, None, 10) == []

    await bench.fanout().new_tweet(event)
    await bench.fanout().new_tweet(event)
    assert [entry.id for entry in await bench.ports.tweets.mentions(bob, None, 10)] == [tweet.id]


async def test_a_post_does_not_wait_for_the_names_of_the_mentioned(bench: Bench):
    """PostgreSQL does not answer: the tweet is posted, with the names alone, and the worker notes the mention later."""
    ann, bob = await bench.people(2)
    bobs = (await bench.ports.users.by_id([bob]))[bob].username
    service = bench.tweets()

    async def never(names: Any) -> dict[str, int]:
        await asyncio.sleep(60)
        return {}

    service._usernames._users = type("Away", (), {"ids_of": staticmethod(never)})()
    tweet = await service.post(ann, Draft(f"@{bobs} hello"), "", "", time.monotonic_ns() + 5 * 10**9)
    assert entities.mentioned(entities.of(tweet)) == (bobs,) and '"id"' not in entities.of(tweet)

    await bench.fanout().new_tweet(events.new_tweet(tweet))
    assert [entry.id for entry in await bench.ports.tweets.mentions(bob, None, 10)] == [tweet.id]
