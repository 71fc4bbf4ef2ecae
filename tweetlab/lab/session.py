"""A lab in use: servers up, ports open, policies applied. Commands, the runner and the bench build on it.

`opened` uses the running lab, which must have the requested blueprint; if none runs, it starts one and stops
it afterwards (unless `keep` is set). A start that fails is rolled back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
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
from system.platform import native, runtimes
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from tweetlab import home
from tweetlab.lab import reindex
from tweetlab.terminal import Screen

if TYPE_CHECKING:
    import redis.asyncio

KEY, PREVIOUS_KEY = "jwt.secret", "jwt.secret.previous"  # in the lab's state folder; see `tweetlab keys`
SECRET_BYTES = 32  # HS256 requires a key of at least 256 bits (RFC 7518, 3.2)
TOKEN_LIFE_S = 86_400
SENTINEL_S = 0.5  # timeout of one sentinel before the next is queried


@dataclass
class Session:
    """An open lab.

    `started_here`: this process started it. `wanted`: the policies that the services must run with.

    `names`: resolver of a lab in zones; None for a lab without zones.
    """

    lab: native.Lab
    settings: settings.Settings
    ports: ports.Ports
    screen: Screen
    jwt_secret: str
    started_here: bool
    names: Resolver | None = None
    wanted: policies.Policies = field(default_factory=policies.Policies)

    @property
    def base_url(self) -> str:
        """URL of the public API at HAProxy; in a lab in zones at a load balancer that its DNS servers report as healthy.

        Raises CouldNotRun if none of the DNS servers ever answered.
        """
        return public_url(self.lab) if self.names is None else f"http://{self.names.addresses()[0]}:8080"

    @property
    def name_servers(self) -> tuple[str, ...]:
        """The lab's DNS servers, host:port; empty for a lab without zones."""
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
        """Return a plain client of the cache's primary, for faults, counters and benchmarks.

        The caller closes it.
        """
        import redis.asyncio

        group = settings.group_of(self.settings.stores.redis)
        if group is not None:
            from redis.asyncio.sentinel import Sentinel

            paths = [(host, int(port)) for host, _, port in (address.rpartition(":") for address in group.sentinels)]
            sentinel: Any = Sentinel
            client: redis.asyncio.Redis = sentinel(paths, socket_timeout=SENTINEL_S).master_for(group.name, socket_timeout=None)
            return client
        host, _, port = self.settings.stores.redis.rpartition(":")
        return redis.asyncio.Redis(host=host, port=int(port))

    async def get_json(self, path: str, headers: dict[str, str]) -> dict[str, Any]:
        """GET `path` of the public API and return the JSON body.

        Raises CouldNotRun unless the status is 200.
        """
        import aiohttp

        async with aiohttp.ClientSession() as web, web.get(self.base_url + path, headers=headers) as reply:
            if reply.status != 200:
                raise CouldNotRun(f"GET {path} answered {reply.status}: {(await reply.text())[:200]}")
            return dict(await reply.json())

    async def apply(self, wanted: policies.Policies) -> None:
        """Make the services run with these policies; restarts them only if something differs."""
        self.wanted = wanted
        path = _applied(self.lab)
        if path.exists() and path.read_text() == wanted.to_json():
            return
        path.unlink(missing_ok=True)  # after a failed restart the policies must not look applied
        with self.screen.step("applying the scenario's policies to the services"):
            await self.lab.restart_services({"TWEETLAB_POLICIES": wanted.to_json()})
        path.write_text(wanted.to_json())

    @contextlib.asynccontextmanager
    async def without_services(self) -> AsyncIterator[None]:
        """Stop every service and worker for the block; start them with `wanted` afterwards, always.

        Nothing that a process kept in memory reaches the stores that the block empties, and no service sees
        them half empty.
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
        """Limit trace sampling to 1 %, the most in a measured run; restarts services that sample more."""
        path = self.lab.paths.state / "trace_ratio"
        if path.exists() and float(path.read_text()) > settings.TRACE_RATIO:
            with self.screen.step(f"limiting trace sampling to {settings.TRACE_RATIO:.0%}, the most that a measured run allows"):
                await self.lab.restart_services({"TWEETLAB_TRACE_RATIO": str(settings.TRACE_RATIO)})
            path.write_text(str(settings.TRACE_RATIO))


def _applied(lab: native.Lab) -> Path:
    """Return the file with the policies that the services run with; it does not exist while they are unknown."""
    return lab.paths.state / "policies.json"


def public_url(lab: native.Lab, instance: int = 1) -> str:
    """Return the URL of the public API of `lab` at one of its load balancers."""
    return f"http://{lab.address('haproxy', instance)}"


def public_addresses(lab: native.Lab, blueprint: Blueprint) -> str:
    """Return the addresses of the public API as text: one URL, or those of all load balancers, their name and DNS servers."""
    urls = ", ".join(public_url(lab, node.instance) for node in blueprint.of_kind("haproxy"))
    servers = [lab.address("pdns", node.instance) for node in blueprint.of_kind("pdns")]
    return urls + (f" ({names.API}; DNS: {', '.join(servers)})" if servers else "")


def resolver_of(lab: native.Lab, blueprint: Blueprint) -> Resolver | None:
    """Return the resolver of a lab in zones; None for a lab without zones."""
    servers = [lab.address("pdns", node.instance) for node in blueprint.of_kind("pdns")]
    return Resolver(servers) if servers else None


def secret_of(lab: native.Lab) -> str:
    """Return the key that signs tokens; created at the first start, readable by its owner only."""
    return _secret(lab, KEY)


def previous_secret_of(lab: native.Lab) -> str:
    """Return the previous token key, whose tokens are still valid; "" if keys were never rotated."""
    path = lab.paths.state / PREVIOUS_KEY
    return path.read_text() if path.exists() else ""


def edge_secret_of(lab: native.Lab) -> str:
    """Return the secret from which the keys of the CDN edge derive; created and stored the same way."""
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
                observe: bool = False, provider: str | None = None) -> None:
    """Start `blueprint` with schema and services, and show each node's progress.

    `observe`: also start the observability stack. `stores_only`: start no services. `provider`: None for that
    of the running lab or of its data, else native. Raises CouldNotRun for the observability stack on Docker.
    """
    if observe and (provider or lab.provider) == runtimes.DOCKER:
        raise CouldNotRun("--observe needs a native lab. To observe a lab in containers use docker compose: "
                          "docker compose --profile small --profile observability up")
    fresh = "service" not in await _roles(lab)
    # Services that already run keep their policies; `Session.apply` changes them.
    env = {"TWEETLAB_JWT_SECRET": secret_of(lab), "TWEETLAB_JWT_SECRET_PREVIOUS": previous_secret_of(lab),
           "TWEETLAB_EDGE_SECRET": edge_secret_of(lab), "TWEETLAB_POLICIES": wanted.to_json(), **_switches()} if fresh else {}
    traced = "jaeger" in {node.kind for node in await lab.status()}

    async def prepare(stores: dict[str, Any]) -> None:
        lab_settings = _settings(lab, stores, wanted)
        await make_schema(lab_settings, screen.say)
        if observe:
            await log_index.LogIndex(lab_settings.stores.elasticsearch_urls[0], lab_settings.namespace).prepare()

    nodes = blueprints.load(blueprint)
    if observe:
        nodes = blueprints.with_observers(nodes)
    await install_extras(screen, blueprint, observe)
    try:
        await lab.up(nodes, env, prepare=prepare, stores_only=stores_only, provider=provider,
                     progress=lambda node, text: screen.say(f"{node:<16} {text}"))
    except BaseException:
        if not await lab.is_up():
            _applied(lab).unlink(missing_ok=True)
        raise
    if not stores_only and fresh:
        _applied(lab).write_text(wanted.to_json())
        (lab.paths.state / "trace_ratio").write_text(str(settings.from_env(env).trace_ratio))
    if observe and not fresh and not traced:  # services that started before Jaeger do not export to it
        await lab.restart_services({})


def _switches() -> dict[str, str]:
    """Return the settings of metrics and trace sampling from the user's environment."""
    return {name: os.environ[name] for name in ("TWEETLAB_METRICS", "TWEETLAB_TRACE_RATIO") if name in os.environ}


