"""`METRICS`: every metric that a process of the lab exposes at /metrics. To add a metric, add a row.

Names are `tweetlab_<what>_<unit>`; a counter ends in `_total`. docs/reference/telemetry.md and the dashboards
are generated from this table (`make reference`). Labels must have low cardinality: a route, a dependency, a
result; never a user, an id or a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Board = Literal["requests", "workers", "stores", "copies", "processes"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds of most histograms: from a Redis call to the longest request."""
LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds for times that include queueing."""


@dataclass(frozen=True)
class Metric:
    """One metric. `unit`: of its value. `buckets`: upper bounds of a histogram. `board`: the dashboard that shows it."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = "1"
    buckets: tuple[float, ...] = SECONDS
    board: Board = "requests"


METRICS: dict[str, Metric] = {
    # -- requests: rate, errors and duration of each route and each dependency
    "tweetlab_request_seconds": Metric(
        "histogram", "Time of a request inside this process, by route and status class.", ("route", "status"), "s"),
    "tweetlab_requests_in_flight": Metric("gauge", "Requests inside this process now.", (), "requests"),
    "tweetlab_dependency_seconds": Metric(
        "histogram", "Time of a call to a store or to a service behind the mesh; result is ok or error.",
        ("dependency", "result"), "s"),
    "tweetlab_pool_wait_seconds": Metric(
        "histogram", "Wait of calls that found no free connection or slot.", ("dependency",), "s"),
    "tweetlab_breaker_state": Metric("gauge", "0 closed, 1 half-open, 2 open.", ("dependency",), "state"),
    "tweetlab_breaker_opened_total": Metric("counter", "How often a breaker opened.", ("dependency",), "openings"),
    "tweetlab_retries_total": Metric("counter", "Calls that were retried.", ("dependency",), "calls"),
    "tweetlab_shed_total": Metric(
        "counter", "Requests shed because too many were in flight, or had waited too long.", ("route",), "requests"),
    "tweetlab_limit_decisions_total": Metric(
        "counter", "Decisions of the rate limits; result is admitted, refused or local (without the store).",
        ("route", "result"), "requests"),
    "tweetlab_limits_local": Metric(
        "gauge", "1 while this gateway counts limits locally: their store is unavailable.", (), "bool"),
    "tweetlab_queue_wait_seconds": Metric("histogram", "From arrival at the public load balancer to the gateway.", (), "s"),
    "tweetlab_events_left_total": Metric(
        "counter", "Events that a service did not publish itself and left to the relay.", (), "events"),
    "tweetlab_revocations_age_seconds": Metric("gauge", "Age of this gateway's view of revoked tokens.", (), "s"),
    "tweetlab_token_requests_total": Metric(
        "counter", "Responses to token requests; result is granted, refreshed, refused, reused or revoked.", ("result",),
        "requests"),
    "tweetlab_cache_requests_total": Metric(
        "counter", "Lookups in a cache; result is hit, miss or stale.", ("cache", "result"), "look-ups"),
    # -- workers
    "tweetlab_missed_total": Metric(
        "counter", "Records that were removed from Kafka before their group read them.", ("group",),
        "records", board="workers"),
    "tweetlab_consumed_total": Metric(
        "counter", "Records consumed from Kafka; result is done or dead (sent to the dead-letter topic).",
        ("group", "topic", "result"), "records", board="workers"),
    "tweetlab_consumer_lag_records": Metric(
        "gauge", "Records behind the last poll, as known to this member of the group.", ("group", "topic"), "records",
        board="workers"),
    "tweetlab_batch_seconds": Metric(
        "histogram", "Time for the records of one poll, from its return to the commit.", ("group",), "s", LONG_SECONDS,
        board="workers"),
    "tweetlab_effects_total": Metric(
        "counter", "Events by the action taken: push, pull, skip, back_fill, purge, remove, index.",
        ("group", "path"), "events", board="workers"),
    "tweetlab_effect_targets_total": Metric(
        "counter", "Timelines or documents that events changed.", ("group", "path"), "targets", board="workers"),
    "tweetlab_delivery_seconds": Metric(
        "histogram", "From assignment of a tweet's id until all followers' cached timelines contain it.", ("path",), "s",
        LONG_SECONDS, board="workers"),
    # -- search
    "tweetlab_searches_total": Metric(
        "counter", "Searches by order (relevancy, recency) and page (first, next).", ("order", "page"), "searches"),
    "tweetlab_search_hidden_total": Metric(
        "counter", "Matching tweets that were not shown: deleted in the primary store, or protected from this reader.", ("why",),
        "tweets"),
    "tweetlab_search_views_total": Metric(
        "counter", "Views of the index for paged searches; result is opened, shared or gone (a page was requested too late).",
        ("result",), "views", board="stores"),
    "tweetlab_index_documents_total": Metric(
        "counter", "Documents sent to the index; result is written, older, busy, refused or swept.", ("result",), "documents",
        board="workers"),
    "tweetlab_index_bulk_documents": Metric(
        "histogram", "Documents of one bulk.", (), "documents", (1, 2, 5, 10, 20, 50, 100, 200, 500), board="workers"),
    "tweetlab_index_age_seconds": Metric(
        "histogram", "Age of a new tweet when its document was written; it becomes visible up to a second later.", (), "s",
        LONG_SECONDS, board="workers"),
    # -- media
    "tweetlab_media_uploads_total": Metric(
        "counter", "Uploads by step: initialised, finalised, refused (the bytes did not match the declaration).", ("step",),
        "uploads"),
    "tweetlab_media_collected_total": Metric(
        "counter", "Media that were marked for removal: with their tweet, or as orphans.", ("why",), "media", board="workers"),
    # -- processes
    "tweetlab_node_expected": Metric(
        "gauge", "Processes of the lab: 1 if expected to run, 0 while one starts for the first time or was stopped on request.",
        ("node",), "processes", board="processes"),
    "tweetlab_task_restarts_total": Metric(
        "counter", "Background tasks that exited unexpectedly and were restarted.", ("task",), "restarts", board="processes"),
    "tweetlab_loop_lag_seconds": Metric(
        "histogram", "How much later than scheduled the event loop ran a timer.", (), "s", board="processes"),
    "tweetlab_process_cpu_seconds_total": Metric("counter", "CPU time of the process.", (), "s", board="processes"),
    "tweetlab_process_resident_bytes": Metric("gauge", "Resident memory of the process.", (), "bytes", board="processes"),
    "tweetlab_process_started_seconds": Metric("gauge", "Wall time when the process started.", (), "s", board="processes"),
    # -- stores, as seen by the exporter
    "tweetlab_store_up": Metric("gauge", "1 if the store answered the exporter.", ("store", "node"), "bool", board="stores"),
    "tweetlab_store_asked_seconds": Metric("gauge", "Time that the exporter's queries took.", ("store", "node"), "s",
                                           board="stores"),
    "tweetlab_store_primary": Metric(
        "gauge", "1 for the member that accepts writes, 0 for a replica.", ("store", "node"), "bool", board="copies"),
    "tweetlab_primary_changes_total": Metric(
        "counter", "How often the primary changed to another member.", ("store",), "changes", board="copies"),
    "tweetlab_copy_lag_bytes": Metric(
        "gauge", "Replication stream that a member has not applied yet, as reported by the primary.",
        ("store", "node"), "bytes", board="copies"),
    "tweetlab_copy_lag_seconds": Metric(
        "gauge", "Age of the last write that a member applied (PostgreSQL), or time since it last responded (Redis).",
        ("store", "node"), "s", board="copies"),
    "tweetlab_copies_missing": Metric(
        "gauge", "Under-replicated parts: partitions of Kafka, shards of Elasticsearch.",
        ("store", "node"), "parts", board="copies"),
    "tweetlab_zone_stores": Metric(
        "gauge", "Store members in a zone, by state: up or away; only in a lab with zones.", ("zone", "state"), "members",
        board="copies"),
    "tweetlab_wan_packets_total": Metric(
        "counter", "Packets that entered a link between regions, by fate: carried or lost (a cut link loses all).",
        ("source", "target", "fate"), "packets", board="copies"),
    "tweetlab_wan_bytes_total": Metric(
        "counter", "Bytes that a link between regions carried.", ("source", "target"), "bytes", board="copies"),
    "tweetlab_wan_delay_seconds": Metric(
        "gauge", "One-way delay of a link between regions.", ("source", "target"), "s", board="copies"),
    "tweetlab_wan_cut": Metric(
        "gauge", "1 if a link between regions is cut.", ("source", "target"), "lines", board="copies"),
    "tweetlab_region_active": Metric(
        "gauge", "1 for the active region, where most sentinels see the cache's primary; all are 0 while they disagree.",
        ("region",), "bool", board="copies"),
    "tweetlab_redis_memory_bytes": Metric("gauge", "Memory that Redis uses for data.", ("node",), "bytes", board="stores"),
    "tweetlab_redis_keys": Metric("gauge", "Keys.", ("node",), "keys", board="stores"),
    "tweetlab_redis_clients": Metric("gauge", "Connected clients.", ("node",), "clients", board="stores"),
    "tweetlab_redis_commands_total": Metric("counter", "Commands; a Lua call is one.", ("node",), "commands", board="stores"),
    "tweetlab_redis_lookups_total": Metric("counter", "Keys read; hit or miss.", ("node", "result"), "keys", board="stores"),
    "tweetlab_redis_evicted_total": Metric("counter", "Keys evicted because memory was full.", ("node",), "keys", board="stores"),
    "tweetlab_redis_cpu_seconds_total": Metric("counter", "CPU time of the server.", ("node",), "s", board="stores"),
    "tweetlab_postgres_connections": Metric("gauge", "Sessions by state.", ("node", "state"), "sessions", board="stores"),
    "tweetlab_postgres_transactions_total": Metric(
        "counter", "Transactions; commit or rollback.", ("node", "result"), "transactions", board="stores"),
    "tweetlab_postgres_blocks_total": Metric(
        "counter", "Blocks read, from cache or disk.", ("node", "source"), "blocks", board="stores"),
    "tweetlab_postgres_deadlocks_total": Metric("counter", "Deadlocks.", ("node",), "deadlocks", board="stores"),
    "tweetlab_postgres_size_bytes": Metric("gauge", "Size of the database.", ("node",), "bytes", board="stores"),
    "tweetlab_postgres_longest_transaction_seconds": Metric(
        "gauge", "Age of the oldest open transaction.", ("node",), "s", board="stores"),
    "tweetlab_cassandra_tasks": Metric(
        "gauge", "Tasks of a thread pool: active, pending, blocked.", ("node", "pool", "state"), "tasks", board="stores"),
    "tweetlab_cassandra_operations_total": Metric(
        "counter", "Coordinated operations of a table: read, write, scan.", ("node", "table", "operation"), "operations",
        board="stores"),
    "tweetlab_cassandra_p99_seconds": Metric(
        "gauge", "99th percentile as reported by Cassandra.", ("node", "table", "operation"), "s", board="stores"),
    "tweetlab_cassandra_disk_bytes": Metric("gauge", "Size of a table on disk.", ("node", "table"), "bytes", board="stores"),
    "tweetlab_cassandra_clients": Metric("gauge", "Connected clients.", ("node",), "clients", board="stores"),
    "tweetlab_kafka_records_total": Metric("counter", "Records ever appended to a topic.", ("topic",), "records", board="stores"),
    "tweetlab_group_lag_records": Metric(
        "gauge", "Records that a consumer group has not committed yet.", ("group", "topic"), "records", board="workers"),
    "tweetlab_elasticsearch_heap_bytes": Metric("gauge", "Heap in use.", ("node",), "bytes", board="stores"),
    "tweetlab_elasticsearch_documents": Metric("gauge", "Documents, without deleted ones.", ("node",), "documents",
                                               board="stores"),
    "tweetlab_elasticsearch_operations_total": Metric(
        "counter", "Operations: index, delete, query, fetch, refresh, merge.", ("node", "operation"), "operations",
        board="stores"),
    "tweetlab_elasticsearch_seconds_total": Metric(
        "counter", "Time spent in operations, summed over threads.", ("node", "operation"), "s", board="stores"),
    "tweetlab_elasticsearch_gc_seconds_total": Metric("counter", "Time in garbage collection.", ("node",), "s", board="stores"),
    "tweetlab_elasticsearch_rejected_total": Metric(
        "counter", "Tasks refused by a full thread pool.", ("node", "pool"), "tasks", board="stores"),
    "tweetlab_nginx_requests_total": Metric("counter", "Requests at the CDN edge.", ("node",), "requests", board="stores"),
    "tweetlab_nginx_connections": Metric(
        "gauge", "Connections of the CDN edge: active, reading, writing, waiting.", ("node", "state"), "connections",
        board="stores"),
}
