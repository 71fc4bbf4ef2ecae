"""The cache under Redis Sentinel: which server is the primary, and whether it still is.

    sentinel://h1:p,h2:p,h3:p/name?servers=h1:p,h2:p    in place of host:port

A server does not notice that it was replaced while it was frozen: when it resumes, it accepts writes until a
sentinel demotes it, and those writes are lost. So a link holds a *lease* on its primary:

- a reply counts only if the last poll in which a majority of the sentinels named this primary started less than LEASE_S ago,
  or if another such poll starts after the reply;
- a link uses a primary only if every other server is down or a replica, or LEASE_S after it first saw this primary named.

The majorities of any two polls share a sentinel, and a sentinel does not return to an older primary. So
clients of the old primary stop counting its replies before any client uses the new one: a push that counts is
in the lists that are read.

The epoch is the primary's replication id. Unlike the run id it also changes at every promotion, so a server
that lost the primary role and regained it does not treat its old lists as complete. Data without a mark (hot
tweets, like counts, changes) may lack the last writes of the old primary, including a deletion, so the first
client of a promoted primary empties it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self, cast

import hiredis

from system.kernel.errors import LabError, StoreUnavailable
from system.kernel.settings import Group, Settings
from system.stores.redis.link import Arg, Connection, Link, dial, packed

# Renewed when half of it is left; a poll takes about 1 ms, about 100 ms on two busy cores.
LEASE_S = 2.0
# Sentinels name a frozen primary until it is replaced: a longer wait for it delays finding the new one.
CONNECT_S = 1.0
ASK_TIMEOUT_S = 0.5  # longest wait for the reply of a sentinel, and of a server to ROLE
NO_REPLID = b"0" * 40  # the second replication id of a server that was never promoted


class Sentinels:
    """The sentinels of a group, polled over persistent connections."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._connections: dict[str, Connection] = {}

    async def primary(self) -> str:
        """Return the address that a majority of the sentinels names.

        Raises StoreUnavailable (definite) without a majority.

        Does not wait for slow sentinels once a majority agrees.
        """
        votes: Counter[str] = Counter()
        errors: list[str] = []
        polls = [asyncio.ensure_future(self._poll(address)) for address in self.group.sentinels]
        try:
            for poll in asyncio.as_completed(polls):
                address, error = await poll
                if error:
                    errors.append(error)
                    continue
                votes[address] += 1
                if votes[address] > len(polls) / 2:
                    return address
        finally:
            for pending in polls:
                pending.cancel()
        summary = "; ".join([f"{count} name {address}" for address, count in votes.items()] + errors)
        raise StoreUnavailable(f"No majority of the {len(polls)} sentinels of {self.group.name!r} names a primary: {summary}; "
                               "see `tweetlab status`.", definite=True)

    def close(self) -> None:
        """Close the connections. Safe to repeat."""
        for connection in self._connections.values():
            connection.drop(ConnectionResetError("closed by us"))
        self._connections.clear()

    async def _poll(self, address: str) -> tuple[str, str]:
        """Return (address of the primary that this sentinel names, ""), or ("", error)."""
        try:
            return await self._primary_of(address), ""
        except (OSError, TimeoutError, LabError, hiredis.HiredisError, TypeError) as problem:
            return "", f"{address}: {str(problem) or type(problem).__name__}"

    async def _primary_of(self, address: str) -> str:
        connection = self._connections.get(address)
        if connection is None or not connection.alive:
            connection = await dial(address, ASK_TIMEOUT_S)
            existing = self._connections.get(address)
            if existing is not None and existing.alive:  # another task was faster
                connection.drop(ConnectionResetError("closed by us"))
                connection = existing
            self._connections[address] = connection
        host, port = _checked(await connection.send(packed(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.group.name)), 1)[0])
        return f"{host.decode()}:{port.decode()}"


