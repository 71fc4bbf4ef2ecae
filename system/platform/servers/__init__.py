"""One module a server: where it is from, how it is configured, started, probed and stopped.

`SERVERS` is the table: a further kind of server is one module and one row.
"""

from __future__ import annotations

from system.platform.blueprint import SERVICE_MODULES
from system.platform.servers import cassandra, elasticsearch, haproxy, kafka, minio, postgres, redis, services
from system.platform.servers.base import Server

SERVERS: dict[str, Server] = {
    "cassandra": cassandra.Cassandra(),
    "elasticsearch": elasticsearch.Elasticsearch(),
    "haproxy": haproxy.HAProxy(),
    "kafka": kafka.Kafka(),
    "minio": minio.MinIO(),
    "postgres": postgres.Postgres(),
    "redis": redis.Redis(),
    **{kind: services.Service() for kind in SERVICE_MODULES},
}
    "limits": redis.Limits(),
