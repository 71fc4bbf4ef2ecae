"""The routes of the system as programs: one entry a route of a scenario's mix, one a consumer group.

Every request goes generator -> HAProxy -> gateway -> HAProxy -> service -> stores and back. The work of generator and
gateway lies half before and half after the call, so that an event loop makes answers wait, too. Decisions are named
here and taken in `sim.model`, which asks the services' own policies.
"""

from __future__ import annotations

from sim import stores
from sim.program import Acquire, Branch, Call, Consumer, Cpu, Delay, Each, Effect, Fail, Loop, Once, Publish, Release, Step
from system.kernel import events

GENERATOR, HAPROXY, GATEWAY = "generator", "haproxy-1", "gateway-1"
USERS, TWEETS, TIMELINES = "users-1", "tweets-1", "timelines-1"
SEARCH, MEDIA, FANOUT, INDEXER, RELAY = "search-1", "media-1", "fanout-1", "indexer-1", "relay-1"

Steps = tuple[Step, ...]

EVENT_LOOPS = (GATEWAY, USERS, TWEETS, TIMELINES, SEARCH, MEDIA, FANOUT, INDEXER, RELAY, GENERATOR)
"""One Python process each: one task at a time, first come first served."""

WIDTHS = {
    **dict.fromkeys(EVENT_LOOPS, 1),
    HAPROXY: 0, stores.REDIS: 1, stores.CASSANDRA: 0, stores.POSTGRES: 0, stores.KAFKA: 0, stores.ELASTIC: 0,
    stores.MINIO: 0,
}  # fmt: skip
"""Node -> tasks that may use the CPU at once; 0 is any number."""


def request(route: str, service: str, inner: Steps, *, idempotent: bool = True) -> Steps:
    """One HTTP request through the public side, the gateway and the mesh to `service`."""
    behind = (
        Cpu(HAPROXY, "mesh"),
        Effect("enters_service"),
        Cpu(service, route, share=0.5),
        Effect("enters_stores"),
        *inner,
        Delay(f"{route}.store"),
        Effect("leaves_stores"),
        Cpu(service, route, share=0.5),
        Effect("leaves_service"),
    )
    return (
        Cpu(GENERATOR, route, share=0.5),
        Effect("sent"),
        Delay(f"{route}.net"),
        Cpu(HAPROXY, "public"),
        Acquire("gateway.in_flight"),
        Effect("enters_gateway"),
        Cpu(GATEWAY, route, share=0.5),
        Call(service, behind, idempotent),
        Cpu(GATEWAY, route, share=0.5),
        Effect("leaves_gateway"),
        Release("gateway.in_flight"),
        Cpu(GENERATOR, route, share=0.5),
    )


def _home() -> Steps:
    bounded = (Acquire("rebuilds"), *stores.rebuild(TIMELINES), Release("rebuilds"))
    pull = (Each("absent_pulled", stores.author_list(TIMELINES)), *stores.redis("lists_read", "pulled"))
    inner = (
        *stores.redis("home_read"),
        Branch("timeline_absent", (Once("timeline", bounded),)),
        Branch("follows_pulled", pull),
        Effect("home_page"),
        *stores.hydrate(TIMELINES),
    )
    return request("home", TIMELINES, inner)


def _user_tweets() -> Steps:
    inner = (
        Effect("author_page"),
        *stores.redis("home_read"),
        *stores.author_list(TWEETS),
        *stores.hydrate(TWEETS),
    )
    return request("user_tweets", TWEETS, inner)


def _tweet() -> Steps:
    return request("tweet", TWEETS, (Effect("one_tweet"), *stores.hydrate(TWEETS)))


def _write(route: str) -> Steps:
    parent = stores.cassandra("get", "one") if route == "reply" else ()
    inner = (
        *parent,
        *stores.cassandra("reserve"),
        *stores.cassandra("append"),
        Effect("tweet_durable"),
        *stores.redis("own"),
        *stores.publish(),
        Publish(events.NEW_TWEET),
    )
    return request(route, TWEETS, inner, idempotent=False)


def _delete() -> Steps:
    marked = (
        *stores.cassandra("append"),
        *stores.redis("own"),
        *stores.publish(),
        Publish(events.TWEET_DELETED),
    )
    inner = (*stores.cassandra("get", "one"), Effect("tweet_deleted"), Branch("had_tweet", marked, (Fail(404),)))
    return request("delete", TWEETS, inner, idempotent=False)


def _edge(route: str) -> Steps:
    return request(route, USERS, (*stores.postgres("edge"), Effect(route), Publish("outbox")), idempotent=False)


def _profile() -> Steps:
    absent = (*stores.postgres("user"), *stores.redis("fill", "one"), Effect("profile_listed"))
    return request("profile", USERS, (*stores.redis("hot_read", "one"), Branch("profile_absent", absent)))


def _search() -> Steps:
    return request("search", SEARCH, stores.elastic("search"))


def _media() -> Steps:
    """Initialize, put, finalize and read back: three requests to the gateway and two to MinIO, told as one."""
    return request("media", MEDIA, (*stores.minio("put"), *stores.minio("get")), idempotent=False)


ROUTES: dict[str, Steps] = {
    "delete": _delete(),
    "follow": _edge("follow"),
    "home": _home(),
    "media": _media(),
    "post": _write("post"),
    "profile": _profile(),
    "reply": _write("reply"),
    "search": _search(),
    "tweet": _tweet(),
    "unfollow": _edge("unfollow"),
    "user_tweets": _user_tweets(),
}
"""Route of the mix -> its program."""


def _fan_out() -> Steps:
    followers = (*stores.postgres("followers", "audience"), *stores.fill_list("audience", "followers_listed"))
    chunk = (*stores.redis("push", "chunk"), Cpu(FANOUT, "chunk", "chunk"), Effect("chunk_pushed"))
    return (
        Cpu(FANOUT, "event"),
        Effect("fan_out_decided"),
        Branch("is_pushed", (Branch("followers_absent", followers), Loop("chunks", chunk))),
        Effect("delivered"),
    )


def _fan_out_deleted() -> Steps:
    chunk = (*stores.redis("push", "chunk"), Cpu(FANOUT, "chunk", "chunk"))
    return (Cpu(FANOUT, "event"), Effect("fan_out_decided"), Branch("is_pushed", (Loop("chunks", chunk),)))


def _edge_changed() -> Steps:
    back_fill = (*stores.author_list(FANOUT), *stores.redis("lists_read", "one"), *stores.redis("own"), Effect("back_filled"))
    return (
        Cpu(FANOUT, "event"),
        *stores.postgres("user"),
        Branch("is_follow", back_fill, (*stores.redis("own"), Effect("timeline_dropped"))),
    )


def _index() -> Steps:
    return (Cpu(INDEXER, "event"), *stores.cassandra("get", "one"), *stores.elastic("index"))


def _relayed() -> Steps:
    return (Cpu(RELAY, "row"), *stores.postgres("drain"), *stores.publish(), Publish(events.NEW_FOLLOW))


PARTITIONS = 4
"""Partitions of each topic, as system/stores creates them."""


def consumers() -> tuple[Consumer, ...]:
    """Every consumer group with its program. `outbox` is PostgreSQL's: the relay drains it in order."""
    fanout, indexer = ("fanout", FANOUT), ("indexer", INDEXER)
    rows: tuple[tuple[str, tuple[str, str], Steps, int], ...] = (
        (events.NEW_TWEET, fanout, _fan_out(), PARTITIONS),
        (events.TWEET_DELETED, fanout, _fan_out_deleted(), PARTITIONS),
        (events.NEW_FOLLOW, fanout, _edge_changed(), PARTITIONS),
        (events.NEW_TWEET, indexer, _index(), PARTITIONS),
        (events.TWEET_DELETED, indexer, _index(), PARTITIONS),
        ("outbox", ("relay", RELAY), _relayed(), 1),
    )
    return tuple(
        Consumer(topic, group, node, (Cpu(stores.KAFKA, "fetch"), *body), partitions, f"{group}.poll")
        for topic, (group, node), body, partitions in rows
    )