class SentinelLink(Link):
    """A link to the current primary. Reconnects to the new one after a failover."""

    _epoch_command = ("INFO", "replication")

    def __init__(self, settings: Settings, group: Group) -> None:
        super().__init__(settings)
        self._connect_s = min(self._timeout_s, CONNECT_S)
        self._sentinels = Sentinels(group)
        self._lease_end_s = 0.0  # monotonic: end of the lease on the connection's primary
        self._renewal: asyncio.Task[None] | None = None
        self._first_named: tuple[str, float] = ("", 0.0)  # (epoch, monotonic) of the newest primary
        self._promoted = False

    @classmethod
    async def of(cls, settings: Settings, group: Group) -> Self:
        """Connect.

        Raises StoreUnavailable (definite) if no primary answers, or if the former one may still serve others.
        """
        link = cls(settings, group)
        try:
            await link._connected()
        except BaseException:
            await link.close()
            raise
        return link

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        self._sentinels.close()
        await super().close()

    async def _call(self, *args: Arg) -> Any:
        connection = await self._connected()
        reply = await super()._call(*args)
        return reply if self._leased(connection) else await self._confirmed(connection, reply)

    async def _calls(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        connection = await self._connected()
        replies = await super()._calls(commands)
        return replies if self._leased(connection) else cast(list[Any], await self._confirmed(connection, replies))

    async def _script(self, name: str, *args: Arg) -> Any:
        connection = await self._connected()
        reply = await super()._script(name, *args)
        return reply if self._leased(connection) else await self._confirmed(connection, reply)

    def _leased(self, connection: Connection) -> bool:
        """Return whether this connection is still the current one and more than half of its lease is left."""
        return connection is self._connection and time.monotonic() < self._lease_end_s - LEASE_S / 2

    def _renewal_task(self, connection: Connection) -> asyncio.Task[None]:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._renew(connection))
        return self._renewal

    async def _renew(self, connection: Connection) -> None:
        polled_s = time.monotonic()
        try:
            primary = await self._sentinels.primary()
        except StoreUnavailable:
            return  # the lease expires
        if connection is not self._connection:
            return
        if primary == connection.address:
            self._lease_end_s = polled_s + LEASE_S
        else:
            connection.drop(ConnectionResetError(f"{primary} is the primary now"))

    async def _confirmed(self, connection: Connection, reply: Any) -> Any:
        """Return the reply if its server was certainly the primary; renew the lease.

        Raises StoreUnavailable otherwise.
        """
        replied_s = time.monotonic()
        for _ in range(2):  # a renewal that was already running may have started too early
            if connection is not self._connection:
                break
            renewal = self._renewal_task(connection)
            if replied_s <= self._lease_end_s:
                return reply
            await asyncio.wait([renewal])
        if connection is self._connection and replied_s <= self._lease_end_s:
            return reply
        connection.drop(ConnectionResetError("its lease expired"))
        raise StoreUnavailable(f"Redis at {connection.address} answered, but may no longer be the primary; "
                               "see `tweetlab status`.", definite=False)

    async def _connect(self) -> Connection:
        polled_s = time.monotonic()
        self._address = await self._sentinels.primary()
        named_s = time.monotonic()
        connection = await super()._connect()
        try:
            if connection.epoch != self._first_named[0]:
                self._first_named = (connection.epoch, named_s)
            if time.monotonic() < self._first_named[1] + LEASE_S and not await self._is_only_primary():
                raise StoreUnavailable(f"Redis at {self._address} is a new primary, and the former one may still serve others; "
                                       f"it is used in {LEASE_S:g} s.", definite=True, retry_after_s=LEASE_S)
            if self._promoted:
                await _empty_once(connection)
        except (OSError, TimeoutError, LabError, hiredis.HiredisError) as problem:
            connection.drop(problem)
            if isinstance(problem, StoreUnavailable) and problem.definite:
                raise
            raise StoreUnavailable(str(problem), definite=True) from problem  # the caller's own command was not sent
        self._lease_end_s = polled_s + LEASE_S
        return connection

    def _parse_epoch(self, info: Any) -> str:
        """Return the replication id of a primary. Raises StoreUnavailable (definite) for a replica."""
        fields = dict(line.split(b":", 1) for line in _checked(info).split(b"\r\n") if b":" in line)
        if fields[b"role"] != b"master":
            raise StoreUnavailable(f"Redis at {self._address} is a replica, though the sentinels name it; a failover is in "
                                   "progress.", definite=True)
        self._promoted = fields[b"master_replid2"] != NO_REPLID
        return str(fields[b"master_replid"].decode())

    async def _is_only_primary(self) -> bool:
        """Return whether every other server is down, or a replica that accepts no writes."""
        others = [address for address in self._sentinels.group.servers if address != self._address]
        return all(await asyncio.gather(*(_accepts_no_writes(address) for address in others)))


async def _accepts_no_writes(address: str) -> bool:
    try:
        connection = await dial(address, ASK_TIMEOUT_S)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    try:
        return bool(_checked(await connection.send(packed(("ROLE",)), 1)[0])[0] == b"slave")
    except (LabError, hiredis.HiredisError):
        return False  # no reply, or starting
    finally:
        connection.drop(ConnectionResetError("closed by us"))


async def _empty_once(connection: Connection) -> None:
    """Empty a promoted server, once per promotion.

    A loaded script records that it was done: FLUSHALL does not remove scripts, and replicas do not receive
    them. Two concurrent clients may empty it twice, which only rebuilds the cache.
    """
    done = f"return '{connection.epoch}'"
    if _checked(await connection.send(packed(("SCRIPT", "EXISTS", hashlib.sha1(done.encode()).hexdigest())), 1)[0]) == [1]:
        return
    for reply in await asyncio.gather(*connection.send(packed(("FLUSHALL", "ASYNC")) + packed(("SCRIPT", "LOAD", done)), 2)):
        _checked(reply)


def _checked(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply
