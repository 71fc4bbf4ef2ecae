"""The routes of the system as programs: one entry a route of a scenario's mix, one a consumer group.

Every request goes generator -> HAProxy -> gateway -> HAProxy -> service -> stores and back. The work of generator and
gateway lies half before and half after the call, so that an event loop makes answers wait, too. Decisions are named
here and taken in `sim.model`, which asks the services' own policies.
"""

from __future__ import annotations

from sim import stores
from sim.jobs import TOO_MANY, UNAVAILABLE
from sim.program import Acquire, Branch, Call, Consumer, Cpu, Delay, Each, Effect, Fail, Loop, Publish, Release, Step
from system.kernel import events

GENERATOR, HAPROXY, GATEWAY = "load-generator", "haproxy-1", "gateway-1"
USERS, TWEETS, TIMELINES = "users-1", "tweets-1", "timelines-1"
SEARCH, MEDIA, FANOUT, INDEXER, RELAY = "search-1", "media-1", "fanout-1", "indexer-1", "relay-1"
LIKES, LIKER = "likes-1", "liker-1"

Steps = tuple[Step, ...]

EVENT_LOOPS = (GATEWAY, USERS, TWEETS, TIMELINES, SEARCH, MEDIA, LIKES, FANOUT, INDEXER, LIKER, RELAY, GENERATOR)
"""One Python process each: one task at a time, first come first served."""

LIMITS = "limits-1"  # counts for the gateway; what that costs is in the gateway's own work, so it only can be killed
WIDTHS = {
    **dict.fromkeys(EVENT_LOOPS, 1),
    HAPROXY: 0, stores.REDIS: 1, stores.CASSANDRA: 0, stores.POSTGRES: 0, stores.KAFKA: 0, stores.ELASTIC: 0,
    stores.MINIO: 0, LIMITS: 1,
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
        Branch("queue_stands", (Effect("leaves_gateway"), Fail(UNAVAILABLE))),
        Branch("over_limit", (Effect("leaves_gateway"), Fail(TOO_MANY))),
        Call(service, behind, idempotent),
        Cpu(GATEWAY, route, share=0.5),
        Effect("leaves_gateway"),
        Release("gateway.in_flight"),
        Cpu(GENERATOR, route, share=0.5),
    )


def _home() -> Steps:
    read = stores.redis("home_read", "merged_lists")
    missing = (Acquire("rebuilds"), Each("missing_lists", stores.missing_list(TIMELINES)), Release("rebuilds"), *read)
    truth = (
        Acquire("rebuilds"),
        *stores.postgres("following", "lists"),
        *stores.from_truth(TIMELINES, "all_authors"),
        Release("rebuilds"),
    )
    page = Branch("cache_away", truth, (*read, Branch("lists_missing", missing)))
    inner = (page, Effect("home_page"), *stores.hydrate(TIMELINES))
    return request("home", TIMELINES, inner)


def _user_tweets() -> Steps:
    read = stores.redis("lists_read", "one")
    absent = (Each("the_author", stores.author_list(TWEETS)), *read)
    page = Branch("cache_away", stores.from_truth(TWEETS, "the_author"), (*read, Branch("author_absent", absent)))
    inner = (page, Effect("author_page"), *stores.hydrate(TWEETS))
    return request("user_tweets", TWEETS, inner)


def _tweet() -> Steps:
    return request("tweet", TWEETS, (Effect("one_tweet"), *stores.hydrate(TWEETS)))


def _write(route: str) -> Steps:
    parent = stores.cassandra("get", "one") if route == "reply" else ()
    inner = (
        *parent,
        *stores.postgres("reserve"),
        *stores.cassandra("append"),
        Effect("tweet_durable"),
        *stores.redis("own"),
        Publish("publisher"),
    )
    return request(route, TWEETS, inner, idempotent=False)


def _delete() -> Steps:
    marked = (*stores.cassandra("delete"), *stores.redis("own"), *stores.redis("own"), Publish("publisher"))
    inner = (*stores.cassandra("get", "one"), Effect("tweet_deleted"), Branch("had_tweet", marked, (Fail(404),)))
    return request("delete", TWEETS, inner, idempotent=False)


def _edge(route: str) -> Steps:
    return request(route, USERS, (*stores.postgres("edge"), Effect(route), Publish("outbox")), idempotent=False)


def _like() -> Steps:
    """The tweet is looked up (who may not see it may not like it), then row and outbox row are one transaction."""
    row = (*stores.postgres("like"), Publish("outbox"))
    return request("like", LIKES, (Effect("one_tweet"), *stores.hydrate(LIKES), *row), idempotent=False)


def _profile() -> Steps:
    return request("profile", USERS, stores.postgres("user"))


def _search() -> Steps:
    return request("search", SEARCH, (*stores.elastic("search"), Effect("found_page"), *stores.hydrate(SEARCH)))


