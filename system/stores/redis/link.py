"""One multiplexed connection to Redis: commands of all tasks are pipelined, replies match them in order.

Why not the client of redis-py: its asyncio pool needs 3 to 6 times the CPU per call (figures in
`redis/keys.md`), and a read of the home timeline has a CPU budget. The protocol is parsed by hiredis, which
redis-py also uses.

An error is definite if the command was never written to the connection. After that, a lost connection or no
reply within `timeout_s` leaves the outcome unknown. Nothing is retried here.

The epoch (the run id of the server) is read on each connect, before any other command, so no command carries
an older epoch. For a cache of several servers, `sentinel.py` finds the primary.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import hiredis

from system.kernel.errors import LabError, StoreUnavailable, WrongInput
from system.kernel.resilience.guard import Guard
from system.kernel.settings import Settings

Arg = bytes | str | int
LUA = Path(__file__).with_name("lua")
# Texts of error replies for an invalid argument: a retry would fail again.
INVALID_ARGUMENT = ("not an integer", "not a float", "not a valid float", "syntax error", "invalid expire time",
                    "wrong number of arguments")
IN_SCRIPT = "user_script"  # text of an error in a script, whose earlier writes remain
# Error codes that Redis returns before the command has any effect (Redis 7: server.c, script.c).
REFUSALS = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY")


# The type annotation of hiredis is a one-element tuple; the function packs any number of elements.
packed: Callable[[tuple[Arg, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


def mapped(problem: BaseException, *, sent: bool, address: str) -> LabError:
    """Return the LabError for an error of the driver or the socket.

    `sent`: the command was written, at least in part. An invalid argument is WrongInput, since the server did
    not fail; every other error is StoreUnavailable.
    """
    if isinstance(problem, LabError):
        return problem
    text = f"Redis at {address}: {str(problem) or type(problem).__name__}; see `tweetlab status` and the log of redis."
    if isinstance(problem, hiredis.ReplyError):
        if str(problem).startswith("ERR ") and any(text in str(problem) for text in INVALID_ARGUMENT):
            return WrongInput(text, definite=IN_SCRIPT not in str(problem))
        return StoreUnavailable(text, definite=str(problem).split(" ", 1)[0] in REFUSALS)
    return StoreUnavailable(text, definite=not sent)


class Connection(asyncio.Protocol):
    """A connection. A reply resolves the oldest waiting future; losing the connection fails all of them."""

    def __init__(self, timeout_s: float, address: str) -> None:
        self.address = address
        self.waiting: collections.deque[tuple[asyncio.Future[Any], float]] = collections.deque()
        self.epoch = ""
        self._timeout_s = timeout_s
        self._reader = hiredis.Reader()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self.waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                future, _ = waiting.popleft()
                if not future.done():  # its task may have been cancelled
                    future.set_result(reply)
        except (hiredis.HiredisError, IndexError) as problem:
            self.drop(problem)

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(exc or ConnectionResetError("connection closed by the server"))

    def send(self, packed: bytes, count: int) -> list[asyncio.Future[Any]]:
        """Write `count` commands in one call; return the futures of their replies."""
        assert self._transport is not None
        deadline_s = time.monotonic() + self._timeout_s
        futures = [self._loop.create_future() for _ in range(count)]
        self.waiting.extend((future, deadline_s) for future in futures)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._watch)
        self._transport.write(packed)
        return futures

    def drop(self, problem: BaseException) -> None:
        """Close the connection and fail all pending commands: they were sent, so their outcome is unknown."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        while self.waiting:
            future, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(mapped(problem, sent=True, address=self.address))

    def _watch(self) -> None:
        # Replies come in order, so the oldest command alone shows whether the server has stopped replying.
        self._timer = None
        if not self.waiting:
            return
        left_s = self.waiting[0][1] - time.monotonic()
        if left_s <= 0:
            self.drop(TimeoutError(f"no reply within {self._timeout_s:g} s"))
        else:
            self._timer = self._loop.call_later(left_s, self._watch)


async def dial(address: str, timeout_s: float) -> Connection:
    """Open a connection without sending anything. `timeout_s`: for connecting, and for each reply.

    Raises OSError.
    """
    host, _, port = address.rpartition(":")
    connection = Connection(timeout_s, address)
    async with asyncio.timeout(timeout_s):
        await asyncio.get_running_loop().create_connection(lambda: connection, host, int(port))
    return connection


