"""Kafka in KRaft mode: broker and controller in one process per node.

A zone is a rack: the replicas of a partition are spread over the zones.
Topics are created before use (`auto.create.topics.enable=false`): the first produce to a new topic would
fail with NotLeader, and a misspelled topic would be created.
"""

from __future__ import annotations

import base64
import hashlib

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import UNVERIFIED, Context, Launch, Step, base_env, class_archive, jvm_flags

CONTROLLER_PORT = 9093

LOG4J = """<Configuration status="WARN" shutdownHook="disable"><Appenders><Console name="out">
<PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="out"/></Root>
<Logger name="org.apache.kafka.common.config.AbstractConfig" level="WARN"/>
<Logger name="state.change.logger" level="WARN"/></Loggers></Configuration>
"""


class Kafka:
    """Kafka 4.1 from Maven."""

    package = packages.KAFKA
    start_timeout_s = 120.0  # three in parallel with a whole cluster, on two cores: 22 s measured

    def launch(self, ctx: Context) -> Launch:
        conf, log4j = ctx.config / "server.properties", ctx.config / "log4j2.xml"
        common = ["-cp", ctx.programs.jars(packages.KAFKA), f"-Dlog4j2.configurationFile={log4j}"]
        java = ctx.programs.java()
        archive, harvest = class_archive(ctx, packages.KAFKA)
        # C1 only: half the CPU of a start, and one broker handles far more than the lab needs (servers'
        # table).
        tuning = ["-XX:TieredStopAtLevel=1", "-XX:MaxDirectMemorySize=64m", "-Xss512k"]
        flags = [*jvm_flags(ctx.node), *archive, *UNVERIFIED, *tuning]
        script = 'rm -rf "$LOGS" && "$@" && touch "$LOGS/formatted"'
        form = (java, *UNVERIFIED, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", *common, "kafka.tools.StorageTool")
        form += ("format", "--ignore-formatted", "-t", cluster_id(ctx), "-c", str(conf))
        env = base_env(ctx)
        return Launch(
            argv=(java, *flags, *common, "kafka.Kafka", str(conf)),
            env=env,
            files={conf: render(ctx), log4j: LOG4J},
            before=(Step(("/bin/sh", "-c", script, "sh", *form), ctx.data / "formatted", {**env, "LOGS": str(ctx.data)}),),
            harvest=harvest,
            stop_timeout_s=20.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.kafka(ctx.address, ctx.node.instance)

    def version(self) -> str:
        return packages.KAFKA.version


def cluster_id(ctx: Context) -> str:
    """Return the cluster's id, the same for all brokers of a lab: 16 bytes in URL-safe base64."""
    digest = hashlib.sha256(ctx.paths.lab_id.encode()).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=").replace("-", "A")


def render(ctx: Context) -> str:
    """Return the node's server.properties."""
    nodes = ctx.blueprint.of_kind("kafka")
    hosts = {node.instance: ctx.plan.host("kafka", node.instance, node.region) for node in nodes}
    voters = ",".join(f"{number}@{host}:{CONTROLLER_PORT}" for number, host in hosts.items())
    copies = min(3, len(nodes))
    return f"""process.roles=broker,controller
node.id={ctx.node.instance}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{ctx.address},CONTROLLER://{ctx.host}:{CONTROLLER_PORT}
advertised.listeners=PLAINTEXT://{ctx.address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={ctx.data}
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={max(1, copies - 1)}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={max(1, copies - 1)}
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={max(1, copies - 1)}
group.min.session.timeout.ms=2000
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
num.replica.fetchers=1
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
metadata.max.idle.interval.ms=5000
controlled.shutdown.enable={"true" if copies > 1 else "false"}
{f"broker.rack=zone-{ctx.node.zone}" if ctx.node.zone else ""}"""
