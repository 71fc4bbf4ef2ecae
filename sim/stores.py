"""The steps that a request spends in the stores: building blocks of the routes.

Each block is the cost of one call of a port: CPU at the server, and a delay without CPU (its own waits, the
wake-up of the socket). Units and delays are named here; their values come from a calibration.
"""

from __future__ import annotations

from sim.program import Acquire, Branch, Cpu, Delay, Each, Effect, Once, Publish, Release, Step

REDIS, CASSANDRA, POSTGRES = "redis-1", "cassandra-1", "postgres-1"
KAFKA, ELASTIC, MINIO, CDN = "kafka-1", "elasticsearch-1", "minio-1", "cdn-1"

Steps = tuple[Step, ...]


def redis(unit: str, size: str = "") -> Steps:
    """One round trip to Redis; the single thread serves one at a time."""
    return (Cpu(REDIS, unit, size), Delay("redis"))


def cassandra(unit: str, size: str = "") -> Steps:
    """One statement or a concurrent set of `size`: coordinator and replica are one process here."""
    return (Cpu(CASSANDRA, unit, size), Delay("cassandra"))


def postgres(unit: str, size: str = "") -> Steps:
    """One statement or transaction."""
    return (Cpu(POSTGRES, unit, size), Delay("postgres"))


def publish() -> Steps:
    """An event to Kafka, acks=all: linger and the broker's own wait are its delay."""
    return (Cpu(KAFKA, "publish"), Delay("kafka"))


def elastic(unit: str, size: str = "") -> Steps:
    """One request to Elasticsearch: a search, a view of the index, or a bulk of `size` documents."""
    return (Cpu(ELASTIC, unit, size), Delay("elasticsearch"))


def minio(unit: str) -> Steps:
    """One object written or read, or its metadata."""
    return (Cpu(MINIO, unit), Delay("minio"))


# ---- lists: complete, or absent and then built from the stores, single-flight ---------------------------

def build(read: Steps, size: str) -> Steps:
    """Build the list of the job's item: begin, read the stores, complete.

    Concurrent builds of a list are shared.
    """
    steps = (*redis("begin"), Effect("list_begins"), *read, *redis("complete", size), Effect("list_completed"))
    return (Once("list", steps),)


def author_list(service: str) -> Steps:
    """An author's tweets: one Cassandra read, with bounded concurrency per process."""
    read = (Acquire(f"{service}.author_reads"), *cassandra("author_read"), Release(f"{service}.author_reads"))
    return build((*read, Cpu(service, "author_list")), "author_entries")


def following_list() -> Steps:
    """The users that a reader follows: one read of PostgreSQL."""
    return build(postgres("following", "followings"), "followings")


def follower_list() -> Steps:
    """The followers of an author: one read of PostgreSQL."""
    return build(postgres("followers", "audience"), "audience")


def home_list(service: str) -> Steps:
    """A reader's timeline: the followed users, then their lists (absent ones are built), then the merge."""
    absent = (Each("absent_authors", author_list(service)), *redis("lists_read", "absent"))
    read = (
        *redis("lists_read", "one"),
        Each("absent_followings", following_list()),
        Effect("sources_known"),
        *redis("lists_read", "lists"),
        Branch("authors_absent", absent),
        Cpu(service, "rebuild", "lists"),
    )
    return build(read, "timeline_entries")


def missing_list(service: str) -> Steps:
    """The list of a home read that the job's item names."""
    others = (Branch("item_is_following", following_list(), author_list(service)),)
    return (Branch("item_is_home", home_list(service), others),)


def hydrate(service: str) -> Steps:
    """Turn the ids of a page into tweets: hot ones from Redis, the others from Cassandra, kept hot afterwards.

    While Redis is down all of them come from Cassandra and none is cached.
    """
    cold = (*cassandra("get", "cold"), Cpu(service, "cold_tweets", "cold"), *redis("fill", "cold"), Effect("page_is_hot"))
    cached = (*redis("hot_read", "page"), Branch("page_is_cold", cold))
    return (Branch("cache_away", (*cassandra("get", "page"), Cpu(service, "cold_tweets", "page")), cached),)


def visibility(service: str) -> Steps:
    """A process' view of protected users: read from PostgreSQL if it has expired, else only looked up.

    From a quarter of its TTL on it is refreshed in the background.
    """
    read = Once(f"{service}.privacy", (*postgres("privacy"), Effect(f"{service}.privacy_read")))
    again = Branch(f"{service}.privacy_ages", (Publish(f"{service}.privacy"),))
    return (Branch(f"{service}.privacy_expired", (read,), (again,)),)


def from_truth(service: str, authors: str) -> Steps:
    """A page read from Cassandra, one author at a time, while Redis is down. `authors`: a list of items."""
    pool = f"{service}.author_reads"
    rows = (Acquire(pool), *cassandra("author_read"), Release(pool), Cpu(service, "author_list"))
    return (Each(authors, rows), Effect("read_directly"))
