"""The steps that a request spends in the stores: building blocks of the routes.

Each block is what one call of a port costs: CPU at the server, and a delay that is not CPU (its own waits, the wake-up of
the socket). The units and delays are named here once; their values come from a calibration.
"""

from __future__ import annotations

from sim.program import Branch, Cpu, Delay, Each, Effect, Once, Step

REDIS, CASSANDRA, POSTGRES = "redis-1", "cassandra-1", "postgres-1"
KAFKA, ELASTIC, MINIO = "kafka-1", "elasticsearch-1", "minio-1"

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


def elastic(unit: str) -> Steps:
    """One request to Elasticsearch."""
    return (Cpu(ELASTIC, unit), Delay("elasticsearch"))


def minio(unit: str) -> Steps:
    """One object put or read."""
    return (Cpu(MINIO, unit), Delay("minio"))


def fill_list(size: str, effect: str) -> Steps:
    """Write a list that was read from the truth into Redis and mark it complete."""
    return (*redis("complete", size), Effect(effect))


def author_list(service: str) -> Steps:
    """Make the author list of the job's item stand: single-flight, one Cassandra read per absent author."""
    read = (*cassandra("author_read"), Cpu(service, "author_list"), *fill_list("author_entries", "author_listed"))
    return (Once("author_list", read),)


def hydrate(service: str) -> Steps:
    """Turn the ids of a page into tweets: hot ones from Redis, the others from Cassandra, kept hot afterwards."""
    cold = (*cassandra("get", "cold"), *redis("fill", "cold"), Cpu(service, "cold_tweets", "cold"), Effect("page_is_hot"))
    return (*redis("hot_read", "page"), Branch("page_is_cold", cold))


def rebuild(service: str) -> Steps:
    """Rebuild the viewer's home timeline: single-flight a viewer, bounded a process, author lists by single-flight."""
    followings = (*postgres("following", "followings"), *fill_list("followings", "followings_listed"))
    return (
        *redis("begin"),
        Effect("rebuild_begins"),
        Branch("followings_absent", followings),
        *redis("lists_read", "lists"),
        Each("absent_authors", author_list(service)),
        Cpu(service, "rebuild", "lists"),
        *fill_list("timeline_entries", "timeline_stands"),
    )
