"""The cache under sentinels: which server is the primary, and is it still.

    sentinel://h1:p,h2:p,h3:p/name?servers=h1:p,h2:p    in place of host:port

No server notices that it was replaced while it was frozen: when it wakes it takes writes again until a sentinel demotes it,
and what it takes is lost. So a link holds a *lease* on its primary:

- a reply counts only while the last round of questions in which more than half of the sentinels named this primary began less
  than LEASE_S ago, or if another such round begins after the reply;
- a link uses a primary only when every other server is gone or a replica, or LEASE_S after it first saw it named.

Any two rounds share a sentinel, and a sentinel does not go back to an older primary. So whoever still counts replies of the
old primary has stopped before anybody builds on the new one: a push that counts is in the lists that are read.

The epoch is the primary's replication id: unlike the run id it changes at every promotion too, so a server that was primary,
lost it and got it back does not take its old lists for whole. What carries no mark (hot tweets, counts of likes, news) may
lack the last writes of the old primary, a deletion among them: whoever comes first to a promoted primary empties it.
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
from system.stores.redis.link import Arg, Link, Wire, dial, packed

LEASE_S = 2.0        # half of it is left when it is renewed; a round takes about 1 ms, some 100 ms on two busy cores
CONNECT_S = 1.0      # a frozen primary is named until it is replaced: who waits for it longer finds the new one later
ASK_TIMEOUT_S = 0.5  # silence of a sentinel, and of a server that is asked for its role
NOBODY = b"0" * 40   # the second replication id of a server that was never promoted


class Sentinels:
    """The sentinels of a group, asked over connections that stay."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._wires: dict[str, Wire] = {}

    async def primary(self) -> str:
        """Return the address that more than half of the sentinels name. Raises StoreUnavailable (definite) without such a one.

        Does not wait for those that are slow once the others agree.
        """
        named: Counter[str] = Counter()
        trouble: list[str] = []
        asked = [asyncio.ensure_future(self._asked(address)) for address in self.group.sentinels]
        try:
            for answer in asyncio.as_completed(asked):
                address, why_not = await answer
                if why_not:
                    trouble.append(why_not)
                    continue
                named[address] += 1
                if named[address] > len(asked) / 2:
                    return address
        finally:
            for each in asked:
                each.cancel()
        told = "; ".join([f"{count} name {address}" for address, count in named.items()] + trouble)
        raise StoreUnavailable(f"No majority of the {len(asked)} sentinels of {self.group.name!r} names a primary: {told}; see "
                               "`tweetlab status`.", definite=True)

    def close(self) -> None:
        """Close the connections. Safe to repeat."""
        for wire in self._wires.values():
            wire.drop(ConnectionResetError("closed by us"))
        self._wires.clear()

    async def _asked(self, address: str) -> tuple[str, str]:
        """Return (whom the sentinel names, ""), or ("", why it names nobody)."""
        try:
            return await self._named_by(address), ""
        except (OSError, TimeoutError, LabError, hiredis.HiredisError, TypeError) as problem:
            return "", f"{address}: {str(problem) or type(problem).__name__}"

    async def _named_by(self, address: str) -> str:
        wire = self._wires.get(address)
        if wire is None or not wire.alive:
            wire = await dial(address, ASK_TIMEOUT_S)
            spare = self._wires.get(address)
            if spare is not None and spare.alive:  # another task was quicker
                wire.drop(ConnectionResetError("closed by us"))
                wire = spare
            self._wires[address] = wire
        host, port = _answer(await wire.send(packed(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.group.name)), 1)[0])
        return f"{host.decode()}:{port.decode()}"


