"""Requests as the clients of Twitter's API send them, to all services on memory adapters."""

from __future__ import annotations

import itertools
import time

import pytest

from system.kernel import ids
from system.services.shared import shapes
from tests.unit.test_services_on_memory import services, until


class Town:
    """The services, with users by name."""

    def __init__(self, lab) -> None:
        self.lab, self.ids = lab, {}

    async def sign_up(self, *names: str) -> list[int]:
        for name in names:
            _, made = await self.lab.ask("users", "POST", "/2/users", None, {"username": name, "password": "correct horse"})
            self.ids[name] = int(made["data"]["id"])
        return [self.ids[name] for name in names]

    async def post(self, user: int, text: str, reply_to: str = "") -> str:
        body = {"text": text, **({"reply": {"in_reply_to_tweet_id": reply_to}} if reply_to else {})}
        status, made = await self.lab.ask("tweets", "POST", "/2/tweets", user, body)
        assert status == 201, made
        return made["data"]["id"]

    async def get(self, service: str, path: str, user: int):
        status, body = await self.lab.ask(service, "GET", path, user)
        assert status == 200, body
        return body


@pytest.fixture
async def town():
    async with services() as lab:
        yield Town(lab)


async def test_referenced_tweets_and_their_authors_are_included(town):
    """A reply brings the tweet that it replies to, that tweet's author, and the field that names them."""
    ann, bob = await town.sign_up("ann", "bob")
    first = await town.post(ann, "first")
    answer = await town.post(bob, "second", first)

    body = await town.get("tweets", f"/2/tweets/{answer}?tweet.fields=created_at&expansions=referenced_tweets.id,"
                          "referenced_tweets.id.author_id,in_reply_to_user_id,author_id", bob)

    assert body["data"]["referenced_tweets"] == [{"type": "replied_to", "id": first}]
    assert body["data"]["in_reply_to_user_id"] == str(ann) and body["data"]["author_id"] == str(bob)
    assert [tweet["id"] for tweet in body["includes"]["tweets"]] == [first]
    assert set(body["includes"]["tweets"][0]) == {"id", "text", "created_at", "author_id", "edit_history_tweet_ids"}
    assert {user["username"] for user in body["includes"]["users"]} == {"ann", "bob"}
    assert "errors" not in body


async def test_a_referenced_tweet_that_is_deleted_or_hidden_is_an_error_and_not_included(town):
    """The reply itself is shown; of a deleted tweet the author is still named, of a hidden one nothing."""
    ann, bob, eve = await town.sign_up("ann", "bob", "eve")
    deleted, hidden = await town.post(ann, "deleted"), await town.post(ann, "hidden")
    answers = [await town.post(bob, "to deleted", deleted), await town.post(bob, "to hidden", hidden)]
    await town.lab.ask("tweets", "DELETE", f"/2/tweets/{deleted}", ann)
    query = f"/2/tweets?ids={','.join(answers)}&expansions=referenced_tweets.id,in_reply_to_user_id"

    public = await town.get("tweets", query, eve)
    assert public["data"][0]["in_reply_to_user_id"] == str(ann)
    assert [tweet["id"] for tweet in public["includes"]["tweets"]] == [hidden]
    await town.lab.ask("users", "PUT", "/2/users/me", ann, {"protected": True})
    private = await town.get("tweets", query, eve)

    assert [error["resource_id"] for error in private["errors"]] == [deleted, hidden]
    assert {error["parameter"] for error in private["errors"]} == {"referenced_tweets.id"}
    assert "includes" not in private and all("in_reply_to_user_id" not in tweet for tweet in private["data"])


