"""Bench of the race tests: real stores in a namespace, handlers called directly, holds at checkpoints."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from system.kernel import checkpoints, clock, events, ids, policies
from system.kernel.http.asgi import Spent
from system.kernel.settings import Settings
from system.ports import Edge, Kind, Ports
from system.services.fanout.audience import Audience
from system.services.fanout.handlers import Done, Fanout
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.paging import Window
from system.services.shared.publisher import Publisher
from system.services.shared.read_through import Tweets, Usernames
from system.services.shared.visibility import Visibility
from system.services.timelines.handlers import Page, Timelines
from system.services.timelines.pulled_authors import PulledAuthors
from system.services.tweets.handlers import IdSource, TweetService
from tests.helpers import services_rig

CORE = ("tweets", "timelines", "hot", "users", "leases", "keys", "log", "likes", "like_counts")


class Held:
    """A checkpoint that holds the first task that reaches it with these facts until `release`."""

    def __init__(self, wanted: dict[str, object]) -> None:
        self._wanted = wanted
        self._reached, self._free = asyncio.Event(), asyncio.Event()

    async def hook(self, **facts: object) -> None:
        """Hold the first matching task; let all others pass."""
        if self._reached.is_set() or any(facts.get(name) != value for name, value in self._wanted.items()):
            return
        self._reached.set()
        await self._free.wait()

    async def reached(self) -> None:
        """Return once a task is held here."""
        await asyncio.wait_for(self._reached.wait(), 10)

    def release(self) -> None:
        """Release the held task."""
        self._free.set()


@contextlib.contextmanager
def held(name: str, **facts: object) -> Iterator[Held]:
    """Hold the first task that reaches the checkpoint `name` with `facts`."""
    point = Held(facts)
    with checkpoints.at(name, point.hook):
        try:
            yield point
        finally:
            point.release()


class Swapped:
    """A port with some methods replaced, for example by ones that fail or count."""

    def __init__(self, port: Any, **methods: Any) -> None:
        self._port = port
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


@dataclass
class Bench:
    """Builds new handlers on every call, as if in separate processes: they share nothing but the stores."""

    settings: Settings
    ports: Ports

    @property
    def knobs(self) -> policies.Policies:
        """The policies of all handlers."""
        return self.settings.policies

    def lists(self) -> CachedLists:
        """Return the cached lists of one process."""
        return CachedLists(self.ports.timelines, self.ports.hot, self.ports.tweets, self.ports.users, self.knobs.timeline)

    def timelines(self) -> Timelines:
        """Return the home timelines of one process."""
        ports = self.ports
        pulled_authors = PulledAuthors(ports.users, self.knobs.timeline.mode_ttl_s)
        return Timelines(ports.timelines, Tweets(ports.hot, ports.tweets), self.lists(), pulled_authors, self.visibility(),
                         self.knobs.timeline)

    def visibility(self) -> Visibility:
        """Return the visibility rule of one process."""
        return Visibility(self.ports.users, self.knobs.cache.privacy_ttl_s)

    def fanout(self) -> Fanout:
        """Return the fan-out of one worker."""
        return Fanout(self.ports, self.lists(), Audience(self.ports.users), self.knobs, clock.SystemClock())

    def tweets(self, worker: int = 1) -> TweetService:
        """Return the tweets service of one process.

        It publishes nothing by itself, as before a crash: the relay has to.
        """
        ports, source = self.ports, IdSource()
        source.generator = ids.Generator(ids.Lease(worker, 0, 2**62, 2**62), clock.SystemClock())
        publisher = Publisher(ports.log, ports.hot)
        return TweetService(ports, self.lists(), Tweets(ports.hot, ports.tweets), publisher, source, self.visibility(),
                            Usernames(ports.users, ports.hot))

    # ---- actions of users ----------------------------------------------------------------------------

    async def people(self, count: int) -> list[int]:
        """Sign up `count` new users."""
        mark = secrets.token_hex(4)
        made = [await self.ports.users.create(f"u{mark}{number}", "somebody", "") for number in range(count)]
        return [user.id for user in made]

    async def follow(self, follower: int, followee: int) -> Edge:
        """Follow, and handle the event."""
        edge = await self.ports.users.follow(follower, followee)
        await self.handle_edge(edge)
        return edge

    async def unfollow(self, follower: int, followee: int) -> Edge:
        """Unfollow, and handle the event."""
        edge = await self.ports.users.unfollow(follower, followee)
        await self.handle_edge(edge)
        return edge

    async def handle_edge(self, edge: Edge) -> Done:
        """Handle the event of an edge in a separate worker."""
        return await self.fanout().new_follow(edge_event(edge))

    async def post(self, author: int, count: int = 1) -> list[int]:
        """Post, and handle the events. Return the ids, oldest first."""
        posted, fanout = [], self.fanout()
        for _ in range(count):
            tweet = await services_rig.stored(self.ports, author)
            await fanout.new_tweet(events.new_tweet(tweet))
            posted.append(tweet.id)
        return posted

    async def home(self, user: int, limit: int = 100, before: int | None = None) -> list[int]:
        """Return one page of a home timeline, read in a separate process."""
        return [tweet.id for tweet in (await self.home_page(user, limit, before)).tweets]

    async def home_page(self, user: int, limit: int = 100, before: int | None = None) -> Page:
        """Return the same page with its cursor and source."""
        return await self.timelines().home(user, Window(limit, before, None), Spent())

    async def walk(self, user: int, limit: int) -> list[int]:
        """Page through a home timeline to its end."""
        tweet_ids: list[int] = []
        before = None
        for _ in range(1_000):
            page = await self.home_page(user, limit, before)
            tweet_ids += [tweet.id for tweet in page.tweets]
            if page.next_token is None:
                return tweet_ids
            before = int(page.next_token)
        raise AssertionError("paging does not end")

    async def listed(self, user: int) -> list[int] | None:
        """Return the content of the cached home list, None if it is not complete."""
        page = await self.ports.timelines.page(Kind.HOME, user, None, 10_000)
        return None if page is None else [entry.id for entry in page.entries]

    async def warm(self, *users: int) -> None:
        """Make the home lists of these users live."""
        for user in users:
            await self.home(user)
            assert await self.listed(user) is not None


def newest(limit: int) -> Window:
    """Return the window of a first page."""
    return Window(limit, None, None)


def edge_event(edge: Edge) -> events.Event:
    """Return the event that a change of `edge` puts into the outbox."""
    return events.new_follow(edge.follower_id, edge.followee_id, edge.following, edge.version)


@contextlib.asynccontextmanager
async def bench(knobs: policies.Policies | None = None, names: Sequence[str] = CORE) -> AsyncIterator[Bench]:
    """Open a bench with these policies."""
    settings = services_rig.fresh_settings(knobs)
    async with services_rig.stores(settings, tuple(names)) as ports:
        yield Bench(settings, ports)


def with_knobs(base: Bench, knobs: policies.Policies) -> Bench:
    """Return a bench on the same stores whose handlers have other policies (the adapters keep theirs)."""
    return Bench(replace(base.settings, policies=knobs), base.ports)
