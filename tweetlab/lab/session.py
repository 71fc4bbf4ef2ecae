"""A lab in use: servers up, ports open, policies applied. What commands, runner and bench stand on.

`opened` uses the lab that is up if its blueprint fits, else starts one and stops it afterwards (unless told to keep it).
Nothing half-started stays behind: whatever fails on the way in is taken down again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system import bootstrap, ports
from system.kernel import dns as names
from system.kernel import policies, scopes, settings
from system.kernel.dns import Resolver
from system.kernel.errors import CouldNotRun
from system.observe import log_index
from system.platform import blueprint as blueprints
from system.platform import native
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from tweetlab import home
from tweetlab.terminal import Screen

if TYPE_CHECKING:
    import redis.asyncio

KEY, PREVIOUS_KEY = "jwt.secret", "jwt.secret.previous"  # in the lab's state folder; `keys` changes them
SECRET_BYTES = 32  # HS256 wants a key of at least 256 bits (RFC 7518, 3.2)
TOKEN_LIFE_S = 86_400
SENTINEL_S = 0.5  # longest silence of one sentinel before the next is asked


@dataclass
class Session:
    """An open lab. `started_here`: this process brought it up. `wanted`: the policies that the services are
    to run with."""

    lab: native.Lab
    settings: settings.Settings
    ports: ports.Ports
    screen: Screen
    jwt_secret: str
    started_here: bool
    names: Resolver | None = None  # of a lab in zones
    wanted: policies.Policies = field(default_factory=policies.Policies)

    @property
    def base_url(self) -> str:
        """URL of the public API, at HAProxy; in a lab in zones at one that answers now, as its DNS servers say.

        Raises CouldNotRun where none of those ever answered.
        """
        return public_url(self.lab) if self.names is None else f"http://{self.names.addresses()[0]}:8080"

    @property
    def name_servers(self) -> tuple[str, ...]:
        """The lab's DNS servers, host:port; none where it has no zones."""
        return () if self.names is None else self.names.servers

    @property
    def effects_dir(self) -> Path:
        """Folder of the workers' effect logs."""
        return self.lab.paths.effects

    def token(self, user_id: int) -> str:
        """Return a bearer token of `user_id`, as the token route would issue it."""
        from system.services.shared import signing

        now = int(time.time())
        claims = {"sub": str(user_id), "iat": now, "exp": now + TOKEN_LIFE_S, "scope": scopes.ALL, "jti": f"lab{user_id}"}
        return signing.sign(claims, self.jwt_secret)

    def redis(self) -> redis.asyncio.Redis:
        """Return a plain client of the cache (of its primary), for faults, counters and benches. The caller closes it."""
        import redis.asyncio

        group = settings.group_of(self.settings.stores.redis)
        if group is not None:
            from redis.asyncio.sentinel import Sentinel

            paths = [(host, int(port)) for host, _, port in (each.rpartition(":") for each in group.sentinels)]
            watch: Any = Sentinel
            client: redis.asyncio.Redis = watch(paths, socket_timeout=SENTINEL_S).master_for(group.name, socket_timeout=None)
            return client
        host, _, port = self.settings.stores.redis.rpartition(":")
        return redis.asyncio.Redis(host=host, port=int(port))

    async def get_json(self, path: str, headers: dict[str, str]) -> dict[str, Any]:
        """GET `path` of the public API; raises CouldNotRun unless it answers 200."""
        import aiohttp

        async with aiohttp.ClientSession() as web, web.get(self.base_url + path, headers=headers) as answer:
            if answer.status != 200:
                raise CouldNotRun(f"GET {path} answered {answer.status}: {(await answer.text())[:200]}")
            return dict(await answer.json())

    async def apply(self, wanted: policies.Policies) -> None:
        """Let the services run with these policies; restarts them only where something differs."""
        self.wanted = wanted
        path = _applied(self.lab)
        if path.exists() and path.read_text() == wanted.to_json():
            return
        path.unlink(missing_ok=True)  # a restart that fails half-way leaves nothing that looks applied
        with self.screen.step("applying the scenario's policies to the services"):
            await self.lab.restart_services({"TWEETLAB_POLICIES": wanted.to_json()})
        path.write_text(wanted.to_json())

    @contextlib.asynccontextmanager
    async def without_services(self) -> AsyncIterator[None]:
        """Stop every service and worker for the block, and start them again after it, however it ends, as
        `wanted` says.

        What a process keeps in memory ends with it. So nothing of it reaches the stores that the block
        empties, and no service has seen them half empty.
        """
        path = _applied(self.lab)
        path.unlink(missing_ok=True)
        await self.lab.stop_services()
        try:
            yield
        finally:
            await self.lab.restart_services({"TWEETLAB_POLICIES": self.wanted.to_json()})
            path.write_text(self.wanted.to_json())

    async def sample_sparsely(self) -> None:
        """Let no more requests be traced than a measured run allows (1 %); restarts the services only where they trace more."""
        path = self.lab.paths.state / "trace_ratio"
        if path.exists() and float(path.read_text()) > settings.TRACE_RATIO:
            with self.screen.step(f"tracing {settings.TRACE_RATIO:.0%} of the requests, as a measured run may at most"):
                await self.lab.restart_services({"TWEETLAB_TRACE_RATIO": str(settings.TRACE_RATIO)})
            path.write_text(str(settings.TRACE_RATIO))