async def test_mentioned_users_are_included(town):
    """By the name in the text, whatever its case; a name that nobody has is left out."""
    ann, bob = await town.sign_up("ann", "bob")
    made = await town.post(ann, "look @BOB and @nobody")

    body = await town.get("tweets", f"/2/tweets/{made}?expansions=entities.mentions.username&tweet.fields=created_at", ann)

    assert [user["id"] for user in body["includes"]["users"]] == [str(bob)]
    assert [mention["username"] for mention in body["data"]["entities"]["mentions"]] == ["BOB", "nobody"]


async def test_an_empty_page_has_no_data(town):
    """As in Twitter's API: `meta.result_count` is 0, and there is no `data`. tweepy then returns None."""
    (ann,) = await town.sign_up("ann")

    for service, path in (("tweets", f"/2/users/{ann}/tweets"), ("timelines", f"/2/users/{ann}/timelines/reverse_chronological"),
                          ("users", f"/2/users/{ann}/followers"), ("likes", f"/2/users/{ann}/liked_tweets"),
                          ("search", "/2/tweets/search/recent?query=walrus")):
        assert await town.get(service, path, ann) == {"meta": {"result_count": 0}}, path
    for service, path in (("tweets", "/2/tweets?ids=5"), ("users", "/2/users?ids=5"), ("users", "/2/users/by?usernames=nobody")):
        body = await town.get(service, path, ann)
        assert list(body) == ["errors"] and body["errors"][0]["resource_type"] in ("tweet", "user")


async def test_times_bound_a_timeline_at_both_ends(town):
    """`start_time` is included, `end_time` is not; with a cursor they still apply."""
    (ann,) = await town.sign_up("ann")
    await town.post(ann, "earlier")
    second = int(time.time()) + 1
    while time.time() < second:
        pass
    made = [await town.post(ann, f"number {n}") for n in range(3)]
    now = shapes.timestamp(second * 1_000)[:-5] + "Z"
    later = shapes.timestamp((second + 2) * 1_000)[:-5] + "Z"

    for service, path in (("tweets", f"/2/users/{ann}/tweets"), ("timelines", f"/2/users/{ann}/timelines/reverse_chronological")):
        first = await town.get(service, f"{path}?start_time={now}&end_time={later}&max_results=2", ann)
        token = first["meta"]["next_token"]
        second_page = await town.get(
            service, f"{path}?start_time={now}&end_time={later}&max_results=2&pagination_token={token}", ann)
        assert [tweet["id"] for page in (first, second_page) for tweet in page["data"]] == made[::-1], service
        assert "next_token" not in second_page["meta"]
        old = await town.get(service, f"{path}?end_time={now}", ann)
        assert [tweet["text"] for tweet in old["data"]] == ["earlier"]
        status, refused = await town.lab.ask(service, "GET", f"{path}?start_time=yesterday", ann)
        assert status == 400 and "`start_time` is 'yesterday'" in refused["detail"]


async def test_replies_can_be_left_out_of_both_timelines(town):
    """`exclude=replies,retweets`; pages go on until they are full."""
    ann, bob = await town.sign_up("ann", "bob")
    root = await town.post(bob, "root")
    kept = []
    for n in range(12):
        kept.append(await town.post(ann, f"own {n}"))
        await town.post(ann, f"reply {n}", root)

    for service, path in (("tweets", f"/2/users/{ann}/tweets"), ("timelines", f"/2/users/{ann}/timelines/reverse_chronological")):
        shown, token = [], ""
        while token is not None:
            page = await town.get(service, f"{path}?exclude=replies,retweets&max_results=5" +
                                  (f"&pagination_token={token}" if token else ""), ann)
            shown += [tweet["id"] for tweet in page.get("data", ())]
            token = page["meta"].get("next_token")
        assert shown == kept[::-1], service
        status, refused = await town.lab.ask(service, "GET", f"{path}?exclude=quotes", ann)
        assert status == 400 and "`exclude` names 'quotes'" in refused["detail"]


