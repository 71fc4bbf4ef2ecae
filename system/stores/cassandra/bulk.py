"""Seeding the tweet store: rows packed by hand, sent as large unlogged batches.

A batch of up to 40 KB (the server refuses 50 KB) amortises the request; rows of one author lie together in it, so they
become one mutation. Values are packed straight into the protocol's form, not bound by the driver: 17 us of client CPU a
tweet against 100 us in the server, so more processes on this side gain nothing. Write timestamps derive from the id as in
`append`: seeding twice changes nothing.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import cassandra
from cassandra import cluster as driver
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from system.kernel import ids
from system.kernel.events import Tweet
from system.stores.cassandra import driver as bridges

BATCH_BYTES = 40_000  # below batch_size_fail_threshold of 50 KiB
ROW_OVERHEAD = 140  # bytes of a row beside its text, as the server counts them
IN_FLIGHT = 16  # batches under way; 4 give half the rate, 32 no more (one node, two cores)
DEADLINE_S = 30.0
TRIES = 4  # of a batch whose replicas are slower than the server's patience: three of them share two cores while seeding

_LONG = struct.Struct(">q").pack
Plain = tuple[int, int, str, int, int | None, str]  # id, author, text, conversation, in reply to, media


def write(session: driver.Session, keyspace: str, tweets: Iterable[Tweet]) -> int:
    """Write `tweets` into both tables of `keyspace`, blocking. Return how many. Safe to repeat."""
    rows = sorted((_plain(tweet) for tweet in tweets), key=lambda row: row[1])
    columns = "(id, author_id, text, conversation_id, in_reply_to, media_keys) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
    statements = [
        session.prepare(f'INSERT INTO "{keyspace}".{table} {columns}') for table in ("tweets_by_id", "tweets_by_author")
    ]
    under_way: deque[tuple[BatchStatement, driver.ResponseFuture]] = deque()
    for batch in _batches(rows, statements):
        if len(under_way) == IN_FLIGHT:
            _finish(session, *under_way.popleft())
        under_way.append((batch, session.execute_async(batch, timeout=DEADLINE_S)))
    for batch, answer in under_way:
        _finish(session, batch, answer)
    return len(rows)


def _finish(session: driver.Session, batch: BatchStatement, answer: driver.ResponseFuture) -> None:
    """Wait for a batch; send it again where its replicas were too slow, which is safe: it writes the same with the same time."""
    for _ in range(TRIES - 1):
        try:
            answer.result()
            return
        except (cassandra.Timeout, cassandra.OperationTimedOut):
            answer = session.execute_async(batch, timeout=DEADLINE_S)
    answer.result()


def _batches(rows: Sequence[Plain], statements: Sequence[PreparedStatement]) -> Iterator[BatchStatement]:
    left = iter(rows)
    while part := list(islice(left, 500)):
        packed = [_packed(row) for row in part]
        sizes = [ROW_OVERHEAD + len(row[2].encode()) for row in part]
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


def _packed(row: Plain) -> list[object]:
    tweet_id, author_id, text, conversation_id, in_reply_to, media = row
    key = _LONG(tweet_id)
    return [
        key,
        _LONG(author_id),
        text.encode(),
        key if conversation_id == tweet_id else _LONG(conversation_id),
        bridges.UNSET if in_reply_to is None else _LONG(in_reply_to),
        media.encode() if media else bridges.UNSET,
        _LONG(ids.ms_of(tweet_id) * 1000),
    ]


def _plain(tweet: Tweet) -> Plain:
    media = " ".join(tweet.media_keys)
    return (tweet.id, tweet.author_id, tweet.text, tweet.conversation_id, tweet.in_reply_to, media)
