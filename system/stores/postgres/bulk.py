"""Seeding and full reads of the user directory, by binary COPY. numpy lays out rows in bulk.

Indexes are built after the rows are loaded: sorting 4 million edges once is cheaper than 4 million
insertions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from system.ports import User
from system.stores.postgres.pool import Connection

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
ROWS_PER_CHUNK = 100_000

# PostgreSQL's binary COPY: each row is the number of fields, then each field's length and bytes, big-endian.
EDGE = np.dtype([("fields", ">i2"), ("n0", ">i4"), ("follower", ">i8"), ("n1", ">i4"), ("followee", ">i8"),
                 ("n2", ">i4"), ("following", "i1"), ("n3", ">i4"), ("version", ">i8")])
COUNTER = np.dtype([("fields", ">i2"), ("n0", ">i4"), ("user", ">i8"), ("n1", ">i4"), ("followers", ">i8"),
                    ("n2", ">i4"), ("following", ">i8")])


async def load(
    connection: Connection, users: Sequence[User], follower_ids: NDArray[np.int64], followee_ids: NDArray[np.int64]
) -> None:
    """Write users, counters and edges in one transaction. Edges get version 1. Tables must be empty."""
    async with connection.transaction():
        await connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
        await _copy_users(connection, users)
        ids = np.array([user.id for user in users], dtype=np.int64)
        await _copy(connection, "COPY counters (user_id, followers, following)", _counters(ids, follower_ids, followee_ids))
        await connection.execute("ALTER TABLE follows DROP CONSTRAINT follows_pkey")
        await connection.execute("DROP INDEX follows_by_followee")
        await _copy(connection, "COPY follows (follower_id, followee_id, following, version)", _edges(follower_ids, followee_ids))
        await connection.execute("ALTER TABLE follows ADD CONSTRAINT follows_pkey PRIMARY KEY (follower_id, followee_id)")
        await connection.execute("CREATE INDEX follows_by_followee ON follows (followee_id, follower_id) WHERE following")
        await connection.execute("UPDATE privacy SET version = version + 1")
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('users', 'id'), greatest((SELECT max(id) FROM users), 1))"
        )
    await connection.execute("ANALYZE users, counters, follows")


async def edges(connection: Connection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (follower ids, followee ids) of all current follows, ordered by follower, then followee."""
    statement = "COPY (SELECT follower_id, followee_id FROM follows WHERE following ORDER BY 1, 2) TO STDOUT (FORMAT BINARY)"
    parts: list[bytes] = []
    async with connection.cursor().copy(statement) as copy:
        while data := await copy.read():
            parts.append(bytes(data))
    raw = b"".join(parts)[len(HEADER) : -len(TRAILER)]
    pair = np.dtype([("fields", ">i2"), ("n0", ">i4"), ("follower", ">i8"), ("n1", ">i4"), ("followee", ">i8")])
    rows = np.frombuffer(raw, dtype=pair)
    return rows["follower"].astype(np.int64), rows["followee"].astype(np.int64)


async def _copy_users(connection: Connection, users: Sequence[User]) -> None:
    statement = "COPY users (id, username, name, password_hash, created_ms, protected) FROM STDIN"
    async with connection.cursor().copy(statement) as copy:
        for start in range(0, len(users), 10_000):
            await copy.write("".join(_user_line(user) for user in users[start : start + 10_000]))


def _user_line(user: User) -> str:
    fields = (str(user.id), user.username, user.name, user.password_hash, str(user.created_ms), "t" if user.protected else "f")
    return "\t".join(_escaped(field) for field in fields) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


async def _copy(connection: Connection, statement: str, chunks: Iterator[bytes]) -> None:
    async with connection.cursor().copy(f"{statement} FROM STDIN (FORMAT BINARY)".encode()) as copy:
        await copy.write(HEADER)
        for chunk in chunks:
            await copy.write(chunk)
        await copy.write(TRAILER)


def _counters(
    ids: NDArray[np.int64], follower_ids: NDArray[np.int64], followee_ids: NDArray[np.int64]
) -> Iterator[bytes]:
    size = int(ids.max(initial=0)) + 1
    rows = np.zeros(len(ids), dtype=COUNTER)
    rows["fields"], rows["n0"], rows["n1"], rows["n2"] = 3, 8, 8, 8
    rows["user"] = ids
    rows["followers"] = np.bincount(followee_ids, minlength=size)[ids]
    rows["following"] = np.bincount(follower_ids, minlength=size)[ids]
    yield rows.tobytes()


def _edges(follower_ids: NDArray[np.int64], followee_ids: NDArray[np.int64]) -> Iterator[bytes]:
    for start in range(0, len(follower_ids), ROWS_PER_CHUNK):
        part = slice(start, start + ROWS_PER_CHUNK)
        rows = np.zeros(len(follower_ids[part]), dtype=EDGE)
        rows["fields"], rows["n0"], rows["n1"], rows["n2"], rows["n3"] = 4, 8, 8, 1, 8
        rows["follower"], rows["followee"] = follower_ids[part], followee_ids[part]
        rows["following"], rows["version"] = 1, 1
        yield rows.tobytes()