class SentinelLink(Link):
    """A link to whichever server is the primary. Connects again, to another one, after a failover."""

    _asks = ("INFO", "replication")

    def __init__(self, settings: Settings, group: Group) -> None:
        super().__init__(settings)
        self._connect_s = min(self._timeout_s, CONNECT_S)
        self._sentinels = Sentinels(group)
        self._until_s = 0.0  # monotonic: end of the lease on the wire's primary
        self._renewal: asyncio.Task[None] | None = None
        self._first_seen: tuple[str, float] = ("", 0.0)  # (epoch, monotonic) of the newest primary
        self._promoted = False

    @classmethod
    async def of(cls, settings: Settings, group: Group) -> Self:
        """Connect. Raises StoreUnavailable (definite) where no primary answers, or the former one may still serve others."""
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
        wire = await self._connected()
        reply = await super()._call(*args)
        return reply if self._leased(wire) else await self._vouched(wire, reply)

    async def _calls(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        wire = await self._connected()
        replies = await super()._calls(commands)
        return replies if self._leased(wire) else cast(list[Any], await self._vouched(wire, replies))

    async def _script(self, name: str, *args: Arg) -> Any:
        wire = await self._connected()
        reply = await super()._script(name, *args)
        return reply if self._leased(wire) else await self._vouched(wire, reply)

    def _leased(self, wire: Wire) -> bool:
        """Say whether the wire was used throughout and more than half of its lease is left."""
        return wire is self._wire and time.monotonic() < self._until_s - LEASE_S / 2

    def _renewing(self, wire: Wire) -> asyncio.Task[None]:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.get_running_loop().create_task(self._renew(wire))
        return self._renewal

    async def _renew(self, wire: Wire) -> None:
        asked_s = time.monotonic()
        try:
            primary = await self._sentinels.primary()
        except StoreUnavailable:
            return  # the lease runs out
        if wire is not self._wire:
            return
        if primary == wire.address:
            self._until_s = asked_s + LEASE_S
        else:
            wire.drop(ConnectionResetError(f"{primary} is the primary now"))

    async def _vouched(self, wire: Wire, reply: Any) -> Any:
        """Return the reply if its server was the primary for certain; see to the lease. Raises StoreUnavailable otherwise."""
        replied_s = time.monotonic()
        for _ in range(2):  # a renewal that was under way may have started too early
            if wire is not self._wire:
                break
            renewal = self._renewing(wire)
            if replied_s <= self._until_s:
                return reply
            await asyncio.wait([renewal])
        if wire is self._wire and replied_s <= self._until_s:
            return reply
        wire.drop(ConnectionResetError("its lease ran out"))
        raise StoreUnavailable(f"Redis at {wire.address} answered, but may not be the primary any more; see `tweetlab status`.",
                               definite=False)

    async def _connect(self) -> Wire:
        asked_s = time.monotonic()
        self._address = await self._sentinels.primary()
        named_s = time.monotonic()
        wire = await super()._connect()
        try:
            if wire.epoch != self._first_seen[0]:
                self._first_seen = (wire.epoch, named_s)
            if time.monotonic() < self._first_seen[1] + LEASE_S and not await self._is_alone():
                raise StoreUnavailable(f"Redis at {self._address} is a new primary, and the former one may still serve others; "
                                       f"it is used in {LEASE_S:g} s.", definite=True, retry_after_s=LEASE_S)
            if self._promoted:
                await _emptied(wire)
        except (OSError, TimeoutError, LabError, hiredis.HiredisError) as problem:
            wire.drop(problem)
            if isinstance(problem, StoreUnavailable) and problem.definite:
                raise
            raise StoreUnavailable(str(problem), definite=True) from problem  # the caller's own command was not sent
        self._until_s = asked_s + LEASE_S
        return wire

    def _told(self, info: Any) -> str:
        """Return the replication id of a primary. Raises StoreUnavailable (definite) for a replica."""
        facts = dict(line.split(b":", 1) for line in _answer(info).split(b"\r\n") if b":" in line)
        if facts[b"role"] != b"master":
            raise StoreUnavailable(f"Redis at {self._address} is a replica, though the sentinels name it; a failover is under "
                                   "way.", definite=True)
        self._promoted = facts[b"master_replid2"] != NOBODY
        return str(facts[b"master_replid"].decode())

    async def _is_alone(self) -> bool:
        """Say whether every other server is gone, or a replica that takes no writes."""
        others = [address for address in self._sentinels.group.servers if address != self._address]
        return all(await asyncio.gather(*(_takes_no_writes(address) for address in others)))


async def _takes_no_writes(address: str) -> bool:
    try:
        wire = await dial(address, ASK_TIMEOUT_S)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    try:
        return bool(_answer(await wire.send(packed(("ROLE",)), 1)[0])[0] == b"slave")
    except (LabError, hiredis.HiredisError):
        return False  # silent or starting
    finally:
        wire.drop(ConnectionResetError("closed by us"))


async def _emptied(wire: Wire) -> None:
    """Empty a server that was promoted, once in its reign.

    That it was done stands among its scripts, which neither FLUSHALL takes away nor a replica gets. Two at once do it twice:
    a cache that is lost is only built again.
    """
    done = f"return '{wire.epoch}'"
    if _answer(await wire.send(packed(("SCRIPT", "EXISTS", hashlib.sha1(done.encode()).hexdigest())), 1)[0]) == [1]:
        return
    for reply in await asyncio.gather(*wire.send(packed(("FLUSHALL", "ASYNC")) + packed(("SCRIPT", "LOAD", done)), 2)):
        _answer(reply)


def _answer(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply
