"""Search on memory adapters: pages, hidden tweets, cursors, and access."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import re
import tracemalloc
from itertools import chain
from typing import Any

import pytest

from system import bootstrap
from system.kernel import ids, policies, settings
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.ports import Document
from system.services.search import app, handlers, query_parser
from system.services.shared import hosting
from system.services.shared.read_through import Tweets, Usernames
from tests.fakes.likes import MemoryLikeCounts, MemoryLikes
from tests.fakes.media import MemoryEdge, MemoryMedia
from tests.fakes.search import MemorySearch
from tests.fakes.timelines import MemoryHotTweets
from tests.fakes.tweets import MemoryTweets
from tests.fakes.users import MemoryUsers
from tests.helpers.app_calls import call

NOW_MS = 1_800_000_000_000


class Library:
    """The search service on memory adapters, with helpers to fill it."""

    def __init__(self, knobs: policies.SearchKnobs | None = None) -> None:
        config = settings.from_env({"TWEETLAB_JWT_SECRET": "y" * 32})
        cache = dataclasses.replace(config.policies.cache, privacy_ttl_s=0.05)
        self.config = dataclasses.replace(config, policies=dataclasses.replace(
            config.policies, cache=cache, search=knobs or policies.SearchKnobs()))
        self.tweets, self.users, self.index = MemoryTweets(), MemoryUsers(), MemorySearch()
        self.likes = MemoryLikes(self.users)
        self.ports = bootstrap.ports_of({
            "tweets": self.tweets, "hot": MemoryHotTweets(), "users": self.users, "index": self.index, "likes": self.likes,
            "like_counts": MemoryLikeCounts(), "media": MemoryMedia(), "edge": MemoryEdge()})
        self.host = hosting.Host("search", app.NEEDS, app.build, self.config, self.ports)
        self.count = 0

    async def post(self, author_id: int, text: str, likes: int = 0) -> int:
        self.count += 1
        tweet_id = ids.compose(NOW_MS + self.count, 1, 0)
        tweet = Tweet(tweet_id, author_id, text, NOW_MS + self.count, tweet_id)
        await self.tweets.append(tweet)
        await self.index.index([Document(tweet, self.count, likes)])
        return tweet_id

    async def people(self, *names: str) -> list[int]:
        return [(await self.users.create(name, name, "")).id for name in names]

    async def ask(self, viewer: int, query: str) -> tuple[int, Any]:
        return await call(self.host.app, "GET", f"/2/tweets/search/recent?{query}", viewer)

    async def ids(self, viewer: int, query: str) -> list[int]:
        status, body = await self.ask(viewer, query)
        assert status == 200, body
        return [int(tweet["id"]) for tweet in body.get("data", ())]

    async def walk(self, viewer: int, query: str) -> list[list[int]]:
        """Return all pages."""
        pages, token = [], ""
        while True:
            status, body = await self.ask(viewer, f"{query}{token}")
            assert status == 200, body
            pages.append([int(tweet["id"]) for tweet in body.get("data", ())])
            if "next_token" not in body["meta"]:
                return pages
            token = f"&next_token={body['meta']['next_token']}"


@pytest.fixture
async def library():
    built = Library()
    await built.host.open()
    yield built
    await built.host.close()


async def test_tweets_of_a_user_are_found_by_name(library) -> None:
    """Case-insensitive; an unknown name finds nothing, and excludes nothing."""
    ann, bob = await library.people("Ann", "bob")
    first, second = await library.post(ann, "walrus"), await library.post(bob, "walrus")
    assert await library.ids(bob, "query=from:ann") == [first]
    assert await library.ids(bob, "query=walrus+-from:ANN") == [second]
    assert await library.ids(bob, "query=from:nobody") == []
    assert len(await library.ids(bob, "query=walrus+-from:nobody")) == 2


async def test_a_like_raises_a_tweet_and_is_counted_if_requested(library) -> None:
    """The indexer recounts the rows; `public_metrics` are returned if `tweet.fields` names them."""
    ann, bob = await library.people("ann", "bob")
    first, second = await library.post(ann, "walrus"), await library.post(ann, "walrus")
    assert await library.ids(ann, "query=walrus") == [second, first]
    await library.likes.like(bob, first)
    await handlers.Indexer(library.ports).index_current([first, second])
    _, body = await library.ask(ann, "query=walrus&tweet.fields=public_metrics")
    assert [tweet["public_metrics"]["like_count"] for tweet in body.get("data", ())] == [1, 0]
    assert [int(tweet["id"]) for tweet in body.get("data", ())] == [first, second]
    assert "public_metrics" not in (await library.ask(ann, "query=walrus"))[1]["data"][0]


@pytest.mark.parametrize("order", ["relevancy", "recency"])
async def test_pages_are_disjoint_and_complete_during_posts(library, order: str) -> None:
    """Tweets from before the search are shown once; later ones disturb no page."""
    (ann,) = await library.people("ann")
    posted = [await library.post(ann, f"walrus {'fish ' * (n % 3)}", n % 4) for n in range(11)]
    pages, token = [], ""
    while True:
        _, body = await library.ask(ann, f"query=walrus&max_results=3&sort_order={order}{token}")
        pages.append([int(tweet["id"]) for tweet in body.get("data", ())])
        await library.post(ann, "walrus walrus", 9)
        if "next_token" not in body["meta"]:
            break
        token = f"&next_token={body['meta']['next_token']}"
    assert [len(page) for page in pages] == [3, 3, 3, 2]
    assert sorted(chain(*pages)) == posted
    if order == "recency":
        assert [*chain(*pages)] == posted[::-1]


async def test_a_page_names_its_newest_and_oldest_tweet_whatever_its_order(library) -> None:
    """`meta.newest_id` and `oldest_id` are by age, as clients use them for polling."""
    (ann,) = await library.people("ann")
    liked, plain = await library.post(ann, "walrus", 50), await library.post(ann, "walrus")
    _, body = await library.ask(ann, "query=walrus")
    assert [tweet["id"] for tweet in body.get("data", ())] == [str(liked), str(plain)]
    assert body["meta"] == {"result_count": 2, "newest_id": str(plain), "oldest_id": str(liked)}


async def test_the_newest_band_is_ranked_before_older_matches(library) -> None:
    """However common a word is, only `band` matches are ranked together; all are reachable."""
    broad = Library(policies.SearchKnobs(band=4))
    await broad.host.open()
    (ann,) = await broad.people("ann")
    posted = [await broad.post(ann, "walrus", likes) for likes in (90, 80, 0, 1, 2, 3, 4, 5, 6, 70)]
    pages = await broad.walk(ann, "query=walrus&max_results=3")
    by_band = [posted[at] for at in (9, 8, 7, 6, 5, 4, 3, 2, 0, 1)]
    assert [*chain(*pages)] == by_band
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    await broad.host.close()


async def test_a_tweet_deleted_in_the_store_is_not_shown_and_the_page_is_full(library) -> None:
    """The index may be a second behind; the page continues with the next hits."""
    (ann,) = await library.people("ann")
    posted = [await library.post(ann, "walrus") for _ in range(9)]
    for deleted_id in posted[3:7]:
        await library.tweets.delete(deleted_id, ann)
    pages = await library.walk(ann, "query=walrus&max_results=4&sort_order=recency")
    assert pages == [[posted[at] for at in (8, 7, 2, 1)], [posted[0]]]


async def test_tweets_of_protected_authors_are_found_by_approved_followers_only(library) -> None:
    """Rule 10: neither results nor the presence of a cursor reveal them to others."""
    ann, bob, eve = await library.people("ann", "bob", "eve")
    await library.users.follow(bob, ann)
    secret = [await library.post(ann, "walrus #canary") for _ in range(5)]
    public = await library.post(eve, "walrus")
    await library.users.set_profile(ann, protected=True)
    await asyncio.sleep(0.1)
    for query in ("query=walrus", "query=walrus&sort_order=recency", "query=walrus&max_results=1"):
        assert await library.walk(eve, query) == [[public]]
    for query in ("query=from:ann", "query=from:ann+walrus&max_results=1", "query=%23canary"):
        status, body = await library.ask(eve, query)
        assert (status, body) == (200, {"meta": {"result_count": 0}})
    assert sorted(await library.ids(bob, "query=walrus")) == [*secret, public]
    assert sorted(await library.ids(ann, "query=from:ann")) == secret


async def test_a_search_for_the_tweets_of_one_user_checks_their_visibility_once(library, monkeypatch) -> None:
    """No other protected user can match: one query to PostgreSQL less if there are protected users."""
    ann, bob, eve = await library.people("ann", "bob", "eve")
    await library.users.follow(bob, ann)
    posted = await library.post(ann, "walrus")
    for guarded in (ann, eve):
        await library.users.set_profile(guarded, protected=True)
    await asyncio.sleep(0.1)
    checks, follows = [], library.users.follows

    async def counted(viewer_id: int, user_ids: Any) -> Any:
        checks.append(list(user_ids))
        return await follows(viewer_id, user_ids)

    monkeypatch.setattr(library.users, "follows", counted)
    assert await library.ids(bob, "query=from:ann") == [posted]
    assert checks == [[ann], [ann]]  # before the query of the index, and after the tweet was read


async def test_sets_of_hidden_authors_are_not_cached_per_viewer(library) -> None:
    """The lower end of the newest matches is cached for some time; the sets of hidden authors are large."""
    guarded = frozenset(range(10**9, 10**9 + 5_000))

    class Guarded:
        async def hidden_from(self, viewer_id: int) -> frozenset[int]:
            return guarded - {10**9 + viewer_id}  # differs from viewer to viewer, as follows do

        async def readable(self, viewer_id: int, tweets: dict[int, Tweet]) -> dict[int, Tweet]:
            return tweets

    ports = library.ports
    tweets, names = Tweets(ports.hot, ports.tweets, True), Usernames(ports.users, ports.hot)
    search = handlers.Search(ports.index, tweets, names, Guarded(), policies.SearchKnobs())
    wanted = handlers.PageRequest(query_parser.parse("walrus"), "relevancy", 10)
    await search.recent(200, wanted, Spent())
    tracemalloc.start()
    try:
        for viewer in range(100):
            assert await search.recent(viewer, wanted, Spent()) == ([], None)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(search._breadth) == 101 and grown < 5 * 2**20


async def test_a_page_ends_after_a_bounded_number_of_rounds_and_the_next_continues(library) -> None:
    """If nearly all matches are hidden, the page is short, bounded in work, and has a next one."""
    (ann,) = await library.people("ann")
    last = await library.post(ann, "walrus")
    for _ in range(50):
        await library.tweets.delete(await library.post(ann, "walrus"), ann)
    pages = await library.walk(ann, "query=walrus&max_results=2&sort_order=recency")
    assert pages[0] == [] and pages[-1] == [last] and len(pages) > 1


async def test_a_cursor_is_valid_only_for_its_own_search(library) -> None:
    """Another query, order or bound, a forged or a truncated one: 400, never a wrong page."""
    (ann,) = await library.people("ann")
    for _ in range(5):
        await library.post(ann, "walrus fish")
    _, body = await library.ask(ann, "query=walrus&max_results=2")
    token = body["meta"]["next_token"]
    assert re.fullmatch("[A-Za-z0-9_-]+", token)
    assert (await library.ask(ann, f"query=walrus&max_results=1&pagination_token={token}"))[0] == 200
    changed = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    for query in (f"query=fish&next_token={token}", f"query=walrus&sort_order=recency&next_token={token}",
                  f"query=walrus&since_id=7&next_token={token}", f"query=walrus&next_token={changed}",
                  f"query=walrus&next_token={token[:-4]}", "query=walrus&next_token=7", "query=walrus&next_token=",
                  f"query=walrus&next_token={token}&pagination_token={changed}"):
        status, problem = await library.ask(ann, query)
        assert status == 400 and "next_token" in problem["detail"], query


async def test_a_cursor_can_be_opened_by_another_instance(library) -> None:
    """Instances share the lab's key and the index's views."""
    (ann,) = await library.people("ann")
    posted = [await library.post(ann, "walrus") for _ in range(4)]
    _, body = await library.ask(ann, "query=walrus&max_results=2")
    other = hosting.Host("search", app.NEEDS, app.build, library.config, library.ports)
    await other.open()
    path = f"/2/tweets/search/recent?query=walrus&max_results=2&next_token={body['meta']['next_token']}"
    status, second = await call(other.app, "GET", path, ann)
    assert status == 200
    assert [int(tweet["id"]) for tweet in body["data"] + second["data"]] == posted[::-1]
    await other.close()


async def test_an_expired_cursor_is_refused(library) -> None:
    """The view of a ranked search is kept for a while; afterwards the client must search again."""
    (ann,) = await library.people("ann")
    for _ in range(3):
        await library.post(ann, "walrus")
    _, body = await library.ask(ann, "query=walrus&max_results=2")
    for _ in range(40):
        await library.index.view()
    status, problem = await library.ask(ann, f"query=walrus&max_results=2&next_token={body['meta']['next_token']}")
    assert status == 400 and "too late" in problem["detail"]


@pytest.mark.parametrize(("query", "text"), [
    ("", "`query` is empty"), ("query=", "`query` is empty"), ("query=%22sea+lion", "never closed"),
    ("query=lang:en", "not supported"), ("query=a&sort_order=best", "sort_order"), ("query=a&max_results=101", "max_results"),
    ("query=a&max_results=0", "max_results"),
    ("query=a&start_time=now", "start_time"), ("query=a&since_id=x", "since_id"), ("query=a&tweet.fields=x", "tweet.fields"),
    ("query=a&expansions=x", "expansions"),
])
async def test_an_invalid_request_is_refused(library, query: str, text: str) -> None:
    """400 that names the parameter."""
    status, body = await library.ask(1, query)
    assert status == 400 and text in body["detail"]


async def test_bounds_by_id_and_time_apply(library) -> None:
    """`since_id` and `until_id` are exclusive.

    `start_time` is inclusive, `end_time` is not; an empty range is an empty page.
    """
    (ann,) = await library.people("ann")
    posted = [await library.post(ann, "walrus") for _ in range(4)]
    assert await library.ids(ann, f"query=walrus&since_id={posted[0]}&until_id={posted[3]}&sort_order=recency") == posted[2:0:-1]
    assert await library.ids(ann, f"query=walrus&since_id={posted[2]}") == [posted[3]]
    assert await library.ids(ann, f"query=walrus&since_id={posted[2]}&until_id={posted[2]}") == []
    start = "2027-01-15T08:00:00.003Z"
    assert sorted(await library.ids(ann, f"query=walrus&start_time={start}")) == posted[2:]
    assert sorted(await library.ids(ann, f"query=walrus&end_time={start}")) == posted[:2]
