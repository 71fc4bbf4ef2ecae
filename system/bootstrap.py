"""Opens the ports of a service. This is the only place that selects the adapters for real stores.

A service gets the ports that it lists in NEEDS. Adapters are imported only when they are opened, so a process
loads no driver that it does not use. Tests build the same services on `Ports` with in-memory adapters.

    python -m system.bootstrap      creates database and schema: the one-shot service `prepare` of docker-compose.yml
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from system.kernel import settings as config
from system.kernel.errors import CouldNotRun, LabError, StoreUnavailable, Unavailable
from system.kernel.settings import Settings
from system.kernel.telemetry import tracing
from system.platform import health
from system.platform.servers import postgres
from system.ports import Ports

OPEN_FOR_S = 60.0   # seconds for which a store may be unavailable while a lab starts
PAUSE_S = 0.25      # seconds between two attempts
LATER_PAUSE_S = 2.0  # the same in the background, for as long as the process runs

_log = logging.getLogger("tweetlab")


class Absent:
    """Placeholder for a port that a service did not request. Any use raises CouldNotRun."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise CouldNotRun(f"This service uses {self._name}.{attribute}, but does not name {self._name!r} in NEEDS; add it there.")


class Later:
    """A port that is opened in the background, so that its service starts without it.

    Until its store answers, every call raises StoreUnavailable (definite).
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._name, self._settings = name, settings
        self._adapter: Any = None
        self._port: Any = None
        self._opening = asyncio.ensure_future(self._open())

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            if self._port is None:
                raise StoreUnavailable(f"{self._name!r} is not connected yet; nothing was done.", definite=True)
            return await getattr(self._port, method)(*args, **more)

        return call

    async def ready(self) -> None:
        """Return at once: the service does not wait for this port."""

    async def close(self) -> None:
        """Stop opening, or close what was opened. Safe to repeat."""
        self._opening.cancel()
        await asyncio.gather(self._opening, return_exceptions=True)
        if self._adapter is not None:
            await self._adapter.close()

    async def _open(self) -> None:
        try:
            self._adapter = await _open(self._name, self._settings, math.inf, LATER_PAUSE_S)
            if hasattr(self._adapter, "ready"):
                await _retried(self._adapter.ready, self._name, math.inf, LATER_PAUSE_S)
            self._port = tracing.traced(self._adapter, dependency_of(self._adapter))
        except Exception:
            _log.exception("%s cannot be opened; its calls will be refused until this process restarts", self._name)
            raise


async def _tweets(settings: Settings) -> Any:
    from system.stores.cassandra.tweets import CassandraTweets

    return await CassandraTweets.open(settings)


async def _timelines(settings: Settings) -> Any:
    from system.stores.redis.timelines import RedisTimelines

    return await RedisTimelines.open(settings)


async def _hot(settings: Settings) -> Any:
    from system.stores.redis.tweets import RedisTweets

    return await RedisTweets.open(settings)


async def _users(settings: Settings) -> Any:
    from system.stores.postgres.users import PostgresUsers

    return await PostgresUsers.open(settings)


async def _likes(settings: Settings) -> Any:
    from system.stores.postgres.likes import PostgresLikes

    return await PostgresLikes.open(settings)


async def _like_counts(settings: Settings) -> Any:
    from system.stores.redis.likes import RedisLikes

    return await RedisLikes.open(settings)


async def _leases(settings: Settings) -> Any:
    from system.stores.postgres.leases import PostgresLeases

    return await PostgresLeases.open(settings)


async def _keys(settings: Settings) -> Any:
    from system.stores.postgres.keys import PostgresKeys

    return await PostgresKeys.open(settings)


async def _log_(settings: Settings) -> Any:
    from system.stores.kafka.log import KafkaLog

    return await KafkaLog.open(settings)


async def _index(settings: Settings) -> Any:
    from system.stores.elasticsearch.index import ElasticIndex

    return await ElasticIndex.open(settings)


async def _blobs(settings: Settings) -> Any:
    from system.stores.s3.blobs import MinioBlobs

    return await MinioBlobs.open(settings)


async def _limits(settings: Settings) -> Any:
    from system.stores.redis.limits import RedisLimits

    return await RedisLimits.open(settings)


async def _tokens(settings: Settings) -> Any:
    from system.stores.postgres.tokens import PostgresTokens

    return await PostgresTokens.open(settings)


async def _media(settings: Settings) -> Any:
    from system.stores.postgres.media import PostgresMedia

    return await PostgresMedia.open(settings)


async def _edge(settings: Settings) -> Any:
    from system.stores.nginx_edge import NginxEdge

    return await NginxEdge.open(settings)


ADAPTERS: dict[str, Callable[[Settings], Awaitable[Any]]] = {
    "blobs": _blobs, "edge": _edge, "hot": _hot, "index": _index, "keys": _keys, "leases": _leases, "like_counts": _like_counts,
    "likes": _likes, "limits": _limits, "log": _log_, "media": _media, "timelines": _timelines, "tokens": _tokens,
    "tweets": _tweets, "users": _users,
}


@dataclass
class Opened:
    """Open ports with their adapters, which `close` closes."""

    ports: Ports
    adapters: list[Any]

    async def ready(self, patience_s: float = OPEN_FOR_S) -> None:
        """Wait until every store answers and its tables, topics, index or bucket exist.

        Raises the error of the last attempt.
        """
        checks = [adapter.ready for adapter in self.adapters if hasattr(adapter, "ready")]
        await asyncio.gather(*(_retried(check, type(check.__self__).__name__, patience_s) for check in checks))

    async def close(self) -> None:
        """Close all adapters, the last opened first. Safe to repeat."""
        for adapter in reversed(self.adapters):
            await adapter.close()
        self.adapters.clear()


async def open_ports(
    settings: Settings, needs: Sequence[str], patience_s: float = OPEN_FOR_S, later: Sequence[str] = ()
) -> Opened:
    """Open the ports named in `needs` concurrently; those named in `later` open in the background (`Later`).

    Retry a store that is not up yet for `patience_s` seconds.

    Raises the error of the last attempt, after closing the adapters that were opened.
    """
    results = await asyncio.gather(*(_open(name, settings, patience_s) for name in needs), return_exceptions=True)
    adapters = [adapter for adapter in results if not isinstance(adapter, BaseException)]
    errors = [error for error in results if isinstance(error, BaseException)]
    if errors:
        await Opened(ports_of({}), adapters).close()
        raise errors[0]
    ports = {name: tracing.traced(adapter, dependency_of(adapter)) for name, adapter in zip(needs, adapters)}
    waiting = {name: Later(name, settings) for name in later}
    return Opened(ports_of(ports | waiting), [*adapters, *waiting.values()])


def dependency_of(adapter: Any) -> str:
    """Return the server behind an adapter for spans: its package below `system.stores`."""
    package = type(adapter).__module__.removeprefix("system.stores.").partition(".")[0]
    return {"s3": "minio", "nginx_edge": "nginx"}.get(package, package)


def ports_of(adapters: dict[str, Any]) -> Ports:
    """Return `Ports` of the given adapters; the others raise CouldNotRun when used."""
    return Ports(**{field.name: adapters.get(field.name, Absent(field.name)) for field in fields(Ports)})


async def _open(name: str, settings: Settings, patience_s: float, pause_s: float = PAUSE_S) -> Any:
    return await _retried(lambda: ADAPTERS[name](settings), name, patience_s, pause_s)


async def _retried(work: Callable[[], Awaitable[Any]], name: str, patience_s: float, pause_s: float = PAUSE_S) -> Any:
    deadline_s = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            return await work()
        except Unavailable as problem:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            _log.info("%s is not ready yet: %s", name, problem)
        await asyncio.sleep(pause_s)


async def make_schema(settings: Settings) -> None:
    """Create keyspace, tables, topics, index and bucket of the namespace if they do not exist. Idempotent."""
    stores = await open_ports(settings, tuple(ADAPTERS))
    try:
        await asyncio.gather(*(adapter.prepare() for adapter in stores.adapters if hasattr(adapter, "prepare")))
    finally:
        await stores.close()


async def make_database(members: Sequence[str], name: str) -> None:
    """Create the database `name` at the primary among `members` (host:port) if it does not exist.

    Raises CouldNotRun if PostgreSQL refuses.
    """
    statement = f"CREATE DATABASE {name}"
    try:
        primary = await health.postgres_primary(members, postgres.ROLE, "postgres")
        await health.postgres_execute(primary, postgres.ROLE, "postgres", statement)
    except health.Unhealthy as problem:
        if "already exists" not in str(problem):
            raise CouldNotRun(f"PostgreSQL refused `{statement}`: {problem}") from None


async def _prepare() -> None:
    settings = config.from_env()
    members = settings.stores.postgres_url.rpartition("@")[2].partition("/")[0].split(",")
    await make_database(members, config.DEFAULT_NAMESPACE)
    await make_schema(settings)


def main() -> int:
    """Create database and schema in the stores that the environment names. Exit: 0, or the code of the error."""
    try:
        asyncio.run(_prepare())
    except LabError as problem:
        print(problem.detail, file=sys.stderr)
        return problem.exit_code
    print("database, keyspace, topics, index and bucket exist")
    return 0


if __name__ == "__main__":
    sys.exit(main())
