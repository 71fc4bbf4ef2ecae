"""Seeding the tweet store: rows serialized directly, sent as large unlogged batches.

A batch of up to 40 KB (the server refuses 50 KB) amortizes the request; rows of one author are adjacent in
it, so they become one mutation. Values are packed directly in the protocol's format, not bound by the driver:
17 us of client CPU per tweet against 100 us in the server, so more client processes gain nothing. Write
timestamps derive from the id as in `append`: seeding twice changes nothing.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import cassandra
from cassandra import cluster as driver
from cassandra import connection
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from system.kernel import ids
from system.kernel.events import Tweet
from system.kernel.text import entities
from system.stores.cassandra import driver as bridges

BATCH_BYTES = 40_000  # below batch_size_fail_threshold of 50 KiB
ROW_OVERHEAD = 140  # bytes of a row in addition to its text, as the server counts them
IN_FLIGHT = 16  # concurrent batches; 4 give half the rate, 32 no more (one node, two cores)
DEADLINE_S = 30.0
# Per batch whose replicas exceed the server's write timeout: while seeding, three replicas share two cores.
TRIES = 4
BUSY_S = 0.02  # the server empties a full send buffer in about this time

_LONG = struct.Struct(">q").pack
TweetColumns = tuple[int, int, str, int, int | None, str, str]  # id, author, text, conversation, in reply to, media, entities


def write(session: driver.Session, keyspace: str, tweets: Iterable[Tweet]) -> int:
    """Write `tweets` into both tables of `keyspace`; blocks. Return the number written. Safe to repeat."""
    rows = sorted((_columns(tweet) for tweet in tweets), key=lambda row: row[1])
    columns = ("(id, author_id, text, conversation_id, in_reply_to, media_keys, entities) VALUES (?, ?, ?, ?, ?, ?, ?) "
               "USING TIMESTAMP ?")
    statements = [
        session.prepare(f'INSERT INTO "{keyspace}".{table} {columns}') for table in ("tweets_by_id", "tweets_by_author")
    ]
    in_flight: deque[tuple[BatchStatement, driver.ResponseFuture]] = deque()
    for batch in _batches(rows, statements):
        if len(in_flight) == IN_FLIGHT:
            _finish(session, *in_flight.popleft())
        in_flight.append((batch, session.execute_async(batch, timeout=DEADLINE_S)))
    for batch, response in in_flight:
        _finish(session, batch, response)
    return len(rows)


def _finish(session: driver.Session, batch: BatchStatement, response: driver.ResponseFuture) -> None:
    """Wait for a batch; send it again if its replicas timed out, or if the connection's send buffer was full.

    Safe: it writes the same cells with the same timestamp. A bridge network of containers has smaller buffers than
    loopback, so there a batch may find the buffer full.
    """
    tries, ends_s = TRIES, time.monotonic() + DEADLINE_S
    while True:
        try:
            response.result()
            return
        except (cassandra.Timeout, cassandra.OperationTimedOut):
            tries -= 1
            if not tries:
                raise
        except driver.NoHostAvailable as problem:
            if not _is_busy(problem) or time.monotonic() > ends_s:
                raise
            time.sleep(BUSY_S)
        response = session.execute_async(batch, timeout=DEADLINE_S)


def _is_busy(problem: driver.NoHostAvailable) -> bool:
    """Return whether every host refused only because its connection was busy: nothing was sent."""
    return bool(problem.errors) and all(isinstance(error, connection.ConnectionBusy) for error in problem.errors.values())


def _batches(rows: Sequence[TweetColumns], statements: Sequence[PreparedStatement]) -> Iterator[BatchStatement]:
    remaining = iter(rows)
    while part := list(islice(remaining, 500)):
        packed = [_parameters(row) for row in part]
        sizes = [ROW_OVERHEAD + len(row[2].encode()) + len(row[6].encode()) for row in part]
        for statement in statements:
            start, used = 0, 0
            for stop, size in enumerate(sizes):
                if used + size > BATCH_BYTES:
                    yield _batch(statement, packed[start:stop])
                    start, used = stop, 0
                used += size
            yield _batch(statement, packed[start:])


def _batch(statement: PreparedStatement, packed: Sequence[list[object]]) -> BatchStatement:
    batch = BatchStatement(BatchType.UNLOGGED, consistency_level=cassandra.ConsistencyLevel.QUORUM)
    batch._statements_and_parameters = [(True, statement.query_id, values) for values in packed]
    return batch


def _parameters(row: TweetColumns) -> list[object]:
    tweet_id, author_id, text, conversation_id, in_reply_to, media, packed = row
    key = _LONG(tweet_id)
    return [
        key,
        _LONG(author_id),
        text.encode(),
        key if conversation_id == tweet_id else _LONG(conversation_id),
        bridges.UNSET if in_reply_to is None else _LONG(in_reply_to),
        media.encode() if media else bridges.UNSET,
        packed.encode() if packed else bridges.UNSET,
        _LONG(ids.ms_of(tweet_id) * 1000),
    ]


def _columns(tweet: Tweet) -> TweetColumns:
    media = " ".join(tweet.media_keys)
    return (tweet.id, tweet.author_id, tweet.text, tweet.conversation_id, tweet.in_reply_to, media, entities.of(tweet))
