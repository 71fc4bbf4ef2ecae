"""One module per kind of server: its package, and how it is configured, started, probed and stopped.

`SERVERS` is the table: a further kind of server is one module and one row.
"""

from __future__ import annotations

from system.platform.blueprint import SERVICE_MODULES
from system.platform.servers import (
    alertmanager,
    cassandra,
    elasticsearch,
    etcd,
    haproxy,
    jaeger,
    kafka,
    minio,
    nginx,
    patroni,
    pdns,
    prometheus,
    redis,
    rsyslog,
    sentinel,
    services,
    wan,
)
from system.platform.servers.base import Server

SERVERS: dict[str, Server] = {
    "alertmanager": alertmanager.Alertmanager(),
    "cassandra": cassandra.Cassandra(),
    "elasticsearch": elasticsearch.Elasticsearch(),
    "etcd": etcd.Etcd(),
    "haproxy": haproxy.HAProxy(),
    "jaeger": jaeger.Jaeger(),
    "kafka": kafka.Kafka(),
    "limits": redis.Limits(),
    "minio": minio.MinIO(),
    "exporter": services.Service(),
    "nginx": nginx.Nginx(),
    "pdns": pdns.PowerDNS(),
    "postgres": patroni.Member(),
    "prometheus": prometheus.Prometheus(),
    "receiver": services.Service(),
    "redis": redis.Redis(),
    "rsyslog": rsyslog.Rsyslog(),
    "sentinel": sentinel.Sentinel(),
    "wan": wan.Wan(),
    **{kind: services.Service() for kind in SERVICE_MODULES},
}
