"""The routes of the system as programs: one entry per route of a scenario's mix.

Every request goes generator -> HAProxy -> gateway -> HAProxy -> service -> stores and back. Half of the work
of generator and gateway is before the call and half after it, so that an event loop delays responses, too.
Decisions are named here and made in `sim.model` by the services' own policies. Programs of workers are in
`sim.workers`.
"""

from __future__ import annotations

from sim import stores
from sim.jobs import TOO_MANY, UNAVAILABLE
from sim.program import Acquire, Branch, Call, Cpu, Delay, Each, Effect, Fail, Once, Parallel, Publish, Release, Step
from system.services.gateway import policy as gateway_policy

GENERATOR, HAPROXY, GATEWAY = "load-generator", "haproxy-1", "gateway-1"
USERS, TWEETS, TIMELINES = "users-1", "tweets-1", "timelines-1"
SEARCH, MEDIA, FANOUT, INDEXER, RELAY = "search-1", "media-1", "fanout-1", "indexer-1", "relay-1"
LIKES, LIKER = "likes-1", "liker-1"

Steps = tuple[Step, ...]

EVENT_LOOPS = (GATEWAY, USERS, TWEETS, TIMELINES, SEARCH, MEDIA, LIKES, FANOUT, INDEXER, LIKER, RELAY, GENERATOR)
"""One Python process each: one task at a time, first come first served."""

SCALED = (GATEWAY, USERS, TWEETS, TIMELINES, SEARCH, MEDIA, LIKES)
"""Services behind HAProxy, which can have several instances."""

BEHIND = SCALED[1:]
"""Services that a gateway calls: it has separate slots for each."""

QUOTED = (*SCALED, FANOUT, INDEXER, LIKER, RELAY)
"""Processes that a scenario's `cpu_quota` limits: services and workers, no store."""

READERS = (TWEETS, TIMELINES, SEARCH, MEDIA, LIKES)
"""Services that check protected users before they show a tweet or a picture."""

LIMITS = "limits-1"
REALTIME = (GENERATOR,)
"""Processes that run before all others; the load generator asks for it so that it sends on time."""

WIDTHS = {
    **dict.fromkeys(EVENT_LOOPS, 1),
    HAPROXY: 1, stores.REDIS: 1, stores.CASSANDRA: 0, stores.POSTGRES: 0, stores.KAFKA: 0, stores.ELASTIC: 0,
    stores.MINIO: 0, LIMITS: 1, stores.CDN: 1,
}  # fmt: skip
"""Node -> tasks that may use the CPU concurrently; 0 is any number."""


def api(route: str, service: str, inner: Steps, *, idempotent: bool = True, share: float = 0.5) -> Steps:
    """One HTTP request at the public load balancer, through gateway and mesh to `service` and back.

    `share`: of the route's work at gateway and service, before the call and again after it. That of a service is inside
    the time that it reports: what the gateway waits beyond that time is the same for all routes, whatever their work.
    """
    behind = (
        Cpu(HAPROXY, "mesh", share=0.5),
        Acquire(f"{service}.seat"),
        Delay("mesh"),
        Effect("enters_service"),
        Cpu(service, route, share=share),
        Delay("service"),
        Effect("enters_stores"),
        *inner,
        Effect("leaves_stores"),
        Cpu(service, route, share=share),
        Effect("leaves_service"),
        Release(f"{service}.seat"),
        Cpu(HAPROXY, "mesh", share=0.5),
    )
    return (
        Effect("arrives"),
        Cpu(HAPROXY, "public", share=0.5),
        Acquire(f"{GATEWAY}.seat"),
        Acquire("gateway.in_flight"),
        Effect("enters_gateway"),
        Cpu(GATEWAY, route, share=share),
        Branch("queue_too_long", (Effect("leaves_gateway"), Fail(UNAVAILABLE))),
        Cpu(LIMITS, "take"),
        Delay("redis"),
        Branch("over_limit", (Effect("leaves_gateway"), Fail(TOO_MANY))),
        Acquire(f"{service}.place"),
        Call(service, behind, idempotent),
        Release(f"{service}.place"),
        Cpu(GATEWAY, route, share=share),
        Effect("leaves_gateway"),
        Release("gateway.in_flight"),
        Release(f"{GATEWAY}.seat"),
        Cpu(HAPROXY, "public", share=0.5),
    )


def request(route: str, service: str, inner: Steps, *, idempotent: bool = True) -> Steps:
    """One operation of the load that is one request."""
    return (
        Delay("tick"),
        Cpu(GENERATOR, route, share=0.5),
        Effect("sent"),
        Delay("net"),
        *api(route, service, inner, idempotent=idempotent),
        Cpu(GENERATOR, route, share=0.5),
    )


def _home() -> Steps:
    # Every read names all pulled authors; the script looks up which of them the reader follows.
    named = (Cpu(TIMELINES, "pulled", "pulled_authors"), Cpu(stores.REDIS, "pulled", "pulled_authors"))
    read = (Branch("any_pulled", named), *stores.redis("home_read", "merged_lists"))
    missing = (Acquire("rebuilds"), Each("missing_lists", stores.missing_list(TIMELINES)), Release("rebuilds"), *read)
    truth = (
        Acquire("rebuilds"),
        *stores.postgres("following", "lists"),
        *stores.from_truth(TIMELINES, "all_authors"),
        Release("rebuilds"),
    )
    page = Branch("cache_away", truth, (*read, Branch("lists_missing", missing)))
    inner = (page, Effect("home_page"), *stores.hydrate(TIMELINES), *stores.visibility(TIMELINES))
    return request("home", TIMELINES, inner)


