"""The invariants on a real system, from real stores and the real API: they pass if it is intact and fail if it is not."""

import asyncio
import random
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from chaos import invariants
from chaos.evidence import api_reads, collect, history
from chaos.evidence.bundle import Canary, RunClock
from scenarios import plan
from scenarios.world import pictures
from system.kernel import events, policies
from system.ports import Kind
from tests.helpers import services_rig
from tweetlab.run import effect_log_reader

pytestmark = pytest.mark.real
KNOBS = policies.Policies(fanout=policies.FanoutKnobs(push_limit=4), timeline=policies.TimelineKnobs(mode_ttl_s=0.2))
GROUPS = events.GROUPS
PLANNED = frozenset(plan.WORDS) - {plan.FAULTS, plan.LIKES, plan.SEEDED_LIKES, plan.APPROVALS}
NAMES = ("zarquon", "hotblack", "lallafa", "deep_thot", "slarti", "gargravarr", "eddie", "marvin")


class Client:
    """Sends requests to a rig and keeps one row per request, as the load driver does."""

    def __init__(self, rig):
        self.rig, self.rows = rig, []

    async def play(self, route, user, target=0, cursor=""):
        row = history.DEFAULTS | {"op": len(self.rows), "route": route, "user": user, "target": target, "cursor_in": cursor,
                                  "session": f"s{user}", "sent_ns": time.monotonic_ns(), "outcome": "ok"}
        more = {"headers": {"idempotency-key": f"k{row['op']}"}} if route in ("post", "follow") else {}
        method, path, body = {
            "post": ("POST", "/2/tweets", {"text": f"share and enjoy {row['op']}"}),
            "delete": ("DELETE", f"/2/tweets/{target}", None),
            "follow": ("POST", f"/2/users/{user}/following", {"target_user_id": str(target)}),
            "unfollow": ("DELETE", f"/2/users/{user}/following/{target}", None),
            "home": ("GET", f"/2/users/{user}/timelines/reverse_chronological?max_results=5", None),
            "user_tweets": ("GET", f"/2/users/{target}/tweets?max_results=5", None),
        }[route]
        path += f"&pagination_token={cursor}" if cursor else ""
        status, answer, headers = await self.rig.ask(method, path, user, **({"json": body} if body else {}), **more)
        row |= {"done_ns": time.monotonic_ns(), "status": status, "key": f"k{row['op']}" if route == "post" else ""}
        assert status < 300, (route, answer)
        if route == "post":
            row["tweet_id"] = int(answer["data"]["id"])
        if route in ("home", "user_tweets"):
            row |= {"page_ids": [int(tweet["id"]) for tweet in answer.get("data", ())],
                    "page_authors": [int(tweet["author_id"]) for tweet in answer.get("data", ())],
                    "cursor_out": answer["meta"].get("next_token", ""), "scanned_low": int(headers["x-tweetlab-scanned"])}
        self.rows.append(row)
        return row

    async def picture(self, user):
        """Upload a picture; the whole journey is one row."""
        picture = pictures.draw(42, len(self.rows))
        data = picture.data
        row = history.DEFAULTS | {"op": len(self.rows), "route": "media", "user": user, "session": f"s{user}", "outcome": "ok",
                                  "sent_ns": time.monotonic_ns(), "body_sha": pictures.look(data)}
        wish = {"media_type": picture.media_type, "total_bytes": len(data)}
        _, upload, _ = await self.rig.ask("POST", "/2/media/upload/initialize", user, json=wish)
        place = upload["data"]
        async with self.rig.session.put(place["upload_url"], data=data, headers=place["upload_headers"]) as answer:
            assert answer.status == 200
        assert (await self.rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", user))[0] == 200
        row.update(target=int(place["id"].partition("_")[2]), status=200, done_ns=time.monotonic_ns())
        self.rows.append(row)

    def frame(self):
        return pd.DataFrame(self.rows)


async def quiet(rig):
    async def empty():
        lags = [await rig.ports.log.lag(group, topics) for group, topics in GROUPS.items()]
        return not any(sum(lag.values()) for lag in lags)

    await asyncio.sleep(0.5)
    await services_rig.until(empty, 30)


@pytest.fixture(scope="module")
async def played(tmp_path_factory):
    """A rig after 300 requests of eight users with a cache loss in the middle, and the client that sent them."""
    folder = tmp_path_factory.mktemp("effects")
    config = replace(services_rig.fresh_settings(KNOBS), effects=str(folder))
    async with services_rig.stores(config) as ports, services_rig.running(config, ports) as rig:
        people, draw = await rig.people(*NAMES), random.Random(42)
        edges = {(a, b) for a in people for b in people if a != b and (b == people[0] or draw.random() < 0.4)}
        for follower, followee in sorted(edges):
            await ports.users.follow(follower, followee)
        seeded = [await rig.post(draw.choice(people), f"before {n}") for n in range(12)]
        await quiet(rig)
        client, start_ns, wall_ms = Client(rig), time.monotonic_ns(), time.time_ns() // 1_000_000
        for number in range(300):
            if number == 150:
                await ports.timelines.clear()
            await step(client, people, draw, edges)
        for person in people[:2]:
            await client.picture(person)
        await quiet(rig)
        yield rig, client, np.array(sorted(edges)).T, np.array(sorted(seeded)), start_ns, wall_ms, folder


async def step(client, people, draw, edges):
    """Send one request that a user might send."""
    route = draw.choices(["home", "user_tweets", "post", "delete", "follow", "unfollow"], [8, 3, 5, 1, 1, 1])[0]
    user, other = draw.sample(people, 2)
    if route == "delete":
        own = [row for row in client.rows if row["route"] == "post"]
        if own:
            tweet = draw.choice(own)
            await client.play("delete", tweet["user"], tweet["tweet_id"])
    elif route in ("follow", "unfollow", "user_tweets"):
        await client.play(route, user, other)
    else:
        row = await client.play(route, user)
        if row["cursor_out"] and draw.random() < 0.5:
            await client.play(route, user, 0, row["cursor_out"])


async def judged(played, **changed):
    rig, client, edges, seeded, start_ns, wall_ms, folder = played
    table = effect_log_reader.read(folder, from_ns=start_ns)
    load = collect.Load(client.frame(), table, RunClock(start_ns, wall_ms), quiesced=True, plan=PLANNED)
    system = collect.System(rig.ports, changed.get("url", rig.url), rig.token)
    evidence = await collect.collect(load, collect.Seeded((edges[0], edges[1]), seeded), system, seed=1)
    return evidence, {finding.name: finding for finding in invariants.judge(evidence)}


@pytest.mark.asyncio(loop_scope="module")
async def test_an_intact_system_passes_every_invariant_after_a_cache_loss(played):
    """No invariant fails or is unknown; pushed and pulled authors were both checked."""
    evidence, findings = await judged(played)

    results = {name: (f.verdict, f.violations, f.note if f.verdict == "unknown" else "") for name, f in findings.items()}
    outside = dict.fromkeys(("fault_windows_were_exercised", "likes_exact"), ("not_applicable", (), ""))
    assert results == dict.fromkeys(invariants.INVARIANTS, ("pass", (), "")) | outside
    assert evidence.finals.pulled
    assert {cached.kind for cached in evidence.finals.lists} == set(Kind)


@pytest.fixture
def without_canaries(monkeypatch):
    """The canary checks take seconds per collection and are unrelated to what these tests break."""
    async def watch(base_url, token):
        return Canary(0, (), False)

    monkeypatch.setattr(collect.canaries, "watch", watch)


@pytest.mark.usefixtures("without_canaries")
@pytest.mark.asyncio(loop_scope="module")
async def test_an_unreachable_api_makes_final_reads_unknown_and_never_failed(played, monkeypatch):
    """Reads that failed make their invariant unknown, with a note."""
    monkeypatch.setattr(api_reads, "PAUSE_S", 0.01)  # between retries
    _, findings = await judged(played, url="http://127.0.0.1:9")

    assert findings["no_acknowledged_tweet_lost"].verdict == "unknown"
    assert "final GETs had no answer" in findings["no_acknowledged_tweet_lost"].note
    assert "fail" not in {finding.verdict for finding in findings.values()}


@pytest.mark.usefixtures("without_canaries")
@pytest.mark.asyncio(loop_scope="module")
async def test_an_incomplete_follower_list_marked_complete_is_detected(played):
    """A complete list with one entry, as a cache loss leaves it in systems that trust any list; PostgreSQL has many."""
    rig, _, edges, *_ = played
    star = int(edges[1][0])
    await rig.ports.timelines.drop([(Kind.FOLLOWERS, star)])
    token = await rig.ports.timelines.begin(Kind.FOLLOWERS, star)
    assert await rig.ports.timelines.complete(Kind.FOLLOWERS, star, token, [], 0)
    _, findings = await judged(played)
    await rig.ports.timelines.drop([(Kind.FOLLOWERS, star)])

    assert findings["cached_lists_match_the_oracle"].verdict == "fail"
    assert f"list f:{star} lacks" in findings["cached_lists_match_the_oracle"].violations[0]


@pytest.mark.usefixtures("without_canaries")
@pytest.mark.asyncio(loop_scope="module")
async def test_a_picture_lost_by_storage_is_detected(played):
    """It was finalized, and its bytes are missing or differ."""
    rig, client, *_ = played
    row = next(row for row in client.rows if row["route"] == "media")
    key = f"media/{row['user']}/{row['target']}"
    data = await rig.ports.blobs.get(key)
    await rig.ports.blobs.put(key, data[::-1], "image/png")
    _, torn = await judged(played)
    await rig.ports.blobs.remove(key)
    _, lost = await judged(played)
    await rig.ports.blobs.put(key, data, "image/png")

    assert "another picture" in torn["pictures_are_intact"].violations[0]
    assert "storage holds nothing" in lost["pictures_are_intact"].violations[0]
    assert (torn["pictures_are_intact"].verdict, lost["pictures_are_intact"].verdict) == ("fail", "fail")


@pytest.mark.usefixtures("without_canaries")
@pytest.mark.asyncio(loop_scope="module")
async def test_a_tweet_deleted_without_a_client_request_is_lost(played):
    """The client has an acknowledgement; the stores say that the tweet is deleted."""
    rig, client, *_ = played
    deleted = {row["target"] for row in client.rows if row["route"] == "delete"}
    tweet = next(row for row in client.rows if row["route"] == "post" and row["tweet_id"] not in deleted)
    await rig.ports.tweets.delete(tweet["tweet_id"], tweet["user"])
    await rig.ports.hot.mark_deleted(tweet["tweet_id"])
    _, findings = await judged(played)

    finding = findings["no_acknowledged_tweet_lost"]
    assert finding.verdict == "fail"
    assert f"tweet {tweet['tweet_id']} was acknowledged and is absent from" in finding.violations[0]
    assert "GET by id" in finding.violations[0]
