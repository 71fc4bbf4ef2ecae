"""Cassandra 5: tweets and their outbox, started from its jars (there is no tarball in Maven).

`commitlog_sync: batch`: a write is acknowledged after its fsync. The default (periodic) loses up to 100 ms
of acknowledged writes on SIGKILL, and the lab guarantees that acknowledged means durable.
Nodes that start together would refuse each other while bootstrapping: each gets its token in advance.
A zone is a rack: NetworkTopologyStrategy spreads the replicas of a row over all racks.
"""

from __future__ import annotations

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env, class_archive, jvm_flags

# Java 17 closes these by default; the list is Cassandra's own.
EXPORTS = """
java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch
java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server
java.sql/java.sql jdk.unsupported/sun.misc
""".split()  # noqa: SIM905
OPENS = """
java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect java.base/java.io java.base/java.net
java.base/java.nio java.base/java.util java.base/java.util.concurrent java.base/java.util.concurrent.atomic
java.base/jdk.internal.loader java.base/jdk.internal.ref java.base/jdk.internal.reflect java.base/jdk.internal.math
java.base/jdk.internal.module java.base/jdk.internal.util.jar java.base/sun.nio.ch java.base/jdk.internal.misc
java.rmi/sun.rmi.transport.tcp jdk.management/com.sun.management.internal jdk.management.agent/jdk.internal.agent
""".split()  # noqa: SIM905
MAIN = "org.apache.cassandra.service.CassandraDaemon"
LOGBACK = """<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%date{ISO8601} %-5level %logger{0} %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="OUT"/></root>
<logger name="org.apache.cassandra.config.DatabaseDescriptor" level="WARN"/>
<logger name="org.apache.cassandra.utils.FBUtilities" level="WARN"/></configuration>
"""


class Cassandra:
    """Cassandra 5.0 from Maven."""

    package = packages.CASSANDRA
    start_timeout_s = 180.0  # three in parallel with a whole cluster, on two cores: 68 s measured

    def launch(self, ctx: Context) -> Launch:
        conf, logback, rack = (ctx.config / name for name in ("cassandra.yaml", "logback.xml", "rackdc.properties"))
        archive, harvest = class_archive(ctx, packages.CASSANDRA)
        # C2 stays on. Measured on 2 busy cores, µs of CPU per insert: with C2 900 at first, 400 after 10,000,
        # below 200 after 35,000; with C1 alone 350 from the start, permanently. C1 would start with 4 s less
        # of CPU.
        flags = [
            *jvm_flags(ctx.node),
            *archive,
            *(f"--add-exports={name}=ALL-UNNAMED" for name in EXPORTS),
            *(f"--add-opens={name}=ALL-UNNAMED" for name in OPENS),
            "-XX:MaxDirectMemorySize=128m",
            "-Xss256k",
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            f"-Dcassandra.config=file://{conf}",
            f"-Dcassandra.storagedir={ctx.data}",
            f"-Dlogback.configurationFile={logback}",
            *([f"-Dcassandra-rackdc.properties=file://{rack}"] if ctx.node.zone else []),
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            f"-Dcassandra.ring_delay_ms={100 if len(ctx.blueprint.of_kind('cassandra')) == 1 else 2000}",
            "-Dcassandra.superuser_setup_delay_ms=0",
        ]
        return Launch(
            argv=(ctx.programs.java(), *flags, "-cp", ctx.programs.jars(packages.CASSANDRA), MAIN),
            env=base_env(ctx),
            files={conf: render(ctx), logback: LOGBACK, **({rack: render_rack(ctx)} if ctx.node.zone else {})},
            folders=(ctx.data,),
            cwd=ctx.data,
            harvest=harvest,
            stop_timeout_s=30.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.cassandra(ctx.address)

    def version(self) -> str:
        return packages.CASSANDRA.version


def token(instance: int, nodes: int) -> int:
    """Return the token of node `instance` (from 1) of `nodes`, spread evenly over the ring."""
    return -(2**63) + (instance - 1) * (2**64 // nodes)


def render_rack(ctx: Context) -> str:
    """Return the rackdc file of a node in a zone. The data center is the same as in a lab without zones."""
    return f"dc=datacenter1\nrack=zone-{ctx.node.zone}\n"


def render(ctx: Context) -> str:
    """Return the node's cassandra.yaml."""
    nodes = ctx.blueprint.of_kind("cassandra")
    seeds = ",".join(ctx.plan.host("cassandra", node.instance, node.region) for node in nodes[:3])
    return f"""cluster_name: tweetlab-{ctx.paths.lab_id}
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: 1
initial_token: {token(ctx.node.instance, len(nodes))}
auto_bootstrap: false
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{seeds}"}}]
listen_address: {ctx.host}
rpc_address: {ctx.host}
native_transport_port: 9042
storage_port: 7000
endpoint_snitch: {"GossipingPropertyFileSnitch" if ctx.node.zone else "SimpleSnitch"}
dynamic_snitch: false
data_file_directories: ["{ctx.data}/data"]
commitlog_directory: {ctx.data}/commitlog
saved_caches_directory: {ctx.data}/saved_caches
hints_directory: {ctx.data}/hints
cdc_raw_directory: {ctx.data}/cdc_raw
commitlog_sync: batch
commitlog_segment_size: 16MiB
commitlog_total_space: 256MiB
auto_snapshot: false
concurrent_reads: 16
concurrent_writes: 16
concurrent_counter_writes: 2
concurrent_compactors: 1
memtable_flush_writers: 1
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
networking_cache_size: 16MiB
key_cache_size: 8MiB
row_cache_size: 0MiB
counter_cache_size: 0MiB
prepared_statements_cache_size: 8MiB
native_transport_max_threads: 32
batch_size_warn_threshold: 64KiB
batch_size_fail_threshold: 1024KiB
read_request_timeout: 5s
write_request_timeout: 5s
request_timeout: 10s
"""