async def test_a_page_without_replies_ends_after_a_bounded_number_of_reads(town, monkeypatch):
    """An author who only replies does not make a page read their whole history: it is short and has a cursor."""
    monkeypatch.setattr("system.services.tweets.handlers.MAX_SPARSE_STEPS", 2)
    monkeypatch.setattr("system.services.shared.paging.MAX_SPARSE_STEPS", 2)
    ann, bob = await town.sign_up("ann", "bob")
    root = await town.post(bob, "root")
    first = await town.post(ann, "the only one")
    for n in range(12):
        await town.post(ann, f"reply {n}", root)

    for service, path in (("tweets", f"/2/users/{ann}/tweets"), ("timelines", f"/2/users/{ann}/timelines/reverse_chronological")):
        page = await town.get(service, f"{path}?exclude=replies&max_results=5", ann)
        assert page["meta"]["result_count"] == 0 and page["meta"]["next_token"], service
        last = await town.get(service, f"{path}?exclude=replies&max_results=5&pagination_token={page['meta']['next_token']}", ann)
        assert [tweet["id"] for tweet in last["data"]] == [first]


async def test_replies_and_tweets_are_counted_if_public_metrics_are_named(town):
    """A deleted reply no longer counts; included tweets and users have the same counts."""
    ann, bob = await town.sign_up("ann", "bob")
    root = await town.post(ann, "root")
    replies = [await town.post(bob, f"reply {n}", root) for n in range(3)]
    query = (f"/2/tweets/{replies[0]}?tweet.fields=public_metrics&user.fields=public_metrics"
             "&expansions=author_id,referenced_tweets.id")

    async def counted(number: int) -> bool:
        body = await town.get("tweets", query, ann)
        return body["includes"]["tweets"][0]["public_metrics"]["reply_count"] == number

    await until(lambda: counted(3))
    await town.lab.ask("tweets", "DELETE", f"/2/tweets/{replies[2]}", bob)
    await until(lambda: counted(2))
    body = await town.get("tweets", query, ann)

    assert body["data"]["public_metrics"]["reply_count"] == 0
    assert [user["public_metrics"]["tweet_count"] for user in body["includes"]["users"]] == [2]
    for path in (f"/2/users/{bob}?", f"/2/users?ids={bob}&", "/2/users/by?usernames=bob&", "/2/users/by/username/bob?"):
        data = (await town.get("users", f"{path}user.fields=public_metrics", ann))["data"]
        assert (data[0] if isinstance(data, list) else data)["public_metrics"]["tweet_count"] == 2, path
    assert "tweet_count" not in (await town.get("users", f"/2/users/{bob}", ann))["data"]["public_metrics"]


async def test_public_metrics_have_the_counts_that_clients_read(town):
    """0 where the lab has none, so that a client that reads `impression_count` does not fail."""
    (ann,) = await town.sign_up("ann")
    made = await town.post(ann, "walrus")

    tweet = (await town.get("tweets", f"/2/tweets/{made}?tweet.fields=public_metrics", ann))["data"]
    user = (await town.get("users", f"/2/users/{ann}?user.fields=public_metrics", ann))["data"]

    assert tweet["public_metrics"] == dict.fromkeys(
        ("retweet_count", "reply_count", "like_count", "quote_count", "bookmark_count", "impression_count"), 0)
    assert {"followers_count", "following_count", "listed_count"} <= set(user["public_metrics"])


async def test_users_are_looked_up_by_name(town):
    """In the order of the request, whatever its case; unknown ones are errors."""
    await town.sign_up("ann", "bob")

    body = await town.get("users", "/2/users/by?usernames=BOB,nobody,ann&user.fields=username", town.ids["ann"])

    assert [user["username"] for user in body["data"]] == ["bob", "ann"]
    assert [(error["value"], error["parameter"]) for error in body["errors"]] == [("nobody", "usernames")]
    for usernames in ("", ",", "a" * 16, ",".join(f"u{n}" for n in range(101))):
        assert (await town.lab.ask("users", "GET", f"/2/users/by?usernames={usernames}", town.ids["ann"]))[0] == 400


