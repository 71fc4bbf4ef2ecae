"""Our own services: one Python process a node, told everything by its environment.

The platform knows only the module's name. It sets where a process listens and who its neighbours are;
the caller adds policies, the secret of the tokens and what else it wants.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from typing import Any

from system.kernel.settings import MESH_PORTS
from system.platform import health, paths
from system.platform.addresses import Plan
from system.platform.blueprint import STORE_KINDS, Blueprint
from system.platform.servers import elasticsearch, jaeger, minio, sentinel, wan
from system.platform.servers.base import Context, Launch, base_env
from system.platform.servers.postgres import ROLE


class Service:
    """A module of `system.services`, run with this Python."""

    package = None
    start_timeout_s = 90.0  # 22 at once beside another lab on two cores: 35 s measured

    def launch(self, ctx: Context) -> Launch:
        env = {
            **base_env(ctx),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "TWEETLAB_STORES": json.dumps(stores(ctx.blueprint, ctx.plan, ctx.node.zone)),
            "TWEETLAB_MESH": json.dumps(mesh((ctx.near("haproxy") or [ctx.plan.of("haproxy")])[0])),
            "TWEETLAB_EFFECTS": str(ctx.paths.effects),
            **media_doors(ctx),
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
            argv=(sys.executable, "-m", ctx.node.module),
            env=env,
            cwd=paths.CODE,
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/health")

    def version(self) -> str:
        return f"Python {platform.python_version()}"


def _traces(ctx: Context) -> str:
    found = [ctx.plan.host(node.kind, node.instance, node.region) for node in ctx.blueprint.of_kind("jaeger")]
    return f"http://{found[0]}:{jaeger.OTLP_PORT}" if found else ""


def stores(blueprint: Blueprint, plan: Plan, zone: int = 0) -> dict[str, Any]:
    """Return the addresses of the stores as TWEETLAB_STORES carries them; a kind that is not there is left out.

    `zone`: of who asks; its own zone's MinIO is named first, the others are spares. In regions its own Cassandra is, too: asked
    first, it saves a way there and back of those that a quorum takes.
    """
    nodes = {kind: [node for node in blueprint.of_kind(kind) if kind != "elasticsearch" or elasticsearch.holds_data(node)]
             for kind in STORE_KINDS}
    nodes["minio"].sort(key=lambda node: node.zone != zone)
    near = bool(zone and blueprint.in_regions)
    if near:
        nodes["cassandra"].sort(key=lambda node: node.zone != zone)
    at = {kind: [plan.of(kind, node.instance, node.region) for node in found] for kind, found in nodes.items() if found}
    sentinels = [plan.of(node.kind, node.instance, node.region) for node in blueprint.of_kind("sentinel")]
    shapes: dict[str, Callable[[list[str]], Any]] = {
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
    return {kind: shapes[kind](addresses) for kind, addresses in at.items()} | ({"near": True} if near else {})


def postgres_url(addresses: list[str]) -> str:
    """Return a URL without a database name; of several members it leads to the one that takes writes."""
    if len(addresses) == 1:
        return f"postgresql://{ROLE}@{addresses[0]}"
    return f"postgresql://{ROLE}@{','.join(addresses)}/?target_session_attrs=read-write"


def mesh(door: str) -> dict[str, str]:
    """Return the base URL of each service behind the HAProxy `door` (host:port)."""
    return {name: f"http://{door.rpartition(':')[0]}:{port}" for name, port in MESH_PORTS.items()}


def media_doors(ctx: Context) -> dict[str, str]:
    """Return what tells a service of several edges: its zone's is in its links, all of them forget, pages may load from all."""
    edges = [f"http://{address}" for address in ctx.near("nginx")]
    if len(edges) < 2:
        return {}
    storages = [f"http://{address}" for address in ctx.addresses("minio")]
    return {"TWEETLAB_CDN": " ".join(edges), "TWEETLAB_MEDIA_ORIGINS": " ".join((*storages, *edges))}


def members(ctx: Context) -> dict[str, str]:
    """Return what tells the exporter of a lab with zones who stands where: kind, address, name and zone of each node."""
    rows = [[node.kind, ctx.plan.of(node.kind, node.instance, node.region), node.name, node.zone]
            for node in ctx.blueprint.nodes if node.zone]
    rows += [[node.kind, str(wan.control(ctx.paths)), node.name, 0] for node in ctx.blueprint.of_role("network")]
    return {"TWEETLAB_MEMBERS": json.dumps(rows)} if rows and ctx.node.kind == "exporter" else {}