def _applied(lab: native.Lab) -> Path:
    """Return the file with the policies that the services run with; absent while nobody knows."""
    return lab.paths.state / "policies.json"


def public_url(lab: native.Lab, instance: int = 1) -> str:
    """URL of the public API of `lab` at one of its balancers."""
    return f"http://{lab.address('haproxy', instance)}"


def doors_told(lab: native.Lab, blueprint: Blueprint) -> str:
    """Return where the public API is, for people: its URL, or those of all balancers and who knows which of them answer."""
    urls = ", ".join(public_url(lab, node.instance) for node in blueprint.of_kind("haproxy"))
    servers = [lab.address("pdns", node.instance) for node in blueprint.of_kind("pdns")]
    return urls + (f" ({names.API}; DNS: {', '.join(servers)})" if servers else "")


def resolver_of(lab: native.Lab, blueprint: Blueprint) -> Resolver | None:
    """Return who resolves the names of a lab in zones; None where it has none."""
    servers = [lab.address("pdns", node.instance) for node in blueprint.of_kind("pdns")]
    return Resolver(servers) if servers else None


def secret_of(lab: native.Lab) -> str:
    """Return the lab's token key; made at its first start, readable by its owner alone."""
    return _secret(lab, KEY)


def previous_secret_of(lab: native.Lab) -> str:
    """Return the token key before that one, whose tokens still hold; "" where keys were not changed."""
    path = lab.paths.state / PREVIOUS_KEY
    return path.read_text() if path.exists() else ""


def edge_secret_of(lab: native.Lab) -> str:
    """Return what the keys of the lab's CDN edge derive from; made and kept the same way."""
    return _secret(lab, "edge.secret")


def _secret(lab: native.Lab, name: str) -> str:
    path = lab.paths.state / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        scratch.touch(mode=0o600)
        scratch.write_text(secrets.token_hex(SECRET_BYTES))
        scratch.replace(path)
    return path.read_text()


async def start(lab: native.Lab, blueprint: str, screen: Screen, wanted: policies.Policies, stores_only: bool = False,
                observe: bool = False) -> None:
    """Bring `blueprint` up with schema and services, with `observe` also what looks on; tells each node's progress."""
    fresh = "service" not in await _roles(lab)
    # Services that run already go on with their policies; `Session.apply` would change them.
    env = {"TWEETLAB_JWT_SECRET": secret_of(lab), "TWEETLAB_JWT_SECRET_PREVIOUS": previous_secret_of(lab),
           "TWEETLAB_EDGE_SECRET": edge_secret_of(lab), "TWEETLAB_POLICIES": wanted.to_json(), **_switches()} if fresh else {}
    traced = "jaeger" in {node.kind for node in await lab.status()}

    async def prepare(stores: dict[str, Any]) -> None:
        told = _settings(lab, stores, wanted)
        await make_schema(told)
        if observe:
            await log_index.LogIndex(told.stores.elasticsearch_urls[0], told.namespace).prepare()

    nodes = blueprints.load(blueprint)
    if observe:
        nodes = blueprints.observed(nodes)
    await fetch_further(screen, blueprint, observe)
    try:
        await lab.up(nodes, env, prepare=prepare, stores_only=stores_only,
                     progress=lambda node, text: screen.say(f"{node:<16} {text}"))
    except BaseException:
        if not await lab.is_up():
            _applied(lab).unlink(missing_ok=True)
        raise
    if not stores_only and fresh:
        _applied(lab).write_text(wanted.to_json())
        (lab.paths.state / "trace_ratio").write_text(str(settings.from_env(env).trace_ratio))
    if observe and not fresh and not traced:  # services that ran before Jaeger did know nothing of it
        await lab.restart_services({})