async def test_matches_are_counted_by_hour_and_hidden_authors_are_not(town):
    """The counts of the intervals add up; the first and the last interval are cut to the requested time."""
    ann, bob, eve = await town.sign_up("ann", "bob", "eve")
    for user in (ann, ann, bob):
        await town.post(user, "walrus")

    async def total(path, user):
        body = await town.get("search", path, user)
        assert sum(bucket["tweet_count"] for bucket in body["data"]) == body["meta"]["total_tweet_count"]
        return body["meta"]["total_tweet_count"], body["data"]

    async def indexed():
        return (await total("/2/tweets/counts/recent?query=walrus", eve))[0] == 3

    await until(indexed)
    _, buckets = await total("/2/tweets/counts/recent?query=walrus", eve)
    assert 168 <= len(buckets) <= 169 and buckets[-1]["tweet_count"] <= 3
    assert all(left["end"] == right["start"] for left, right in itertools.pairwise(buckets))
    await town.lab.ask("users", "PUT", "/2/users/me", bob, {"protected": True})
    assert (await total("/2/tweets/counts/recent?query=walrus", eve))[0] == 2
    assert (await total("/2/tweets/counts/recent?query=walrus&granularity=day", bob))[0] == 3
    assert (await total("/2/tweets/counts/recent?query=walrus from:bob", eve))[0] == 0
    for wrong in ("granularity=week", "granularity=minute&start_time=2020-01-01T00:00:00Z", "end_time=2020-01-01T00:00:00Z&"
                  "start_time=2021-01-01T00:00:00Z", "search_count.fields=walrus"):
        assert (await town.lab.ask("search", "GET", f"/2/tweets/counts/recent?query=walrus&{wrong}", eve))[0] == 400, wrong


@pytest.mark.parametrize(("service", "method", "path", "body", "named"), [
    ("tweets", "POST", "/2/tweets", {"text": "x", "quote_tweet_id": "5"}, "quote_tweet_id"),
    ("tweets", "POST", "/2/tweets", {"text": "x", "poll": {"options": ["a", "b"], "duration_minutes": 5}}, "poll"),
    ("tweets", "POST", "/2/tweets", {"text": "x", "reply_settings": "following"}, "reply_settings"),
    ("tweets", "POST", "/2/tweets", {"text": "x", "geo": {"place_id": "5"}}, "geo"),
    ("tweets", "POST", "/2/tweets", {"text": "x", "reply": {"in_reply_to_tweet_id": "5", "exclude_reply_user_ids": ["6"]}},
     "reply.exclude_reply_user_ids"),
    ("tweets", "POST", "/2/tweets", {"text": "x", "media": {"media_ids": ["5_6"], "tagged_user_ids": ["6"]}},
     "media.tagged_user_ids"),
    ("likes", "POST", "/2/users/{me}/likes", {"tweet_id": "5", "walrus": 1}, "walrus"),
    ("users", "POST", "/2/users/{me}/following", {"target_user_id": "5", "walrus": 1}, "walrus"),
    ("media", "POST", "/2/media/upload/initialize", {"media_type": "image/png", "total_bytes": 9, "additional_owners": ["7"]},
     "additional_owners"),
])
async def test_a_field_of_a_body_that_has_no_effect_is_refused(town, service, method, path, body, named):
    """tweepy's create_tweet sends all of these; a poll that is ignored would be a plain tweet, without a word."""
    (ann,) = await town.sign_up("ann")

    status, refused = await town.lab.ask(service, method, path.format(me=ann), ann, body)

    assert status == 400 and f"`{named}`, which is not supported" in refused["detail"]


def test_ids_of_a_time_are_bounds():
    """A page from a time on includes tweets of its first millisecond."""
    assert ids.ms_of(ids.floor_id(1_800_000_000_123)) == 1_800_000_000_123
