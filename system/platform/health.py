"""Health probes: each speaks a few bytes of the server's own protocol and needs no driver.

A probe returns the response of a healthy node, or raises Unhealthy with the last response, which the error of
a failed start quotes. Every probe ends within `PROBE_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

PROBE_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_S = 30.0  # of `postgres_execute`, which is no probe
MAX_ANSWER_BYTES = 65536

IS_PRIMARY = "SELECT WHERE NOT pg_is_in_recovery()"  # "SELECT 1" of a primary, "SELECT 0" of a standby

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unhealthy(Exception):
    """The node is unhealthy; the text is its last response, or why there was none."""


async def wait(
    probe: Callable[[], Awaitable[str]], timeout_s: float, alive: Callable[[], bool], interval_s: float = 0.1
) -> tuple[bool, str]:
    """Probe until the node is healthy, its process has died, or `timeout_s` has passed.

    Returns (healthy, last response).
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    answer = "it was not probed yet"
    while loop.time() < deadline:
        try:
            return True, await probe()
        except Unhealthy as problem:
            answer = str(problem)
        if not alive():
            return False, answer
        await asyncio.sleep(interval_s)
    return False, answer


async def redis(address: str) -> str:
    """Return PONG."""
    async with _connect(address) as (reader, writer):
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        if not answer.startswith(b"+PONG"):
            raise Unhealthy(answer.decode(errors="replace").strip() or "it closed the connection")
        return "PONG"


async def http(address: str, path: str, expect: tuple[str, ...] = ()) -> str:
    """Return the status line of a 2xx response whose body contains one of `expect`; () accepts any body."""
    async with _connect(address) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read(MAX_ANSWER_BYTES)).decode(errors="replace")
        head, _, body = answer.partition("\r\n\r\n")
        while expect and not body and (more := await reader.read(MAX_ANSWER_BYTES)):
            body += more.decode(errors="replace")
        status = head.split("\r\n")[0]
        if len(status) < 12 or status[9] != "2":
            raise Unhealthy(f"GET {path}: {status or 'it closed the connection'} {body[:200].strip()}".strip())
        if expect and not any(word in body for word in expect):
            raise Unhealthy(f"GET {path}: {status}, body without {' or '.join(expect)}: {body[:200]}")
        return f"GET {path}: {status}"


async def cassandra(address: str) -> str:
    """Return "SUPPORTED", the response to OPTIONS in the native protocol v4."""
    async with _connect(address) as (reader, writer):
        writer.write(bytes([4, 0, 0, 0, 5]) + struct.pack(">i", 0))
        header = await reader.readexactly(9)
        if header[4] != 6:
            raise Unhealthy(f"opcode {header[4]} instead of SUPPORTED")
        return "SUPPORTED"


async def kafka(address: str, own: int) -> str:
    """Return the number of live brokers that the node reports.

    `own`: the id of the node. It must be among them, which shows that the node is not fenced.
    """
    async with _connect(address) as (reader, writer):
        client = b"tweetlab"
        body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)  # Metadata v1, no topics
        writer.write(struct.pack(">i", len(body)) + body)
        size = struct.unpack(">i", await reader.readexactly(4))[0]
        answer = await reader.readexactly(min(size, MAX_ANSWER_BYTES))
        brokers = _broker_numbers(answer)
        if own not in brokers:
            raise Unhealthy(f"broker {own} is not registered yet; {len(brokers)} others are")
        return f"{len(brokers)} brokers"


def _broker_numbers(answer: bytes) -> list[int]:
    """Return the broker ids in a Metadata v1 response: rows of id, host, port and rack (null: length -1)."""
    count, at = struct.unpack_from(">i", answer, 4)[0], 8
    numbers = []
    for _ in range(count):
        number, length = struct.unpack_from(">ih", answer, at)
        at += 6 + length + 4
        rack = struct.unpack_from(">h", answer, at)[0]
        at += 2 + max(0, rack)
        numbers.append(number)
    return numbers


async def postgres(address: str, role: str, database: str) -> str:
    """Open a session, and return "ready" after the server has sent ReadyForQuery."""
    async with _postgres_session(address, role, database, PROBE_TIMEOUT_S):
        return "ready"


async def postgres_execute(address: str, role: str, database: str, statement: str) -> str:
    """Run one statement and return its command tag. Raises Unhealthy with the server's message."""
    async with _postgres_session(address, role, database) as (reader, writer):
        text = statement.encode() + b"\0"
        writer.write(b"Q" + struct.pack(">i", len(text) + 4) + text)
        return await _postgres_until_ready(reader)


async def postgres_primary(addresses: Sequence[str], role: str, database: str) -> str:
    """Return the address of the member that accepts writes; a single member is not probed.

    Raises Unhealthy, with the response of each, if there is none.
    """
    if len(addresses) == 1:
        return addresses[0]
    answers = []
    for address in addresses:
        try:
            if await postgres_execute(address, role, database, IS_PRIMARY) == "SELECT 1":
                return address
            answers.append(f"{address} is a standby")
        except Unhealthy as problem:
            answers.append(str(problem))
    raise Unhealthy("; ".join(answers))


@contextlib.asynccontextmanager
async def _postgres_session(address: str, role: str, database: str, timeout_s: float = STATEMENT_TIMEOUT_S
                            ) -> AsyncIterator[Streams]:
    async with _connect(address, timeout_s=timeout_s) as (reader, writer):
        text = f"user\0{role}\0database\0{database}\0\0".encode()
        writer.write(struct.pack(">ii", len(text) + 8, 196608) + text)
        await _postgres_until_ready(reader)
        yield reader, writer
        writer.write(b"X" + struct.pack(">i", 4))


async def _postgres_until_ready(reader: asyncio.StreamReader) -> str:
    tag, error = "", ""
    while True:
        kind, size = struct.unpack(">ci", await reader.readexactly(5))
        payload = await reader.readexactly(size - 4)
        if kind == b"E":
            fields = [field.decode(errors="replace") for field in payload.split(b"\0") if field]
            error = next((field[1:] for field in fields if field[0] == "M"), "error")
            if any(field.startswith(("SFATAL", "VFATAL")) for field in fields):
                raise Unhealthy(error)
        elif kind == b"C":
            tag = payload.rstrip(b"\0").decode()
        elif kind == b"Z":
            if error:
                raise Unhealthy(error)
            return tag


@contextlib.asynccontextmanager
async def _connect(address: str, timeout_s: float = PROBE_TIMEOUT_S) -> AsyncIterator[Streams]:
    host, port = address.rsplit(":", 1)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                yield reader, writer
            finally:
                writer.close()
    except TimeoutError:
        raise Unhealthy(f"no answer on {address} within {timeout_s:g} s") from None
    except asyncio.IncompleteReadError:
        raise Unhealthy(f"{address} closed the connection") from None
    except OSError as problem:
        reason = "connection refused" if isinstance(problem, ConnectionRefusedError) else str(problem.strerror or problem)
        raise Unhealthy(f"{reason} on {address}") from None