def _media() -> Steps:
    """Initialize, put, finalize and read back: three requests to the gateway, one to MinIO, two to the edge, told as one."""
    return request("media", MEDIA, (*stores.minio("put"), *stores.minio("get")), idempotent=False)


ROUTES: dict[str, Steps] = {
    "delete": _delete(),
    "follow": _edge("follow"),
    "home": _home(),
    "like": _like(),
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

NULL: Steps = (
    Cpu(GENERATOR, "null", share=0.5),
    Effect("sent"),
    Cpu(HAPROXY, "null"),
    Delay("null.net"),
    Cpu(GENERATOR, "null", share=0.5),
)
"""The null route: HAProxy answers by itself, so its latency is what the machine adds."""


def _published() -> Steps:
    """The tweets service hands an event to Kafka in the background, after the answer may have gone."""
    topic = Branch("is_delete", (Publish(events.TWEET_DELETED),), (Publish(events.NEW_TWEET),))
    return (Cpu(TWEETS, "publish"), *stores.publish(), topic)


def _fan_out() -> Steps:
    chunk = (*stores.redis("push", "chunk"), Cpu(FANOUT, "chunk", "chunk"))
    pushed = (Each("absent_followers", stores.follower_list()), Loop("chunks", chunk), Effect("pushed"))
    return (
        Cpu(FANOUT, "event"),
        Effect("event_page"),
        *stores.hydrate(FANOUT),
        *stores.redis("own"),
        Effect("fan_out_decided"),
        Branch("changes_mode", stores.postgres("edge")),
        Branch("is_pushed", pushed),
        *stores.redis("hot_read", "one"),
        Effect("delivered"),
    )


def _fan_out_deleted() -> Steps:
    chunk = (*stores.redis("push", "chunk"), Cpu(FANOUT, "chunk", "chunk"))
    return (
        Cpu(FANOUT, "event"),
        *stores.redis("own"),
        *stores.redis("own"),
        Effect("fan_out_decided"),
        Each("absent_followers", stores.follower_list()),
        Loop("chunks", chunk),
    )


def _edge_changed() -> Steps:
    followed = (
        *stores.redis("own"),
        *stores.redis("own"),
        *stores.cassandra("author_read"),
        *stores.redis("complete", "author_entries"),
        Effect("back_filled"),
    )
    unfollowed = (*stores.redis("own"), Effect("lists_dropped"))
    return (
        Cpu(FANOUT, "event"),
        *stores.postgres("user"),
        Branch("is_follow", followed, unfollowed),
        *stores.postgres("user"),
    )


def _index() -> Steps:
    likes = stores.postgres("count_likes")
    return (Cpu(INDEXER, "event"), *stores.cassandra("get", "one"), *likes, *stores.elastic("index"))


def _recount() -> Steps:
    return (Cpu(LIKER, "event"), *stores.postgres("count_likes"), *stores.redis("put_counts"))


def _relayed() -> Steps:
    topic = Branch("is_like", (Publish(events.NEW_LIKE),), (Publish(events.NEW_FOLLOW),))
    return (Cpu(RELAY, "row"), *stores.postgres("drain"), *stores.publish(), topic)


def _announced() -> Steps:
    """The relay listens to the topics, so that it knows which outbox rows were published."""
    return (Cpu(stores.KAFKA, "fetch"), Cpu(RELAY, "announced"))


def _fetched(steps: Steps) -> Steps:
    return (Cpu(stores.KAFKA, "fetch"), *steps)


CONSUMERS: tuple[Consumer, ...] = (
    Consumer(
        "fanout",
        FANOUT,
        (
            (events.NEW_TWEET, _fetched(_fan_out())),
            (events.TWEET_DELETED, _fetched(_fan_out_deleted())),
            (events.NEW_FOLLOW, _fetched(_edge_changed())),
        ),
        lanes=16,
        poll_delay="fanout.poll",
    ),
    Consumer(
        "indexer",
        INDEXER,
        tuple((topic, _fetched(_index())) for topic in events.GROUPS["indexer"]),
        lanes=16,
        poll_delay="indexer.poll",
    ),
    Consumer("liker", LIKER, ((events.NEW_LIKE, _fetched(_recount())),), lanes=1, poll_delay="liker.poll"),
    Consumer("outbox", RELAY, (("outbox", _relayed()),), lanes=500, poll_delay="relay.poll"),
    Consumer("publisher", TWEETS, (("publisher", _published()),), lanes=500, poll_delay="publisher.poll"),
    Consumer(
        "relay",
        RELAY,
        ((events.NEW_TWEET, _announced()), (events.TWEET_DELETED, _announced())),
        lanes=500,
        poll_delay="relay.poll",
    ),
)
"""Every consumer group. `publisher` is the queue inside the tweets service, `outbox` is PostgreSQL's, drained by the relay."""
