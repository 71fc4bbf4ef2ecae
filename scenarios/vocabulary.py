"""The words a scenario may use, and where each comes from. What can be added stands in these tables."""

from __future__ import annotations

from dataclasses import dataclass

ROUTES: dict[str, str] = {
    "home": "read the home timeline; every fifth reader asks for a second page, some of them far down",
    "user_tweets": "read the tweets of one user",
    "tweet": "read one tweet by its id",
    "post": "post a tweet",
    "reply": "reply to a tweet",
    "delete": "delete an own tweet that was posted in this run",
    "follow": "follow a user not followed yet",
    "unfollow": "end a follow that exists",
    "search": "search recent tweets for a word",
    "media": "upload a picture by a signed URL, finalize it and read it back",
    "profile": "read the profile of one user",
    "like": "like a tweet not liked yet",
    "follow_request": "ask a protected user to follow him",
    "follow_approve": "a protected user approves a request of this run",
}
"""Route of the mix -> what its user does. The order fixes the numbers of the tape."""

WRITES = frozenset({"post", "reply", "delete", "follow", "unfollow", "media", "like", "follow_request", "follow_approve"})

DELIVERED = ("post", "reply")
"""Routes whose tweets are delivered into timelines: what an objective on `delivery` measures."""

LIMIT_CLASSES: dict[str, tuple[str, str]] = {
    "delete": ("delete", "write"), "follow": ("follow", "write"),
    "follow_approve": ("follow_approve", "write"),
    "follow_request": ("follow", "write"), "home": ("home", "read"), "like": ("like", "write"),
    "post": ("post", "write"), "profile": ("profile", "read"), "reply": ("post", "write"),
    "search": ("search", "search"), "tweet": ("tweet", "read"), "unfollow": ("unfollow", "write"),
    "user_tweets": ("user_tweets", "read"),
}
"""Route of the mix -> (route at the gateway, class of its limit); `media`, several requests, has no row."""

NOT_SERVED: dict[str, str] = {"retweet": "the system has no retweets; give its share to another route"}
"""Words the schema knows but refuses, and the fix."""

ARRIVALS = ("poisson", "even")
GRAPH_SHAPES: dict[str, str] = {
    "pareto": "lognormal body with a Pareto tail, as real follower counts",
    "lognormal": "lognormal body without the tail",
    "even": "everybody has the same number of followers",
}

FOLLOWER_FIRST, FOLLOWEE_FIRST = "follower_followee", "followee_follower"
GRAPH_DIRECTIONS: dict[str, str] = {
    FOLLOWER_FIRST: "the first column follows the second",
    FOLLOWEE_FIRST: "the first column is followed by the second",
}

CACHE_STATES: dict[str, str] = {
    "warm": "every cached list stands, as after a day of use",
    "cold": "nothing is cached; each list is built at its first read",
}


@dataclass(frozen=True)
class FaultKind:
    """`held`: has a duration and is undone at its end; otherwise instant. `targets`: kinds of node, empty for any; or `AREAS`.

    `recovers_within_s`: the time that its recovery may take, in seconds from its undo (held) or injection
    (instant). `takes`: what of its strength may be asked, words of `STRENGTHS`; one at least is.
    `needs_load`: only requests bring the system back, so recovery is observed no longer than the load lasts.
    """

    held: bool
    targets: tuple[str, ...]
    help: str
    recovers_within_s: float
    takes: tuple[str, ...] = ()
    needs_load: bool = False

    @property
    def is_area(self) -> bool:
        """Whether it strikes zones, regions or the lines between them."""
        return bool(set(self.targets) & AREAS.keys())


AREA_RECOVERS_WITHIN_S = 150.0  # three JVMs, PostgreSQL and a zone's services start on two cores under load


FAULT_KINDS: dict[str, FaultKind] = {
    "cache_loss": FaultKind(False, ("redis",), "every cached timeline, list and tweet is gone at once",
                            60.0, needs_load=True),
    "kill": FaultKind(False, (), "one process dies by SIGKILL and is restarted by auto-heal",
                      90.0),  # Cassandra starts in about 20 s on two shared cores; the rest is reserve
    "region_cut": FaultKind(
        True, ("region",), "nothing goes into a region or out of it, while its processes live on",
        AREA_RECOVERS_WITHIN_S),
    "region_loss": FaultKind(
        True, ("region",), "every process of a region dies by SIGKILL and stays dead for a while",
        AREA_RECOVERS_WITHIN_S),
    "wan_slow": FaultKind(True, ("lines", "region"), "the lines between regions are slow, or lose packets",
                          30.0, ("delay", "loss")),
    "zone_loss": FaultKind(
        True, ("zone",), "every process of a zone dies by SIGKILL and stays dead for a while",
        AREA_RECOVERS_WITHIN_S),
}

STRENGTHS: dict[str, tuple[float, float]] = {"delay": (0.001, 0.5), "loss": (0.001, 0.5)}
"""What of a fault's strength may be asked -> its bounds: seconds one way, share of the packets."""

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
"""Blueprint -> its nodes. The platform builds them, one floor above; a test holds both lists equal."""

_ZONES = ("zone-1", "zone-2", "zone-3")
ZONES: dict[str, tuple[str, ...]] = {"cluster": _ZONES, "two_regions": _ZONES}
"""Blueprint -> its zones, where it has any; held equal to the platform's by the same test. `zone`: the cache's primary's."""

REGIONS: dict[str, tuple[str, ...]] = {"two_regions": ("east", "west", "witness")}
"""Blueprint -> its regions, likewise. `region`: the active one, where the cache's primary stands."""

AREAS: dict[str, dict[str, tuple[str, ...]]] = {"zone": ZONES, "region": REGIONS}
"""What a fault may strike that is more than a node -> which blueprint has which."""