def _user_tweets() -> Steps:
    read = stores.redis("lists_read", "one")
    absent = (Each("the_author", stores.author_list(TWEETS)), *read)
    page = Branch("cache_away", stores.from_truth(TWEETS, "the_author"), (*read, Branch("author_absent", absent)))
    inner = (page, Effect("author_page"), *stores.hydrate(TWEETS), *stores.visibility(TWEETS))
    return request("user_tweets", TWEETS, inner)


def _tweet() -> Steps:
    return request("tweet", TWEETS, (Effect("one_tweet"), *stores.hydrate(TWEETS), *stores.visibility(TWEETS)))


def _write(route: str) -> Steps:
    parent = stores.cassandra("get", "one") if route == "reply" else ()
    inner = (
        *parent,
        *stores.postgres_write("reserve"),
        *stores.cassandra_write("append"),
        Effect("tweet_durable"),
        *stores.redis("own"),
        Publish("publisher"),
    )
    return request(route, TWEETS, inner, idempotent=False)


def _delete() -> Steps:
    own = (*stores.redis("own_removed"), *stores.redis("own_removed"))
    marked = (*stores.cassandra_write("delete"), *own, Publish("publisher"))
    inner = (*stores.cassandra("get", "one"), Effect("tweet_deleted"), Branch("had_tweet", marked, (Fail(404),)))
    return request("delete", TWEETS, inner, idempotent=False)


def _edge(route: str) -> Steps:
    return request(route, USERS, (*stores.postgres_write("edge"), Effect(route), Publish("outbox")), idempotent=False)


def _follow_request() -> Steps:
    """A follow request: a transaction that creates no edge and no event.

    Its steps cost the same as those of a follow; so do those of an approval.
    """
    return request("follow", USERS, stores.postgres_write("edge"), idempotent=False)


def _approved() -> Steps:
    return request("follow", USERS, (*stores.postgres_write("edge"), Effect("approve"), Publish("outbox")), idempotent=False)


def _like() -> Steps:
    """The tweet is looked up (only visible tweets can be liked), then row and outbox row are one transaction."""
    row = (*stores.postgres_write("like"), Publish("outbox"))
    visible = (Effect("one_tweet"), *stores.hydrate(LIKES), *stores.visibility(LIKES))
    return request("like", LIKES, (*visible, *row), idempotent=False)


def _profile() -> Steps:
    return request("profile", USERS, stores.postgres("user"))


def _search() -> Steps:
    """A ranked search: a view of the index (shared), the end of the newest `band` matches (cached), a page of
    them, then their current state from the stores."""
    view = Branch("index_view_is_old", (Once("index_view", (*stores.elastic("view"), Effect("index_view_opened"))),))
    band = Branch("band_unknown", (*stores.elastic("band"), Effect("band_known")))
    results = (*stores.elastic("search"), Effect("found_page"), *stores.hydrate(SEARCH), *stores.visibility(SEARCH))
    return request("search", SEARCH, (view, band, *results))


def _media() -> Steps:
    """The requests of a picture, as in the load: initialize, PUT to storage, finalize, show, and two reads
    from the edge, of which the first is a miss. Six exchanges, three of them with the gateway, so a sixth of
    each unit per exchange.
    """
    sixth = 1.0 / 6.0

    def exchange(*steps: Step) -> Steps:
        return (Cpu(GENERATOR, "media", share=sixth / 2), Delay("net"), *steps, Cpu(GENERATOR, "media", share=sixth / 2))

    def gateway_call(inner: Steps, *, idempotent: bool = False) -> Steps:
        return exchange(*api("media", MEDIA, inner, idempotent=idempotent, share=sixth))

    checked = Parallel((stores.minio("head"), stores.minio("get")))  # size and digest concurrently with the first bytes
    row = stores.postgres("media_read")
    fetched = (Cpu(stores.CDN, "miss"), *stores.minio("get"), Effect("edge_stores"))
    read = exchange(Branch("edge_cached", (Cpu(stores.CDN, "hit"),), fetched))
    return (
        Delay("tick"),
        Effect("sent"),
        *gateway_call(stores.postgres_write("media_write")),
        *exchange(*stores.minio("put")),
        *gateway_call((*row, checked, *stores.postgres_write("media_write"))),
        *gateway_call((*row, *stores.visibility(MEDIA)), idempotent=True),
        *read,
        *read,
        Effect("journey_ends"),
    )


ROUTES: dict[str, Steps] = {
    "delete": _delete(),
    "follow": _edge("follow"),
    "follow_approve": _approved(),
    "follow_request": _follow_request(),
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

_GATEWAY_ROUTES = {route.name: route for route in gateway_policy.ROUTES}
LIMITED = {
    **_GATEWAY_ROUTES,
    "reply": _GATEWAY_ROUTES["post"],
    "media": _GATEWAY_ROUTES["media_initialize"],
    "follow_request": _GATEWAY_ROUTES["follow"],
}
"""Route of the mix -> the gateway route whose rate limit applies."""

NULL: Steps = (
    Delay("tick"),
    Cpu(GENERATOR, "null", share=0.5),
    Effect("sent"),
    Cpu(HAPROXY, "null"),
    Delay("net"),
    Cpu(GENERATOR, "null", share=0.5),
)
"""The null route: HAProxy responds itself, so its latency is the overhead of the machine."""
