"""The vocabulary of scenario files: routes, faults, blueprints and all other words that are valid values.

Everything that can be extended is a row in one of these tables.
"""

from __future__ import annotations

from dataclasses import dataclass

ROUTES: dict[str, str] = {
    "home": "read the home timeline; one in five reads continues to a second page, some of them far down",
    "user_tweets": "read the tweets of one user",
    "tweet": "read one tweet by its id",
    "post": "post a tweet",
    "reply": "reply to a tweet",
    "delete": "delete one of their own tweets, posted in this run",
    "follow": "follow a user they do not follow yet",
    "unfollow": "unfollow a user they follow",
    "search": "search recent tweets for a word",
    "media": "upload a picture through a signed URL, finalize it and read it back",
    "profile": "read the profile of one user",
    "like": "like a tweet they do not like yet",
    "follow_request": "ask to follow a protected user",
    "follow_approve": "as a protected user, approve a follow request of this run",
}
"""Route of the mix -> what its user does. The order defines the route numbers in a tape."""

WRITES = frozenset({"post", "reply", "delete", "follow", "unfollow", "media", "like", "follow_request", "follow_approve"})

DELIVERED = ("post", "reply")
"""Routes whose tweets are fanned out to timelines: what a `delivery` objective measures."""

LIMIT_CLASSES: dict[str, tuple[str, str]] = {
    "delete": ("delete", "write"), "follow": ("follow", "write"),
    "follow_approve": ("follow_approve", "write"),
    "follow_request": ("follow", "write"), "home": ("home", "read"), "like": ("like", "write"),
    "post": ("post", "write"), "profile": ("profile", "read"), "reply": ("post", "write"),
    "search": ("search", "search"), "tweet": ("tweet", "read"), "unfollow": ("unfollow", "write"),
    "user_tweets": ("user_tweets", "read"),
}
"""Route of the mix -> (gateway route, class of its rate limit). `media`, several requests, has no row."""

NOT_SERVED: dict[str, str] = {"retweet": "the system has no retweets; give its share to another route"}
"""Words that are known but refused -> the reason and the fix."""

ARRIVALS = ("poisson", "even")
GRAPH_SHAPES: dict[str, str] = {
    "pareto": "lognormal body with a Pareto tail, like real follower counts",
    "lognormal": "lognormal body without the tail",
    "even": "all users have the same number of followers",
}

FOLLOWER_FIRST, FOLLOWEE_FIRST = "follower_followee", "followee_follower"
GRAPH_DIRECTIONS: dict[str, str] = {
    FOLLOWER_FIRST: "the first column follows the second",
    FOLLOWEE_FIRST: "the first column is followed by the second",
}

CACHE_STATES: dict[str, str] = {
    "warm": "every cached list is present, as after a day of use",
    "cold": "the cache is empty; each list is built on its first read",
}


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault. `held`: it has a duration and is undone at its end; otherwise it is instant.

    `targets`: kinds of node, empty for any; or keys of FAILURE_DOMAINS, or `lines`. `recovers_within_s`:
    longest allowed recovery in seconds, from its undo (held) or its injection (instant). `takes`: the
    parameters of STRENGTHS that it accepts, of which a scenario must set at least one. `needs_load`: the
    system recovers only through user requests, so recovery is not observed after the load.
    """

    held: bool
    targets: tuple[str, ...]
    help: str
    recovers_within_s: float
    takes: tuple[str, ...] = ()
    needs_load: bool = False

    @property
    def is_domain(self) -> bool:
        """Whether its target is a zone, a region or the WAN links between regions."""
        return bool(set(self.targets) & FAILURE_DOMAINS.keys())


DOMAIN_RECOVERS_WITHIN_S = 150.0  # three JVMs, PostgreSQL and a zone's services start on two loaded cores


FAULT_KINDS: dict[str, FaultKind] = {
    "cache_loss": FaultKind(False, ("redis",), "FLUSHALL of the cache: every cached timeline, list and tweet is lost",
                            60.0, needs_load=True),
    "kill": FaultKind(False, (), "SIGKILL of one process, which auto-heal restarts",
                      90.0),  # Cassandra starts in about 20 s on two shared cores; the rest is margin
    "pause": FaultKind(
        True, (), "every process of one node is frozen: it keeps its connections and its memory, and answers nothing",
        30.0),  # healing may replace the frozen instance, which then starts again
    "region_cut": FaultKind(
        True, ("region",), "network partition: a region is cut off while its processes stay alive",
        DOMAIN_RECOVERS_WITHIN_S),
    "region_loss": FaultKind(
        True, ("region",), "SIGKILL of every process of a region, which stays down for a while",
        DOMAIN_RECOVERS_WITHIN_S),
    "wan_slow": FaultKind(True, ("lines", "region"), "the WAN links between regions are slow, or lose packets",
                          30.0, ("delay", "loss")),
    "zone_loss": FaultKind(
        True, ("zone",), "SIGKILL of every process of a zone, which stays down for a while",
        DOMAIN_RECOVERS_WITHIN_S),
}

STRENGTHS: dict[str, tuple[float, float]] = {"delay": (0.001, 0.5), "loss": (0.001, 0.5)}
"""Parameter of a fault's strength -> its bounds: seconds one way, share of the packets."""

BLUEPRINTS: dict[str, tuple[str, ...]] = {
    "cluster": ("cassandra-1", "cassandra-2", "cassandra-3", "cdn-1", "cdn-2", "elasticsearch-1", "elasticsearch-2",
                "elasticsearch-3", "etcd-1", "etcd-2", "etcd-3", "fanout-1", "fanout-2", "gateway-1", "gateway-2",
                "haproxy-1", "haproxy-2", "indexer-1", "indexer-2", "kafka-1", "kafka-2", "kafka-3", "liker-1", "liker-2",
                "likes-1", "likes-2", "limits-1", "media-1", "media-2", "minio-1", "minio-2", "minio-3", "pdns-1", "pdns-2",
                "postgres-1", "postgres-2", "postgres-3", "redis-1", "redis-2", "relay-1", "relay-2", "search-1", "search-2",
                "sentinel-1", "sentinel-2", "sentinel-3", "timelines-1", "timelines-2", "tweets-1", "tweets-2", "users-1",
                "users-2"),
    "small": ("cassandra-1", "cdn-1", "elasticsearch-1", "fanout-1", "gateway-1", "haproxy-1", "indexer-1", "kafka-1",
              "liker-1", "likes-1", "limits-1", "media-1", "minio-1", "postgres-1", "redis-1", "relay-1", "search-1",
              "timelines-1", "tweets-1", "users-1"),
}
BLUEPRINTS["two_regions"] = (*BLUEPRINTS["cluster"], "wan-1")
"""Blueprint -> its nodes. The platform, a layer above, defines them; a test compares both lists."""

_ZONES = ("zone-1", "zone-2", "zone-3")
ZONES: dict[str, tuple[str, ...]] = {"cluster": _ZONES, "two_regions": _ZONES}
"""Blueprint -> its zones, if any. The target `zone` is the one where the cache's primary runs."""

REGIONS: dict[str, tuple[str, ...]] = {"two_regions": ("east", "west", "witness")}
"""Blueprint -> its regions, if any. The target `region` is the active one, where the cache's primary runs."""

FAILURE_DOMAINS: dict[str, dict[str, tuple[str, ...]]] = {"zone": ZONES, "region": REGIONS}
"""Kind of failure domain -> blueprint -> its domains."""
