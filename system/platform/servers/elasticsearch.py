"""Elasticsearch 8: recent search. The integ-test distribution is the real server with few modules.

It has no `GET /`, no painless, no analysis-common: the index uses only the core. It refuses to run as root,
and another user cannot enter a cache below root's home: if the lab runs as root, its programs are linked into
the data directory.

In a lab with zones a shard and its replica are in two of them. A third zone only votes, since two nodes are
no quorum.
"""

from __future__ import annotations

import os
from pathlib import Path

from system.platform import health
from system.platform.blueprint import Node
from system.platform.install import packages
from system.platform.servers.base import UNVERIFIED, Context, Launch, Step, base_env, jvm_flags

VOTING_ZONE = 3  # its node votes for a master, and holds no data

LOG4J = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


class Elasticsearch:
    """Elasticsearch 8.19 from Maven."""

    package = packages.ELASTICSEARCH
    start_timeout_s = 180.0  # three in parallel with a whole cluster, on two cores: 68 s measured

    def launch(self, ctx: Context) -> Launch:
        home, before = self._home(ctx)
        temporary = ctx.paths.data_dir / ctx.node.name / "tmp"
        java_home = ctx.programs.java_home()
        # Its default touches the whole heap at start; here memory is allocated as it is used.
        tuning = ["-XX:-AlwaysPreTouch", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={temporary}", "-Xss512k"]
        options = [*jvm_flags(ctx.node), *UNVERIFIED, *tuning]
        env = {
            **base_env(ctx),
            "ES_JAVA_HOME": str(java_home),
            "ES_PATH_CONF": str(ctx.config),
            "ES_TMPDIR": str(temporary),
            # The start script is a small JVM of its own that then supervises the server.
            "CLI_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData -XX:ReservedCodeCacheSize=16m",
        }
        return Launch(
            argv=(str(home / "bin" / "elasticsearch"),),
            env=env,
            files={
                ctx.config / "elasticsearch.yml": render(ctx),
                ctx.config / "jvm.options": "\n".join(options) + "\n",
                ctx.config / "log4j2.properties": LOG4J,
            },
            folders=(ctx.data, temporary, ctx.config / "jvm.options.d"),
            before=before,
            drops_root=True,
            stop_timeout_s=15.0,
        )

    @staticmethod
    def _home(ctx: Context) -> tuple[Path, tuple[Step, ...]]:
        home = ctx.programs.home(packages.ELASTICSEARCH)
        if os.geteuid() != 0 or ctx.programs.open_to_all:
            return home, ()
        copy = ctx.paths.data_dir / ctx.node.name / "home"
        # Hard links if cache and data directory share a file system, else a copy.
        script = (
            'rm -rf "$2.part"; cp -rl "$1" "$2.part" 2>/dev/null || { rm -rf "$2.part"; cp -r "$1" "$2.part"; }; '
            'mv "$2.part" "$2"'
        )
        return copy, (Step(("/bin/sh", "-c", script, "sh", str(home), str(copy)), unless=copy, as_lab_owner=True),)

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/_cluster/health", expect=('"status":"green"', '"status":"yellow"'))

    def version(self) -> str:
        return packages.ELASTICSEARCH.version


def holds_data(node: Node) -> bool:
    """Return whether the node holds data, so that clients connect to it."""
    return node.zone != VOTING_ZONE


def _zone(node: Node) -> str:
    """Return the settings of a node in a zone, one per line; "" in a lab without zones."""
    if not node.zone:
        return ""
    roles = "master, data" if holds_data(node) else "master"
    return (f"node.roles: [{roles}]\nnode.attr.zone: zone-{node.zone}\n"
            "cluster.routing.allocation.awareness.attributes: zone\n")


def _peer(ctx: Context, node: Node) -> str:
    """Return where a node's peers reach it: on loopback, in regions too.

    A node with non-loopback peers enforces its production checks: 65,535 open files, mapped memory of 128
    GiB, no serial collector. The limits of many machines do not allow that.
    """
    return ctx.plan.loopback(node.kind, node.instance, node.region)


def render(ctx: Context) -> str:
    """Return the node's elasticsearch.yml."""
    nodes = ctx.blueprint.of_kind("elasticsearch")
    if len(nodes) == 1:
        discovery = "discovery.type: single-node"
    else:
        hosts = ", ".join(f'"{_peer(ctx, n)}:9300"' for n in nodes)
        names = ", ".join(f'"{n.name}"' for n in nodes)
        discovery = f"discovery.seed_hosts: [{hosts}]\ncluster.initial_master_nodes: [{names}]"
    return f"""cluster.name: tweetlab-{ctx.paths.lab_id}
node.name: {ctx.node.name}
path.data: {ctx.data}
path.logs: {ctx.paths.data_dir}/{ctx.node.name}/tmp
network.host: {ctx.host}
transport.host: {_peer(ctx, ctx.node)}
http.port: 9200
transport.port: 9300
{discovery}
{_zone(ctx.node)}node.processors: {ctx.node.running.processors or 2}
action.auto_create_index: "+*-logs-2*,-*"
cluster.routing.allocation.disk.threshold_enabled: false
xpack.security.enabled: false
xpack.ml.enabled: false
"""
