"""The steps that a request spends in the stores: building blocks of the routes.

Each block is the cost of one call of a port: CPU at the server, and a delay without CPU (its own waits, the
wake-up of the socket). Units and delays are named here; their values come from a calibration.
"""

from __future__ import annotations

from sim.program import Acquire, Branch, Cpu, Delay, Each, Effect, Flush, Once, Publish, Release, Step

REDIS, CASSANDRA, POSTGRES = "redis-1", "cassandra-1", "postgres-1"
KAFKA, ELASTIC, MINIO, CDN = "kafka-1", "elasticsearch-1", "minio-1", "cdn-1"
THREADED = (CASSANDRA, KAFKA, ELASTIC)
"""JVMs. What makes their work dearer at a low load (garbage collection, compilation, refreshing an index) runs in threads of
its own: a search took 9 to 11 ms in Elasticsearch at 1/s as at 47/s, while its CPU fell to a quarter."""
COMMIT_LOG, WAL, TRANSLOG = "cassandra.flush", "postgres.flush", "elasticsearch.flush"
DEVICES = (COMMIT_LOG, WAL, TRANSLOG)
"""Logs that writes wait for; the calibration has the time of one flush of each, under the same name."""

Steps = tuple[Step, ...]


def redis(unit: str, size: str = "") -> Steps:
    """One round trip to Redis; the single thread serves one at a time."""
    return (Cpu(REDIS, unit, size), Delay("redis"))


def cassandra(unit: str, size: str = "") -> Steps:
    """One read or a concurrent set of `size`: coordinator and replica are one process here."""
    return (Cpu(CASSANDRA, unit, size), Delay("cassandra"))


def cassandra_write(unit: str) -> Steps:
    """One write, acknowledged when its commit log is on disk (`commitlog_sync: batch`)."""
    return (Cpu(CASSANDRA, unit), Flush(COMMIT_LOG))


def postgres(unit: str, size: str = "") -> Steps:
    """One statement that reads."""
    return (Cpu(POSTGRES, unit, size), Delay("postgres"))


def postgres_write(unit: str, size: str = "") -> Steps:
    """One transaction that writes: its commit waits for the write-ahead log."""
    return (Cpu(POSTGRES, unit, size), Flush(WAL))


def publish(size: str) -> Steps:
    """`size` events to Kafka in one call, acks=all: linger and the broker's own wait are its delay."""
    return (Cpu(KAFKA, "publish", size), Delay("kafka"))


def elastic(unit: str, size: str = "") -> Steps:
    """One request to Elasticsearch that reads: a search, a view of the index."""
    return (Cpu(ELASTIC, unit, size), Delay("elasticsearch"))


def elastic_write(unit: str, size: str) -> Steps:
    """A bulk of `size` documents, acknowledged when its translog is on disk."""
    return (Cpu(ELASTIC, unit, size), Flush(TRANSLOG))


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
    """An author's tweets: one Cassandra read, with bounded concurrency per process; the newest are kept in the hot cache."""
    return build((*_author_rows(service), *redis("fill", "kept"), Effect("author_is_hot")), "author_entries")


def _author_rows(service: str) -> Steps:
    pool = f"{service}.author_reads"
    read = (Acquire(pool), *cassandra("author_read", "author_entries"), Release(pool))
    return (*read, Cpu(service, "author_list", "author_entries"))


def following_list() -> Steps:
    """The users that a reader follows: one read of PostgreSQL."""
    return build(postgres("following", "followings"), "followings")


def follower_list(service: str) -> Steps:
    """The followers of an author: one read of PostgreSQL."""
    return build((*postgres("followers", "audience"), Cpu(service, "follower_list", "audience")), "audience")


def home_list(service: str) -> Steps:
    """A reader's timeline: the followed users, then their lists (absent ones are built), then the merge."""
    absent = (Each("absent_authors", author_list(service)), *redis("lists_read", "absent"))
    read = (
        *redis("lists_read", "one"),
        Each("absent_followings", following_list()),
        Effect("sources_known"),
        *redis("lists_read", "lists"),
        Branch("authors_absent", absent),
        Cpu(service, "rebuild", "source_entries"),
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
    return (Each(authors, _author_rows(service)), Effect("read_directly"))
