"""Our own services: one Python process per node, configured by its environment alone.

The platform knows only the module's name. It sets where a process listens and the addresses of its
dependencies; the caller adds policies, the token secret and anything else.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from typing import Any

from system.kernel.settings import MESH_PORTS
from system.platform import health
from system.platform.addresses import Plan
from system.platform.blueprint import STORE_KINDS, Blueprint
from system.platform.servers import elasticsearch, jaeger, minio, sentinel, wan
from system.platform.servers.base import Context, Launch, base_env
from system.platform.servers.postgres import ROLE


class Service:
    """A module of `system.services`, run with this Python."""

    package = None
    start_timeout_s = 90.0  # 22 in parallel, next to another lab on two cores: 35 s measured

    def launch(self, ctx: Context) -> Launch:
        env = {
            **base_env(ctx),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "TWEETLAB_STORES": json.dumps(stores(ctx.blueprint, ctx.plan, ctx.node.zone)),
            "TWEETLAB_MESH": json.dumps(mesh((ctx.near("haproxy") or [ctx.plan.of("haproxy")])[0])),
            "TWEETLAB_EFFECTS": str(ctx.paths.effects),
            **media_origins(ctx),
            **members(ctx),
            **({"TWEETLAB_EXPECTED": str(ctx.paths.expected)} if ctx.node.kind == "exporter" else {}),
            **ctx.env,
            "TWEETLAB_RANGE": str(ctx.plan.range),
            "TWEETLAB_LISTEN": ctx.address,
            "TWEETLAB_INSTANCE": ctx.node.name,
            "TWEETLAB_DATA": str(ctx.data),
            "TWEETLAB_OTLP": _traces(ctx),
        }
        return Launch(
            argv=(ctx.programs.python(), "-m", ctx.node.module),
            env=env,
            cwd=ctx.programs.code(),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/health")

    def version(self) -> str:
        return f"Python {platform.python_version()}"


def _traces(ctx: Context) -> str:
    hosts = [ctx.plan.host(node.kind, node.instance, node.region) for node in ctx.blueprint.of_kind("jaeger")]
    return f"http://{hosts[0]}:{jaeger.OTLP_PORT}" if hosts else ""


def stores(blueprint: Blueprint, plan: Plan, zone: int = 0) -> dict[str, Any]:
    """Return the addresses of the stores in the format of TWEETLAB_STORES; kinds that the blueprint lacks are
    left out.

    `zone`: of the client; the MinIO of its zone comes first, the others are spares. In regions its own
    Cassandra comes first too: as coordinator it saves one of the round trips of a quorum.
    """
    nodes = {kind: [node for node in blueprint.of_kind(kind) if kind != "elasticsearch" or elasticsearch.holds_data(node)]
             for kind in STORE_KINDS}
    nodes["minio"].sort(key=lambda node: node.zone != zone)
    near = bool(zone and blueprint.in_regions)
    if near:
        nodes["cassandra"].sort(key=lambda node: node.zone != zone)
    by_kind = {kind: [plan.of(kind, node.instance, node.region) for node in members]
               for kind, members in nodes.items() if members}
    sentinels = [plan.of(node.kind, node.instance, node.region) for node in blueprint.of_kind("sentinel")]
    formats: dict[str, Callable[[list[str]], Any]] = {
        "cassandra": list,
        "kafka": list,
        "redis": lambda addresses: sentinel.url(sentinels, addresses) if sentinels else addresses[0],
        "limits": lambda addresses: addresses[0],
        "postgres": postgres_url,
        "minio": lambda addresses: {
            "endpoint": addresses[0], "access_key": minio.ACCESS_KEY, "secret_key": minio.SECRET_KEY,
            **({"spares": addresses[1:]} if len(addresses) > 1 else {}),
        },
        "elasticsearch": lambda addresses: [f"http://{address}" for address in addresses],
    }
    return {kind: formats[kind](addresses) for kind, addresses in by_kind.items()} | ({"near": True} if near else {})


def postgres_url(addresses: list[str]) -> str:
    """Return a URL without a database name; with several members it selects the one that takes writes."""
    if len(addresses) == 1:
        return f"postgresql://{ROLE}@{addresses[0]}"
    return f"postgresql://{ROLE}@{','.join(addresses)}/?target_session_attrs=read-write"


def mesh(balancer: str) -> dict[str, str]:
    """Return the base URL of each service behind the HAProxy `balancer` (host:port)."""
    return {name: f"http://{balancer.rpartition(':')[0]}:{port}" for name, port in MESH_PORTS.items()}


def media_origins(ctx: Context) -> dict[str, str]:
    """Return the environment that lists several edges, the zone's own first; {} with fewer than two.

    Links use the first, a purge goes to all of them, and pages may load from all.
    """
    edges = [f"http://{address}" for address in ctx.near("nginx")]
    if len(edges) < 2:
        return {}
    storages = [f"http://{address}" for address in ctx.addresses("minio")]
    return {"TWEETLAB_CDN": " ".join(edges), "TWEETLAB_MEDIA_ORIGINS": " ".join((*storages, *edges))}


def members(ctx: Context) -> dict[str, str]:
    """Return the exporter's list of nodes in a lab with zones: kind, address, name and zone of each node."""
    rows = [[node.kind, ctx.plan.of(node.kind, node.instance, node.region), node.name, node.zone]
            for node in ctx.blueprint.nodes if node.zone]
    rows += [[node.kind, str(wan.control(ctx.paths)), node.name, 0] for node in ctx.blueprint.of_role("network")]
    return {"TWEETLAB_MEMBERS": json.dumps(rows)} if rows and ctx.node.kind == "exporter" else {}
