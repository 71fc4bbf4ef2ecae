"""Bindings of the names in the routes: each decision, size, list and effect, on the `World`.

Decisions are the services' own: fan-out uses `system.services.fanout.policy`, the bound on rebuilds
`system.services.timelines.policy`, the shedding of the gateway `system.services.gateway.policy`. A change of
a policy thus changes the prediction together with the system.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scenarios import spec
from sim import services, stores
from sim.engine import Engine
from sim.fleet import Fleet, Instance, InstancePool, Seats, bulkheads, seats_of
from sim.jobs import Context, Job
from sim.resources import Pool
from sim.state import AUTHOR, FOLLOWERS, FOLLOWING, HOME, World
from sim.streams import NS, mixed
from sim.views import Views
from system.kernel import events
from system.kernel.policies import LimitKnobs, Policies
from system.kernel.resilience.rate_window import SlidingWindow
from system.services.fanout import policy as fanout_policy
from system.services.gateway import policy as gateway_policy
from system.services.timelines import policy as timelines_policy

AUTHOR_READS = 32
"""Author partitions that a process reads concurrently.

As in system/services/shared/list_rebuild.py, which sim may not import.
"""
TOPICS = {"post": events.NEW_TWEET, "reply": events.NEW_TWEET, "delete": events.TWEET_DELETED, "like": events.NEW_LIKE}
"""Route -> the topic of its event; those of follow edges are all others."""

BY_TWEET = frozenset((events.NEW_TWEET, events.TWEET_DELETED, events.NEW_LIKE))
"""Topics whose batches are handled once per tweet."""

AUTHOR_READERS = (services.TIMELINES, services.TWEETS)


@dataclass(frozen=True)
class EffectRow:
    """One line of a worker's effect log. `at_s`: seconds of simulated time, after the last chunk."""

    group: str
    event: str
    key: str
    path: str
    targets: int
    at_s: float


class Model:
    """Binds the routes' names on `engine`. `world`: the data; `policies`: the scenario's knobs."""

    def __init__(self, engine: Engine, world: World, scenario: spec.Scenario) -> None:
        self.engine = engine
        self.world = world
        self.policies: Policies = scenario.policies
        self.history_tweets = scenario.population.history_tweets
        self.modes: dict[int, fanout_policy.AuthorMode] = {}
        self.effects: list[EffectRow] = []
        self.last_posted = 0
        self.fleets: dict[str, Fleet] = {}
        self.views = Views(engine, self.policies)
        self.windows = SlidingWindow(self.policies.limits.window_s or 1.0)
        self.limited = self.policies.limits != LimitKnobs()  # the defaults never limit, and the check costs a tenth of a read

    def bind(self) -> None:
        """Bind every name in `sim.services`."""
        bindings = self.engine.bindings
        bindings.predicates |= self._predicates()
        bindings.effects |= self._hop_effects() | self._read_effects() | self._write_effects()
        bindings.sizes |= self._sizes()
        bindings.items |= self._items()
        bindings.keys |= {"list": self._list_key}
        published = ("outbox", "publisher")
        views = (f"{service}.privacy" for service in services.READERS)
        bindings.events |= dict.fromkeys((*published, *views), self._event)
        for service in services.SCALED:
            self.fleets[service] = bindings.fleets[service] = bindings.pools[f"{service}.seat"] = Fleet(service, self._instance)
        for service, name in ((services.TIMELINES, "rebuilds"), (services.GATEWAY, "gateway.in_flight"),
                              *((services.GATEWAY, f"{one}.place") for one in services.BEHIND),
                              *((one, f"{one}.author_reads") for one in AUTHOR_READERS)):
            bindings.pools[name] = InstancePool(self.fleets[service], name)
        self.views.bind()

    def _instance(self, name: str, number: int) -> Instance:
        """Create one process of a service, with its pools."""
        env, first, knobs = self.engine.env, f"{name.rpartition('-')[0]}-1", self.policies
        node = self.engine.bindings.nodes.get(name) or self.engine.node(name, 1)
        node.down = False
        like = self.engine.bindings.nodes[first]
        if node is not like:
            node.amortization, node.off_path = like.amortization and like.amortization.copy(), like.off_path
            node.slowness = like.slowness
        instance = Instance(name, number, node, Seats(env, seats_of(knobs.autoscale)))
        if first == services.GATEWAY:
            instance.pools["gateway.in_flight"] = Pool(env, knobs.shed.max_in_flight or 1 << 40, self._admits_request)
            instance.queue = gateway_policy.Queue(knobs.shed)
            instance.pools |= bulkheads(env, services.BEHIND, knobs)
        if first == services.TIMELINES:
            instance.pools["rebuilds"] = Pool(env, knobs.timeline.rebuild_concurrency, self._admits_rebuild)
        if first in AUTHOR_READERS:
            instance.pools[f"{first}.author_reads"] = Pool(env, AUTHOR_READS)
        return instance

    # ---- decisions -----------------------------------------------------------------------------------

    def _admits_rebuild(self, running: int, waiting: int) -> bool:
        knobs = self.policies.timeline
        return timelines_policy.admits(running, waiting, knobs.rebuild_concurrency, knobs.rebuild_queue)

    def _admits_request(self, running: int, _waiting: int) -> bool:
        return gateway_policy.admits(running, self.policies.shed.max_in_flight)

    def _queue_too_long(self, job: Job) -> bool:
        now_ns, queue = self.engine.env.now, self.fleets[services.GATEWAY].of(job.ctx).queue
        return queue is not None and queue.sheds((now_ns - job.ctx.arrived_ns) / NS, now_ns / NS)

    def _over_limit(self, job: Job) -> bool:
        route = services.LIMITED.get(job.ctx.route) if self.limited else None
        if route is None:
            return False
        quotas = gateway_policy.quotas(route, str(job.ctx.user), self.policies.limits)
        return bool(quotas) and not self.windows.take(quotas, self.engine.env.now / NS).admitted

    def _predicates(self) -> dict[str, Callable[[Job], bool]]:
        redis = self.engine.bindings.nodes[stores.REDIS]
        return {
            "queue_too_long": self._queue_too_long,
            "over_limit": self._over_limit,
            "any_pulled": lambda job: bool(self.world.pulled),
            "lists_missing": self._lists_missing,
            "authors_absent": lambda job: bool(job.ctx.absent),
            "author_absent": self._author_absent,
            "item_is_home": lambda job: job.item[0] == HOME,
            "item_is_following": lambda job: job.item[0] == FOLLOWING,
            "page_is_cold": lambda job: bool(job.ctx.cold),
            "is_pushed": lambda job: job.ctx.path == fanout_policy.PUSH,
            "is_follow": lambda job: job.ctx.route == "follow",
            "creates": lambda job: any(one.route != "delete" for one in job.ctx.batch),
            "cache_away": lambda job: redis.down,
            "had_tweet": lambda job: job.ctx.tweet != 0,
            "changes_mode": lambda job: job.ctx.changed,
        }

    def _lists_missing(self, job: Job) -> bool:
        """Look up the lists of a home read, as one Lua call does.

        These are the reader's own and those of followed pulled authors.
        """
        ctx, world = job.ctx, self.world
        ctx.pulled = world.pulled_of(ctx.user) if world.pulled else ()
        missing = bool(self._missing_lists(job))
        ctx.source = ("rebuild" if missing else "hit") + (",pull" if ctx.pulled else "")
        return missing

    def _missing_lists(self, job: Job) -> list[tuple[str, int]]:
        """Return the lists of a home read that are not complete now."""
        user, world = job.ctx.user, self.world
        pulled = world.pulled_of(user) if job.ctx.pulled else ()
        wanted = [(HOME, user), (FOLLOWING, user), (AUTHOR, user), *((AUTHOR, one) for one in pulled)]
        return [one for one in wanted if not world.is_complete(*one)]

    def _author_absent(self, job: Job) -> bool:
        absent = not self.world.is_complete(AUTHOR, job.ctx.target)
        job.ctx.source = "rebuild" if absent else "hit"
        return absent

    # ---- sizes and lists -----------------------------------------------------------------------------

    def _sizes(self) -> dict[str, Callable[[Job], float]]:
        world, cap = self.world, self.policies.timeline.cap
        return {
            "one": lambda job: 1.0,
            "page": lambda job: len(job.ctx.page),
            "cold": lambda job: len(job.ctx.cold),
            "pulled_authors": lambda job: len(world.pulled),
            "merged_lists": lambda job: len(job.ctx.pulled),
            "absent": lambda job: len(job.ctx.absent),
            "lists": lambda job: len(world.followings_of(job.ctx.user)) + 1,
            "followings": lambda job: len(world.followings_of(job.item[1])),
            "timeline_entries": lambda job: min(
                cap, (len(world.followings_of(job.ctx.user)) + 1) * self.history_tweets
            ),
            "source_entries": lambda job: (len(world.followings_of(job.ctx.user)) + 1) * self.history_tweets,
            "author_entries": lambda job: self.history_tweets,
            "kept": lambda job: len(world.recent_of(job.item[1])),
            "audience": lambda job: job.ctx.audience,
            "batch": lambda job: len(job.ctx.page) if job.ctx.topic in BY_TWEET else len(job.ctx.batch),
            "chunk": lambda job: job.item,
            "live_chunk": lambda job: job.item * world.push_effort(job.ctx.user),
            "removed_entries": lambda job: job.item * world.entries_per_follower(job.ctx.user, self.history_tweets, cap),
        }

    def _items(self) -> dict[str, Callable[[Job], Sequence[Any]]]:
        world = self.world
        return {
            "missing_lists": self._missing_lists,
            "absent_authors": lambda job: [(AUTHOR, one) for one in world.absent_authors(job.ctx.user)],
            "absent_followings": lambda job: _absent(world, FOLLOWING, job.ctx.user),
            "absent_followers": lambda job: _absent(world, FOLLOWERS, job.ctx.user),
            "all_authors": lambda job: [(AUTHOR, one) for one in (*world.followings_of(job.ctx.user), job.ctx.user)],
            "the_author": lambda job: ((AUTHOR, job.ctx.target),),
            "chunks": lambda job: job.ctx.chunks,
        }

    def _list_key(self, job: Job) -> tuple[str, int] | None:
        """Return the list to build, None if it is complete by now."""
        key: tuple[str, int] = job.item
        return None if self.world.is_complete(*key) else key

    def _event(self, job: Job) -> Callable[[int], Context]:
        """Return what makes the event of a request: a separate context, which outlives the request."""
        ctx = job.ctx  # an approval creates an edge from the requester to the approver
        edge = ("follow", ctx.target, ctx.user) if ctx.route == "follow_approve" else (ctx.route, ctx.user, ctx.target)

        def event(key: int) -> Context:
            made = Context(ctx.index, *edge, self.engine.env.now, key)
            made.tweet, made.at = ctx.tweet, dict(ctx.at)
            return made

        return event

    # ---- effects -------------------------------------------------------------------------------------

    def _hop_effects(self) -> dict[str, Callable[[Job], None]]:
        env = self.engine.env

        def sent(job: Job) -> None:
            job.ctx.sent_ns = env.now

        def arrives(job: Job) -> None:
            job.ctx.arrived_ns = env.now

        def journey_ends(job: Job) -> None:
            # Several requests have no single time inside the gateway; the real row has none either.
            job.ctx.gateway_ns = job.ctx.service_ns = job.ctx.store_ns = 0

        def enters_gateway(job: Job) -> None:
            job.ctx.gateway_ns = -env.now

        def leaves_gateway(job: Job) -> None:
            job.ctx.gateway_ns += env.now

        def enters_service(job: Job) -> None:
            job.ctx.service_ns = -env.now

        def leaves_service(job: Job) -> None:
            job.ctx.service_ns += env.now

        def enters_stores(job: Job) -> None:
            job.ctx.store_ns = -env.now

        def leaves_stores(job: Job) -> None:
            job.ctx.store_ns += env.now

        hops = (sent, arrives, journey_ends, enters_gateway, leaves_gateway, enters_service, leaves_service, enters_stores,
                leaves_stores)  # fmt: skip
        return {hop.__name__: hop for hop in hops}

    def _read_effects(self) -> dict[str, Callable[[Job], None]]:
        world = self.world

        def look_up(ctx: Context, page: Sequence[int]) -> None:
            ctx.page = tuple(page)
            ctx.cold = world.cold(ctx.page)

        def home_page(job: Job) -> None:
            ctx = job.ctx
            page = world.live_home.get(ctx.user)
            ids = world.page_of(ctx.user) if page is None else page
            look_up(ctx, world.merged(ids, world.pulled_of(ctx.user)) if ctx.pulled else ids)

        def author_page(job: Job) -> None:
            look_up(job.ctx, world.recent_of(job.ctx.target))

        def one_tweet(job: Job) -> None:
            look_up(job.ctx, (job.ctx.target or self.last_posted,))
            job.ctx.source = "direct" if job.ctx.cold else "hit"

        def event_page(job: Job) -> None:
            look_up(job.ctx, (job.ctx.tweet,))

        def found_page(job: Job) -> None:
            look_up(job.ctx, world.matches(job.ctx.target))

        def read_directly(job: Job) -> None:
            job.ctx.source = "direct"

        def batch_is_hot(job: Job) -> None:
            world.hot.update(one.tweet for one in job.ctx.batch if one.route != "delete" and one.tweet not in world.deleted)

        def page_is_hot(job: Job) -> None:
            world.hot.update(job.ctx.cold)

        def author_is_hot(job: Job) -> None:
            world.hot.update(world.recent_of(job.item[1]))

        def list_begins(job: Job) -> None:
            job.ctx.epoch = world.losses

        def sources_known(job: Job) -> None:
            job.ctx.absent = world.absent_authors(job.ctx.user)

        def list_completed(job: Job) -> None:
            # A build that started before a cache loss has lost its token: its list is not kept.
            if job.ctx.epoch == world.losses:
                world.complete(*job.item)

        reads = (
            home_page, author_page, one_tweet, event_page, found_page, read_directly, batch_is_hot, page_is_hot, author_is_hot,
            list_begins, sources_known, list_completed,
        )  # fmt: skip
        return {read.__name__: read for read in reads}

    def _write_effects(self) -> dict[str, Callable[[Job], None]]:
        world, env = self.world, self.engine.env

        def tweet_durable(job: Job) -> None:
            ctx = job.ctx
            ctx.tweet = self.last_posted = world.new_id(env.now / NS)
            world.write(ctx.user, ctx.tweet)

        def tweet_deleted(job: Job) -> None:
            job.ctx.tweet = world.delete(job.ctx.user)

        def follow(job: Job) -> None:
            world.follow(job.ctx.user, job.ctx.target)

        def approve(job: Job) -> None:
            world.follow(job.ctx.target, job.ctx.user)

        def unfollow(job: Job) -> None:
            world.unfollow(job.ctx.user, job.ctx.target)

        def back_filled(job: Job) -> None:
            if world.is_complete(HOME, job.ctx.user):
                world.complete(HOME, job.ctx.user)

        def lists_dropped(job: Job) -> None:
            world.drop((HOME, job.ctx.user), (FOLLOWING, job.ctx.user), (FOLLOWERS, job.ctx.target))

        def pushed(job: Job) -> None:
            world.push(job.ctx.tweet, world.followers_of(job.ctx.user))

        writes = (tweet_durable, tweet_deleted, follow, approve, unfollow, back_filled, lists_dropped, pushed)
        named: dict[str, Callable[[Job], None]] = {write.__name__: write for write in writes}
        return named | {"fan_out_decided": self._fan_out_decided, "delivered": self._delivered, "indexed": self._indexed,
                        "published": self._published}

    def _published(self, job: Job) -> None:
        """Append the events of a published batch to their topics."""
        for one in job.ctx.batch:
            self.engine.append(TOPICS.get(one.route, events.NEW_FOLLOW), functools.partial(self._copy, one), mixed(one.key, 0))

    def _copy(self, event: Context, key: int) -> Context:
        copy = Context(event.index, event.route, event.user, event.target, self.engine.env.now, key)
        copy.tweet, copy.at = event.tweet, event.at
        return copy

    def _fan_out_decided(self, job: Job) -> None:
        ctx, knobs = job.ctx, self.policies.fanout
        ctx.audience = self.world.audience(ctx.user)
        now_ms = self.world.start_ms + self.engine.env.now // 1_000_000
        mode = self.modes.get(ctx.user)
        decision = fanout_policy.choose(ctx.audience, mode, knobs, self.policies.timeline.mode_ttl_s, now_ms)
        ctx.changed = decision.change_to is not None
        if decision.change_to is not None:
            self.modes[ctx.user] = fanout_policy.AuthorMode(decision.change_to, now_ms)
            self.world.pulled[ctx.user] = None
        ctx.path = decision.path
        ctx.chunks = fanout_policy.chunks(ctx.audience, knobs.chunk)

    def _delivered(self, job: Job) -> None:
        ctx = job.ctx
        row = EffectRow("fanout", events.NEW_TWEET, str(ctx.tweet), ctx.path, ctx.audience, self.engine.env.now / NS)
        self.effects.append(row)

    def _indexed(self, job: Job) -> None:
        now_s = self.engine.env.now / NS
        self.effects += [EffectRow("indexer", one.topic, str(one.tweet), "index", 1, now_s) for one in job.ctx.batch]


def _absent(world: World, kind: str, owner: int) -> Sequence[tuple[str, int]]:
    return () if world.is_complete(kind, owner) else ((kind, owner),)
