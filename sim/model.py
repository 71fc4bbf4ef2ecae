"""What the names in the routes mean: each decision, size, list and effect, over the `World`.

Decisions are the services' own: fan-out asks `system.services.fanout.policy`, the bound on rebuilds
`system.services.timelines.policy`, the shedding of the gateway `system.services.gateway.policy`. A change of a policy so
changes the prediction together with the system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scenarios import spec
from sim.engine import Engine
from sim.jobs import Context, Job
from sim.state import World
from system.kernel import events
from system.kernel.policies import Policies
from system.services.fanout import policy as fanout_policy
from system.services.gateway import policy as gateway_policy
from system.services.timelines import policy as timelines_policy


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
        self.modes: dict[int, fanout_policy.Standing] = {}
        self.effects: list[EffectRow] = []
        self.last_posted = 0

    def bind(self) -> None:
        """Give every name in `sim.services` its meaning."""
        bindings = self.engine.bindings
        bindings.predicates |= self._predicates()
        bindings.effects |= self._hop_effects() | self._read_effects() | self._write_effects()
        bindings.sizes |= self._sizes()
        bindings.items |= self._items()
        bindings.keys |= {"timeline": self._timeline_key, "author_list": self._author_key}
        bindings.events |= {
            events.NEW_TWEET: self._event,
            events.TWEET_DELETED: self._event,
            events.NEW_FOLLOW: self._event,
            "outbox": self._event,
        }
        knobs = self.policies
        self.engine.pool("rebuilds", knobs.timeline.rebuild_concurrency, self._admits_rebuild)
        places = knobs.shed.max_in_flight or 1 << 40
        self.engine.pool("gateway.in_flight", places, self._admits_request)

    # ---- decisions -----------------------------------------------------------------------------------

    def _admits_rebuild(self, running: int, waiting: int) -> bool:
        knobs = self.policies.timeline
        return timelines_policy.admits(running, waiting, knobs.rebuild_concurrency, knobs.rebuild_queue)

    def _admits_request(self, running: int, _waiting: int) -> bool:
        return gateway_policy.admits(running, self.policies.shed.max_in_flight)

    def _predicates(self) -> dict[str, Callable[[Job], bool]]:
        world = self.world
        return {
            "timeline_absent": self._timeline_absent,
            "follows_pulled": self._follows_pulled,
            "page_is_cold": lambda job: bool(job.ctx.cold),
            "followings_absent": lambda job: job.ctx.user not in world.followings,
            "followers_absent": lambda job: job.ctx.user not in world.followers,
            "profile_absent": self._profile_absent,
            "is_pushed": lambda job: job.ctx.path == fanout_policy.PUSH,
            "is_follow": lambda job: job.ctx.route == "follow",
            "had_tweet": lambda job: job.ctx.tweet != 0,
        }

    def _timeline_absent(self, job: Job) -> bool:
        ctx = job.ctx
        absent = ctx.user not in self.world.live_home
        ctx.source = "rebuild" if absent else "hit"
        return absent

    def _follows_pulled(self, job: Job) -> bool:
        if not self.world.pulled:
            return False
        ctx = job.ctx
        ctx.pulled = self.world.pulled_of(ctx.user)
        if ctx.pulled:
            ctx.source += ",pull"
        return bool(ctx.pulled)

    def _profile_absent(self, job: Job) -> bool:
        since = self.world.profiles.get(job.ctx.target)
        return since is None or self.engine.env.now - since > self.policies.cache.profile_ttl_s

    # ---- sizes and lists -----------------------------------------------------------------------------

    def _sizes(self) -> dict[str, Callable[[Job], float]]:
        world, cap = self.world, self.policies.timeline.cap
        return {
            "one": lambda job: 1.0,
            "page": lambda job: len(job.ctx.page),
            "cold": lambda job: len(job.ctx.cold),
            "pulled": lambda job: len(job.ctx.pulled),
            "lists": lambda job: len(world.followings_of(job.ctx.user)) + 1,
            "followings": lambda job: len(world.followings_of(job.ctx.user)),
            "timeline_entries": lambda job: min(
                cap, (len(world.followings_of(job.ctx.user)) + 1) * self.history_tweets
            ),
            "author_entries": lambda job: self.history_tweets,
            "audience": lambda job: job.ctx.audience,
            "chunk": lambda job: job.item,
        }

    def _items(self) -> dict[str, Callable[[Job], Sequence[Any]]]:
        return {
            "absent_authors": lambda job: self.world.absent_authors(job.ctx.user),
            "absent_pulled": lambda job: [one for one in job.ctx.pulled if one not in self.world.authors],
            "chunks": lambda job: job.ctx.chunks,
        }

    def _timeline_key(self, job: Job) -> tuple[str, int] | None:
        return None if job.ctx.user in self.world.live_home else ("home", job.ctx.user)

    def _author_key(self, job: Job) -> tuple[str, int] | None:
        author = job.item or job.ctx.author
        return None if author in self.world.authors else ("author", author)

    def _event(self, job: Job) -> tuple[int, Context]:
        """The event that a request publishes: its own context, so that the request's end does not end it."""
        ctx, now = job.ctx, self.engine.env.now
        event = Context(ctx.index, ctx.route, ctx.user, ctx.target, now)
        event.tweet, event.author = ctx.tweet, ctx.author
        return ctx.user, event

    # ---- effects -------------------------------------------------------------------------------------

    def _hop_effects(self) -> dict[str, Callable[[Job], None]]:
        env = self.engine.env

        def sent(job: Job) -> None:
            job.ctx.sent = env.now

        def enters_gateway(job: Job) -> None:
            job.ctx.gateway_s = -env.now

        def leaves_gateway(job: Job) -> None:
            job.ctx.gateway_s += env.now

        def enters_service(job: Job) -> None:
            job.ctx.service_s = -env.now

        def leaves_service(job: Job) -> None:
            job.ctx.service_s += env.now

        def enters_stores(job: Job) -> None:
            job.ctx.store_s = -env.now

        def leaves_stores(job: Job) -> None:
            job.ctx.store_s += env.now

        hops = (sent, enters_gateway, leaves_gateway, enters_service, leaves_service, enters_stores, leaves_stores)
        return {hop.__name__: hop for hop in hops}

    def _read_effects(self) -> dict[str, Callable[[Job], None]]:
        world = self.world

        def home_page(job: Job) -> None:
            ctx = job.ctx
            page = world.live_home.get(ctx.user)
            ctx.page = tuple(world.page_of(ctx.user) if page is None else page)
            if ctx.pulled:
                ctx.page = world.merged(ctx.page, ctx.pulled)
            ctx.cold = world.cold(ctx.page)

        def author_page(job: Job) -> None:
            ctx = job.ctx
            ctx.author = ctx.target
            ctx.source = "hit" if ctx.author in world.authors else "rebuild"
            ctx.page = tuple(world.recent_of(ctx.author))
            ctx.cold = world.cold(ctx.page)

        def one_tweet(job: Job) -> None:
            ctx = job.ctx
            ctx.page = (ctx.target or self.last_posted,)
            ctx.cold = world.cold(ctx.page)
            ctx.source = "direct" if ctx.cold else "hit"

        def page_is_hot(job: Job) -> None:
            world.hot.update(job.ctx.cold)

        def rebuild_begins(job: Job) -> None:
            job.ctx.epoch = world.losses

        def timeline_stands(job: Job) -> None:
            # A rebuild that began before the cache was lost has lost its token: its list is not kept.
            if job.ctx.epoch == world.losses:
                world.complete_home(job.ctx.user)

        def profile_listed(job: Job) -> None:
            world.profiles[job.ctx.target] = self.engine.env.now

        listed = {
            "followings_listed": lambda job: world.followings.add(job.ctx.user),
            "followers_listed": lambda job: world.followers.add(job.ctx.user),
            "author_listed": lambda job: world.authors.add(job.item or job.ctx.author),
        }
        reads = (home_page, author_page, one_tweet, page_is_hot, rebuild_begins, timeline_stands, profile_listed)
        return {read.__name__: read for read in reads} | listed

    def _write_effects(self) -> dict[str, Callable[[Job], None]]:
        world, env = self.world, self.engine.env

        def tweet_durable(job: Job) -> None:
            ctx = job.ctx
            ctx.tweet = self.last_posted = world.new_id(env.now)
            world.write(ctx.user, ctx.tweet)

        def tweet_deleted(job: Job) -> None:
            job.ctx.tweet = world.delete(job.ctx.user)

        def follow(job: Job) -> None:
            world.follow(job.ctx.user, job.ctx.target)

        def unfollow(job: Job) -> None:
            world.unfollow(job.ctx.user, job.ctx.target)
            timeline_dropped(job)

        def back_filled(job: Job) -> None:
            if job.ctx.user in world.live_home:
                world.complete_home(job.ctx.user)

        def timeline_dropped(job: Job) -> None:
            world.live_home.pop(job.ctx.user, None)
            world.followings.discard(job.ctx.user)
            world.followers.discard(job.ctx.target)

        def chunk_pushed(job: Job) -> None:
            # Who of the chunk has a live timeline is looked up once, with the last chunk of the event.
            if job.item is job.ctx.chunks[-1]:
                world.push(job.ctx.tweet, world.followers_of(job.ctx.user))

        writes = (tweet_durable, tweet_deleted, follow, unfollow, back_filled, timeline_dropped, chunk_pushed)
        named: dict[str, Callable[[Job], None]] = {write.__name__: write for write in writes}
        return named | {"fan_out_decided": self._fan_out_decided, "delivered": self._delivered}

    def _fan_out_decided(self, job: Job) -> None:
        ctx, knobs = job.ctx, self.policies.fanout
        ctx.audience = self.world.audience(ctx.user)
        now_ms = self.world.start_ms + int(self.engine.env.now * 1000)
        standing = self.modes.get(ctx.user)
        decision = fanout_policy.choose(ctx.audience, standing, knobs, self.policies.timeline.mode_ttl_s, now_ms)
        if decision.change_to is not None:
            self.modes[ctx.user] = fanout_policy.Standing(decision.change_to, now_ms)
            self.world.pulled.add(ctx.user)
        ctx.path = decision.path
        ctx.chunks = fanout_policy.chunks(ctx.audience, knobs.chunk)

    def _delivered(self, job: Job) -> None:
        ctx = job.ctx
        row = EffectRow("fanout", events.NEW_TWEET, str(ctx.tweet), ctx.path, ctx.audience, self.engine.env.now)
        self.effects.append(row)