def _switches() -> dict[str, str]:
    """Return what the user's own environment says about metrics and traces of the services."""
    return {name: os.environ[name] for name in ("TWEETLAB_METRICS", "TWEETLAB_TRACE_RATIO") if name in os.environ}


async def _roles(lab: native.Lab) -> set[str]:
    return {node.role for node in await lab.status()}


async def fetch_further(screen: Screen, blueprint: str, observe: bool) -> None:
    """Fetch what `blueprint` or --observe needs besides a plain set-up and is missing. Raises CouldNotRun, with the fix."""
    further = packages.FURTHER.get(blueprint, ()) + (packages.OBSERVING if observe else ())
    if any(packages.missing(package) for package in further):
        from tweetlab import setup

        await setup.servers(screen.say, further)


async def make_schema(told: settings.Settings) -> None:
    """Make keyspace, tables, topics, index and bucket of the namespace where they are absent. Safe to repeat."""
    stores = await bootstrap.open_ports(told, tuple(bootstrap.ADAPTERS))
    try:
        await asyncio.gather(*(adapter.prepare() for adapter in stores.adapters if hasattr(adapter, "prepare")))
    finally:
        await stores.close()


def _settings(lab: native.Lab, stores: dict[str, Any], wanted: policies.Policies) -> settings.Settings:
    env = {"TWEETLAB_RANGE": str(lab.plan.range), "TWEETLAB_STORES": json.dumps(stores), "TWEETLAB_POLICIES": wanted.to_json(),
           "TWEETLAB_EDGE_SECRET": edge_secret_of(lab)}
    return settings.from_env(env)


@contextlib.asynccontextmanager
async def opened(screen: Screen, blueprint: str, wanted: policies.Policies | None = None,
                 keep: bool = False, observe: bool = False, resets: bool = False) -> AsyncIterator[Session]:
    """Open the lab of this checkout and range; start it where it is down, stop it at the end if so (not with `keep`).

    `observe`: with Prometheus and the others that look on; a lab that is up gets them, and keeps them.
    `resets`: the caller resets the lab before it uses a service, and the reset applies `wanted`: no restart
    is made here.
    """
    wanted = wanted or policies.Policies()
    lab = native.Lab(home.ROOT, home.lab_range())
    was_up = await lab.is_up()
    if was_up:
        await _must_fit(lab, blueprint)
    if not was_up or (observe and "observer" not in await _roles(lab)):
        with screen.step(f"starting the lab {blueprint!r}{', observed' if observe else ''}"):
            await start(lab, blueprint, screen, wanted, observe=observe)
    try:
        standing = await lab.blueprint()
        told = _settings(lab, lab.stores(standing), wanted)
        async with contextlib.AsyncExitStack() as stack:
            stores = await bootstrap.open_ports(told, tuple(bootstrap.ADAPTERS))
            stack.push_async_callback(stores.close)
            session = Session(lab, told, stores.ports, screen, secret_of(lab), not was_up, resolver_of(lab, standing))
            session.wanted = wanted
            if not resets:
                await session.apply(wanted)
            yield session
    finally:
        if not was_up and not keep:
            with screen.step("stopping the lab"):
                await lab.down()


@contextlib.contextmanager
def alone(lab: native.Lab) -> Iterator[None]:
    """Hold the lab for one run. Raises CouldNotRun where another run holds it: two would measure each other."""
    with (lab.paths.state / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CouldNotRun(f"Another run uses the lab of range {lab.plan.range}; wait for its end, or start a lab of your "
                              "own with another TWEETLAB_RANGE.") from None
        yield


async def _must_fit(lab: native.Lab, wanted: str) -> None:
    standing = await lab.blueprint()
    if standing.name != wanted or not standing.of_role("service"):
        what = standing.name if standing.of_role("service") else f"{standing.name}, stores only"
        raise CouldNotRun(f"The lab that is up is {what!r}; this needs {wanted!r} with services. "
                          "Take it down (`tweetlab down`), or set another TWEETLAB_RANGE.")