class Link:
    """The Redis client that the adapters use: `call`, `calls` and `script`.

    Connects on first use, and again after a lost connection. `address`: the server; None is the cache.
    `timeout_s`: for each reply; None is the timeout of the policies. `scripts`: a folder of self-contained
    scripts; None means the list scripts, which share `lists.lua`.
    """

    _epoch_command: tuple[Arg, ...] = ("INFO", "server")  # `_parse_epoch` reads the epoch from its reply

    def __init__(self, settings: Settings, address: str | None = None, timeout_s: float | None = None,
                 scripts: Path | None = None) -> None:
        self.prefix = settings.key_prefix
        self._address = address or settings.stores.redis
        self._timeout_s = self._connect_s = settings.policies.timeout_s("redis") if timeout_s is None else timeout_s
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._guard = Guard("redis" if scripts is None else scripts.name, settings.policies)
        if scripts is None:
            library = (LUA / "lists.lua").read_text()
            self._sources = {path.stem: library + path.read_text() for path in LUA.glob("*.lua") if path.stem != "lists"}
        else:
            self._sources = {path.stem: path.read_text() for path in scripts.glob("*.lua")}
        self._shas = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._sources.items()}

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect. Raises StoreUnavailable (definite) if no server responds."""
        link = cls(settings)
        await link._connected()
        return link

    async def close(self) -> None:
        """Close the connection. Safe to repeat; a later call connects again."""
        if self._connection is not None:
            self._connection.drop(ConnectionResetError("closed by us"))
            self._connection = None

    async def epoch(self) -> str:
        """Return the epoch of the connected server; a PING checks the connection first."""
        await self.call("PING")
        return (await self._connected()).epoch

    async def call(self, *args: Arg) -> Any:
        """Send one command and return its reply: bytes, int, list or None."""
        return await self._guard.run(lambda: self._call(*args))

    async def _call(self, *args: Arg) -> Any:
        return self._checked(await (await self._connected()).send(packed(args), 1)[0])

    async def calls(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        """Send commands in one write and return their replies.

        Raises the first error reply; the other commands were sent too.
        """
        return await self._guard.run(lambda: self._calls(commands)) if commands else []

    async def _calls(self, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
        connection = await self._connected()
        futures = connection.send(b"".join(map(packed, commands)), len(commands))
        replies = await asyncio.gather(*futures, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, LabError):
                raise reply
        return [self._checked(reply) for reply in replies]

    async def script(self, name: str, *args: Arg) -> Any:
        """Run `lua/<name>.lua`; its arguments are the key prefix, the connection's epoch, then `args`."""
        return await self._guard.run(lambda: self._script(name, *args))

    async def _script(self, name: str, *args: Arg) -> Any:
        connection = await self._connected()
        command = ("EVALSHA", self._shas[name], 0, self.prefix, connection.epoch, *args)
        reply = await connection.send(packed(command), 1)[0]
        # The server lost its scripts (SCRIPT FLUSH), so nothing was run: load the script and repeat.
        if type(reply) is hiredis.ReplyError and str(reply).startswith("NOSCRIPT"):
            await self._call("SCRIPT", "LOAD", self._sources[name])
            return await self._call(*command)
        return self._checked(reply)

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, hiredis.ReplyError):
            # The primary was demoted: reconnect.
            if str(reply).startswith("READONLY") and self._connection is not None:
                self._connection.drop(reply)
            raise mapped(reply, sent=True, address=self._address)
        return reply

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and connection.alive:
            return connection
        async with self._connecting:
            if self._connection is None or not self._connection.alive:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Connection:
        host, _, port = self._address.rpartition(":")
        loop = asyncio.get_running_loop()
        connection = Connection(self._timeout_s, self._address)
        try:
            async with asyncio.timeout(self._connect_s):
                await loop.create_connection(lambda: connection, host, int(port))
                loads: list[tuple[Arg, ...]] = [("SCRIPT", "LOAD", text) for text in self._sources.values()]
                futures = connection.send(b"".join(map(packed, [self._epoch_command, *loads])), 1 + len(loads))
                replies = await asyncio.gather(*futures)
            connection.epoch = self._parse_epoch(replies[0])
        except (OSError, TimeoutError, LabError, hiredis.HiredisError, ValueError) as problem:
            connection.drop(problem)
            # The caller's own command was not sent in any case.
            raise StoreUnavailable(str(mapped(problem, sent=False, address=self._address)), definite=True) from problem
        return connection

    def _parse_epoch(self, info: Any) -> str:
        """Return the server's run id."""
        if isinstance(info, hiredis.ReplyError):
            raise info
        for line in info.split(b"\r\n"):
            if line.startswith(b"run_id:"):
                return str(line[7:].decode())
        raise ValueError("INFO server names no run_id; is this a Redis server?")