async def _roles(lab: native.Lab) -> set[str]:
    return {node.role for node in await lab.status()}


async def install_extras(screen: Screen, blueprint: str, observe: bool) -> None:
    """Install missing packages that only `blueprint` or --observe needs.

    Raises CouldNotRun that names the fix.
    """
    extras = packages.BY_BLUEPRINT.get(blueprint, ()) + (packages.OBSERVABILITY if observe else ())
    if any(packages.missing(package) for package in extras):
        from tweetlab import setup

        await setup.servers(screen.say, extras)


async def make_schema(lab_settings: settings.Settings, say: Callable[[str], None]) -> None:
    """Create keyspace, tables, topics, index and bucket of the namespace if they do not exist. Idempotent.

    An index of another version is rebuilt; `say` shows it.
    """
    await bootstrap.make_schema(lab_settings)
    stores = await bootstrap.open_ports(lab_settings, tuple(bootstrap.ADAPTERS))
    try:
        await reindex.rebuild(stores.ports, say)
    finally:
        await stores.close()


def _settings(lab: native.Lab, stores: dict[str, Any], wanted: policies.Policies) -> settings.Settings:
    env = {"TWEETLAB_RANGE": str(lab.plan.range), "TWEETLAB_STORES": json.dumps(stores), "TWEETLAB_POLICIES": wanted.to_json(),
           "TWEETLAB_EDGE_SECRET": edge_secret_of(lab), "TWEETLAB_CDN": f"http://{lab.plan.of('nginx')}"}
    return settings.from_env(env)


@contextlib.asynccontextmanager
async def opened(screen: Screen, blueprint: str, wanted: policies.Policies | None = None,
                 keep: bool = False, observe: bool = False, resets: bool = False) -> AsyncIterator[Session]:
    """Open the lab of this checkout and of TWEETLAB_RANGE.

    If it is down, start it, and stop it at the end unless `keep` is set.

    `observe`: with the observability stack; it is added to a running lab and stays there. `resets`: the
    caller resets the lab before it uses a service; the reset applies `wanted`, so services are not restarted
    here.
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
        running = await lab.blueprint()
        lab_settings = _settings(lab, lab.stores(running), wanted)
        async with contextlib.AsyncExitStack() as stack:
            stores = await bootstrap.open_ports(lab_settings, tuple(bootstrap.ADAPTERS))
            stack.push_async_callback(stores.close)
            session = Session(lab, lab_settings, stores.ports, screen, secret_of(lab), not was_up,
                              resolver_of(lab, running))
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
    """Lock the lab for one run.

    Raises CouldNotRun if another run holds it: two would disturb each other's measurement.
    """
    with (lab.paths.state / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CouldNotRun(f"Another run uses the lab of range {lab.plan.range}. To fix: wait until it ends, or start a "
                              "second lab with another TWEETLAB_RANGE.") from None
        yield


async def _must_fit(lab: native.Lab, wanted: str) -> None:
    running = await lab.blueprint()
    if running.name != wanted or not running.of_role("service"):
        what = running.name if running.of_role("service") else f"{running.name}, stores only"
        raise CouldNotRun(f"The running lab is {what!r}; this needs {wanted!r} with services. "
                          "To fix: stop it (`tweetlab down`), or set another TWEETLAB_RANGE.")
