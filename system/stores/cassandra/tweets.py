"""The tweet store on Cassandra: tweets by id and by author, and the outbox.

A post can safely be repeated, and a delete can never be undone:

| write | write timestamp | columns |
|---|---|---|
| append, upsert | the millisecond in the tweet id, so a repeat writes the same cells | all but `deleted` |
| delete | the coordinator's clock | `deleted` (and the author, in case the row does not exist yet) |

A delete and a post never write the same cell with different values, so clock skew does not matter.

Append and delete write the outbox row first, then the tweet's two rows. The outbox row contains everything
that is to be written, so the relay can complete the write from it alone. A logged batch would do the same
with its own log, at twice the writes. That log also needs a node in each of two other racks, so after the
loss of one node the batch would be refused until the loss is detected.

Schema: `cassandra/schema.cql`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Self

import cassandra

from system.kernel import checkpoints, events, ids
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.settings import Settings
from system.ports import Entry, OutboxRow
from system.stores.cassandra import driver as bridges
from system.stores.cassandra.driver import Bridge, Row

SHARDS = 4  # outbox partitions per bucket; at 2,000 posts/s a partition gets 5,000 rows
BUCKET_MS = 10_000
# Concurrent removals when a lab is reset: far below the number at which a removal would miss its deadline.
CONCURRENT_REMOVALS = 128
# Ids per SELECT ... IN. Client CPU for 20 tweets on one node: 20 reads 3.7 ms, 4 reads 1.1 ms, one read 0.3
# ms.
IDS_PER_READ = 25
CONCURRENT_COUNTS = 32  # partitions counted at a time
PEERS_S = 20.0  # longest wait until nodes that start together know each other
# Longest wait until all nodes know the tables: a node that missed the announcement of a table fetches the
# schema a minute after its start.
AGREE_S = 90.0
SCHEMA = Path(__file__).with_name("schema.cql")
ADDED = {"tweets_by_id": "entities text", "tweets_by_author": "entities text"}
"""Table -> column that an existing table of an earlier version lacks."""

_COLUMNS = "id, author_id, text, conversation_id, in_reply_to, media_keys, entities"


def shard_of(tweet_id: int) -> int:
    """Return the outbox shard, 0 to SHARDS - 1, that stores the events of `tweet_id`."""
    return tweet_id % SHARDS


def bucket_of(wall_ms: int) -> int:
    """Return the 10 s outbox bucket of a wall time in milliseconds since 1970."""
    return wall_ms // BUCKET_MS


def timestamp_of(tweet_id: int) -> int:
    """Return the write timestamp of a tweet's cells, in µs since 1970; the same for every repeat."""
    return ids.ms_of(tweet_id) * 1000


class CassandraTweets:
    """`TweetStore` in one keyspace.

    All reads and writes use the consistency level passed to `open` (default: QUORUM).
    """

    def __init__(self, bridge: Bridge, keyspace: str, replication: int) -> None:
        self._bridge = bridge
        self._keyspace = keyspace
        self._replication = replication
        self._cql = _statements(f'"{keyspace}"')

    @classmethod
    async def open(cls, settings: Settings, consistency: str = "QUORUM") -> Self:
        """Connect to the nodes; `prepare` creates the tables.

        Raises StoreUnavailable (definite) if no node responds.
        """
        addresses = settings.stores.cassandra
        deadline_s = settings.policies.timeout_s("cassandra")
        bridge = await Bridge.open(
            addresses, consistency=consistency, deadline_s=deadline_s, knobs=settings.policies, near=settings.stores.near)
        return cls(bridge, settings.namespace, min(3, len(addresses)))

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        await self._bridge.close()

    async def ready(self) -> None:
        """Check that a quorum responds and the tables exist. Raises StoreUnavailable if not."""
        await self._run("mark", (0,), "answer")

    async def prepare(self) -> None:
        """Create the keyspace and missing tables. Safe to repeat, in one process at a time."""
        await bridges.in_thread("create tables", self._create)

    async def clear(self) -> None:
        """Empty all tables of this keyspace."""
        await bridges.in_thread("truncate", self._truncate)

    async def delete_above(self, floor_id: int) -> list[int]:
        """Remove all tweets with ids above `floor_id`, all replies, mentions and outbox rows; return the removed ids.

        This resets a lab to its seeded state; no event may be in flight. The system itself never removes a
        row.
        """
        later = [(tweet_id, author) for tweet_id, author, _ in await self.all_ids() if tweet_id > floor_id]
        for start in range(0, len(later), CONCURRENT_REMOVALS):
            part = later[start : start + CONCURRENT_REMOVALS]
            await asyncio.gather(*(self._run("forget", (i, a, i), "remove the tweet") for i, a in part))
        await bridges.in_thread("truncate", lambda: self._truncate("replies", "mentions", "outbox", "outbox_marks"))
        return [tweet_id for tweet_id, _ in later]

    async def drop(self) -> None:
        """Drop the keyspace with all its contents."""
        self._bridge.forget_prepared()
        statement = f'DROP KEYSPACE IF EXISTS "{self._keyspace}"'
        await bridges.in_thread("drop the keyspace", lambda: self._bridge.session.execute(statement, timeout=60))

    # ---- tweets --------------------------------------------------------------------------------------

    async def append(self, tweet: Tweet, trace: str = "") -> None:
        written_ms = events.outbox_time_ms(tweet.id, time.time_ns() // 1_000_000)
        event = events.new_tweet(tweet, trace)
        cells = _cells(tweet)
        row = (shard_of(tweet.id), bucket_of(written_ms), written_ms, event.id, event.topic, event.key, event.encode())
        stamp = timestamp_of(tweet.id)
        await self._run("note", (*row, stamp), "append the tweet")
        await checkpoints.reached("append.after_note", tweet_id=tweet.id)
        await self._after_note("rows", (stamp, *cells, *cells), "append the tweet", "the tweet may appear later")

    async def _after_note(self, name: str, values: tuple[object, ...], doing: str, may_happen: str) -> None:
        """Run the write that follows an outbox row.

        If it fails, the relay completes it later, so no failure is definite. `may_happen`: the possible later
        effect, for the message.
        """
        try:
            await self._run(name, values, doing)
        except StoreUnavailable as problem:
            if problem.definite:
                raise StoreUnavailable(f"{problem} Its event is durable, so {may_happen}.", definite=False) from problem
            raise

    async def upsert(self, tweets: Sequence[Tweet]) -> None:
        if tweets:
            await asyncio.gather(*(self._upsert(tweet) for tweet in tweets))

    async def _upsert(self, tweet: Tweet) -> None:
        cells = _cells(tweet)
        await self._run("rows", (timestamp_of(tweet.id), *cells, *cells), "write the tweet")
        if tweet.deleted:
            await self.mark_deleted([(tweet.id, tweet.author_id)])

    async def mark_deleted(self, tweets: Sequence[tuple[int, int]]) -> None:
        if tweets:
            await asyncio.gather(*(self._run("mark_deleted", (author_id, tweet_id, author_id, tweet_id), "mark the tweet deleted")
                                   for tweet_id, author_id in tweets))

    async def delete(self, tweet_id: int, author_id: int, trace: str = "") -> None:
        written_ms = time.time_ns() // 1_000_000
        event = events.tweet_deleted(tweet_id, author_id, trace)
        row = (shard_of(tweet_id), bucket_of(written_ms), written_ms, event.id, event.topic, event.key, event.encode())
        await self._run("note_delete", row, "delete the tweet")
        await checkpoints.reached("delete.after_note", tweet_id=tweet_id)
        await self._after_note("mark_deleted", (author_id, tweet_id, author_id, tweet_id), "delete the tweet",
                               "the tweet may be deleted later")

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        wanted = list(dict.fromkeys(tweet_ids))
        if len(wanted) == 1:
            rows = await self._run("one", (wanted[0],), "read the tweet")
            return {row[0]: _tweet(row) for row in rows}
        groups = [wanted[start : start + IDS_PER_READ] for start in range(0, len(wanted), IDS_PER_READ)]
        results = await asyncio.gather(*(self._run("some", (group,), "read tweets") for group in groups))
        return {row[0]: _tweet(row) for rows in results for row in rows}

    async def by_author(self, author_id: int, before: int | None, limit: int) -> list[Tweet]:
        values = (author_id, ids.MAX_ID if before is None else min(before, ids.MAX_ID), limit)
        return [_tweet(row) for row in await self._run("by_author", values, "read the author's tweets")]

    # ---- counts --------------------------------------------------------------------------------------

    async def tweet_counts(self, author_ids: Sequence[int]) -> dict[int, int]:
        return await self._counts("tweet_count", author_ids, "count the tweets of a user")

    async def note_reply(self, parent_id: int, tweet_id: int, deleted: bool = False) -> None:
        # UNSET, not False: a post must not win over a delete.
        values = (parent_id, tweet_id, True if deleted else bridges.UNSET, timestamp_of(tweet_id))
        await self._run("note_reply", values, "note a reply")

    async def reply_counts(self, parent_ids: Sequence[int]) -> dict[int, int]:
        return await self._counts("reply_count", parent_ids, "count the replies to a tweet")

    async def _counts(self, name: str, keys: Sequence[int], doing: str) -> dict[int, int]:
        wanted, counts = list(dict.fromkeys(keys)), dict[int, int]()
        for start in range(0, len(wanted), CONCURRENT_COUNTS):
            part = wanted[start : start + CONCURRENT_COUNTS]
            for key, rows in zip(part, await asyncio.gather(*(self._run(name, (key,), doing) for key in part)), strict=True):
                existing, deleted = rows[0]
                counts[key] = existing - deleted
        return counts

    # ---- mentions ------------------------------------------------------------------------------------

    async def mention(self, tweet: Tweet, user_ids: Sequence[int]) -> None:
        stamp = timestamp_of(tweet.id)
        await asyncio.gather(*(self._run("mention", (user_id, tweet.id, tweet.author_id, stamp), "note a mention")
                               for user_id in user_ids))

    async def mentions(self, user_id: int, before: int | None, limit: int) -> list[Entry]:
        values = (user_id, ids.MAX_ID if before is None else min(before, ids.MAX_ID), limit)
        return [Entry(row[0], row[1]) for row in await self._run("mentions", values, "read the mentions of a user")]

    # ---- outbox --------------------------------------------------------------------------------------

    async def outbox(self, shard: int, bucket: int) -> list[OutboxRow]:
        rows = await self._run("outbox", (shard, bucket), "read the outbox")
        return [
            OutboxRow(shard, bucket, events.decode(topic, str(key).encode(), body), written_ms)
            for written_ms, topic, key, body in rows
        ]

    async def outbox_mark(self, shard: int) -> int:
        rows = await self._run("mark", (shard,), "read the outbox mark")
        return int(rows[0][0]) if rows else 0

    async def set_outbox_mark(self, shard: int, bucket: int) -> None:
        # The bucket is the timestamp too, so a late, lower mark never overwrites a higher one.
        await self._run("set_mark", (bucket, bucket, shard), "raise the outbox mark")

    # ---- in bulk: seeding and final reads ------------------------------------------------------------

    async def bulk_load(self, tweets: Iterable[Tweet]) -> int:
        """Write seeded tweets, without outbox rows, in a thread. Return the number written. Safe to repeat.

        Raises StoreUnavailable. Measured: 1 million tweets in 110 s on two busy cores, with all other servers
        running on the same machine.
        """
        from system.stores.cassandra import bulk as cassandra_bulk

        session = self._bridge.session
        return await bridges.in_thread("load tweets", lambda: cassandra_bulk.write(session, self._keyspace, tweets))

    async def all_ids(self) -> list[tuple[int, int, bool]]:
        """Return (id, author_id, deleted) of every tweet, in no particular order.

        A full scan, for checkers after a run.
        """
        cql = f'SELECT id, author_id, deleted FROM "{self._keyspace}".tweets_by_id'
        rows = await self._scan(cql)
        return [(row[0], row[1] or 0, bool(row[2])) for row in rows]

    async def all_author_ids(self) -> list[tuple[int, int, bool]]:
        """Return the same from `tweets_by_author`, so that a checker can compare the two tables."""
        cql = f'SELECT id, author_id, deleted FROM "{self._keyspace}".tweets_by_author'
        return [(row[0], row[1], bool(row[2])) for row in await self._scan(cql)]

    async def mention_rows(self) -> int:
        """Return the number of mentions of all users. A full scan, for the check after a reset."""
        return len(await self._scan(f'SELECT id FROM "{self._keyspace}".mentions'))

    async def outbox_rows(self) -> int:
        """Return the number of rows in the outbox, whatever their age.

        A full scan, for the check after a reset.
        """
        return len(await self._scan(f'SELECT event_id FROM "{self._keyspace}".outbox'))

    async def reply_rows(self) -> int:
        """Return the number of noted replies to all tweets. A full scan, for the check after a reset."""
        return len(await self._scan(f'SELECT id FROM "{self._keyspace}".replies'))

    async def scan_run(self, author_ids: Iterable[int], limit: int = 1000) -> AsyncIterator[list[Tweet]]:
        """Yield the newest `limit` tweets of each author, one list per author, in the order of `author_ids`.

        64 authors are read concurrently.
        """
        wanted = list(author_ids)
        for start in range(0, len(wanted), 64):
            reads = (self.by_author(author, None, limit) for author in wanted[start : start + 64])
            for tweets in await asyncio.gather(*reads):
                yield tweets

    # ---- internal ------------------------------------------------------------------------------------

    async def _run(self, name: str, values: Sequence[object], doing: str) -> list[Row]:
        return await self._bridge.run(self._cql[name], values, doing)

    async def _scan(self, cql: str) -> list[Row]:
        def work() -> list[Row]:
            return list(self._bridge.session.execute(bridges.paged(cql, rows=5000), timeout=60))

        return await bridges.in_thread("scan a table", work)

    def _create(self) -> None:
        """Create what is missing, all through one node: another node may not know the new keyspace yet."""
        session = self._bridge.session
        host = session.execute("SELECT key FROM system.local", timeout=60).response_future.coordinator_host

        def execute(cql: str, *values: object) -> list[Row]:
            return list(session.execute(cql, values or None, timeout=60, host=host))

        # A node announces a table only to the peers that it already knows.
        ends_s = time.monotonic() + PEERS_S
        while len(execute("SELECT schema_version FROM system.peers")) < self._replication - 1 and time.monotonic() < ends_s:
            time.sleep(0.2)
        execute(f'CREATE KEYSPACE IF NOT EXISTS "{self._keyspace}" WITH replication = '
                f"{{'class': 'NetworkTopologyStrategy', 'replication_factor': {self._replication}}}")
        columns = "SELECT table_name, column_name, type FROM system_schema.columns WHERE keyspace_name = %s"
        existing: dict[str, set[str]] = {}
        for table, column, kind in execute(columns, self._keyspace):
            existing.setdefault(table, set()).add(f"{column} {kind}")
        for name, statement in tables():
            if name not in existing:
                head = "CREATE TABLE IF NOT EXISTS "
                execute(statement.replace(head, f'{head}"{self._keyspace}".'))
            elif name in ADDED and ADDED[name] not in existing[name]:
                execute(f'ALTER TABLE "{self._keyspace}".{name} ADD {ADDED[name]}')  # null in the rows that exist
        try:
            session.cluster.refresh_schema_metadata(max_schema_agreement_wait=AGREE_S)
        except cassandra.DriverException as problem:
            raise StoreUnavailable(f"The nodes of Cassandra did not agree on the tables within {AGREE_S:g} s; see their logs. "
                                   "Repeat this to create the missing tables.", definite=True) from problem

    def _truncate(self, *names: str) -> None:
        for name in names or [name for name, _ in tables()]:
            self._bridge.session.execute(f'TRUNCATE "{self._keyspace}".{name}', timeout=60)


def tables() -> list[tuple[str, str]]:
    """Return (name, CREATE statement) of every table in `cassandra/schema.cql`, without comments."""
    lines = [line.partition("--")[0].rstrip() for line in SCHEMA.read_text(encoding="utf-8").splitlines()]
    statements = [part.strip() for part in "\n".join(lines).split(";") if part.strip()]
    return [(part.removeprefix("CREATE TABLE IF NOT EXISTS ").split()[0], part) for part in statements]


def _statements(keyspace: str) -> dict[str, str]:
    by_id, by_author = f"{keyspace}.tweets_by_id", f"{keyspace}.tweets_by_author"
    insert = f"({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
    tweet = f"INSERT INTO {by_id} {insert}; INSERT INTO {by_author} {insert};"
    event = f"INSERT INTO {keyspace}.outbox (shard, bucket, written_ms, event_id, topic, key, body) VALUES (?, ?, ?, ?, ?, ?, ?);"
    deleted = (
        f"UPDATE {by_id} SET deleted = true, author_id = ? WHERE id = ?; "
        f"UPDATE {by_author} SET deleted = true WHERE author_id = ? AND id = ?;"
    )
    read = f"SELECT {_COLUMNS}, deleted FROM"
    return {
        "note": f"{event.rstrip(';')} USING TIMESTAMP ?",
        "rows": f"BEGIN UNLOGGED BATCH USING TIMESTAMP ? {tweet} APPLY BATCH",
        "note_delete": event.rstrip(";"),
        "mark_deleted": f"BEGIN UNLOGGED BATCH {deleted} APPLY BATCH",
        "forget": f"BEGIN UNLOGGED BATCH DELETE FROM {by_id} WHERE id = ?; "
                  f"DELETE FROM {by_author} WHERE author_id = ? AND id = ? APPLY BATCH",
        "one": f"{read} {by_id} WHERE id = ?",
        "some": f"{read} {by_id} WHERE id IN ?",
        "by_author": f"{read} {by_author} WHERE author_id = ? AND id < ? LIMIT ?",
        # A count of a column leaves its nulls out: rows that are not deleted.
        "tweet_count": f"SELECT count(id), count(deleted) FROM {by_author} WHERE author_id = ?",
        "note_reply": f"INSERT INTO {keyspace}.replies (parent_id, id, deleted) VALUES (?, ?, ?) USING TIMESTAMP ?",
        "reply_count": f"SELECT count(id), count(deleted) FROM {keyspace}.replies WHERE parent_id = ?",
        "mention": f"INSERT INTO {keyspace}.mentions (user_id, id, author_id) VALUES (?, ?, ?) USING TIMESTAMP ?",
        "mentions": f"SELECT id, author_id FROM {keyspace}.mentions WHERE user_id = ? AND id < ? LIMIT ?",
        "outbox": f"SELECT written_ms, topic, key, body FROM {keyspace}.outbox WHERE shard = ? AND bucket = ?",
        "mark": f"SELECT bucket FROM {keyspace}.outbox_marks WHERE shard = ?",
        "set_mark": f"UPDATE {keyspace}.outbox_marks USING TIMESTAMP ? SET bucket = ? WHERE shard = ?",
    }


def _cells(tweet: Tweet) -> tuple[object, ...]:
    # UNSET, not None: a null would write a tombstone into every row.
    media = " ".join(tweet.media_keys) or bridges.UNSET
    reply = bridges.UNSET if tweet.in_reply_to is None else tweet.in_reply_to
    return (tweet.id, tweet.author_id, tweet.text, tweet.conversation_id, reply, media, tweet.entities or bridges.UNSET)


def _tweet(row: Row) -> Tweet:
    tweet_id, author_id, text, conversation_id, in_reply_to, media, packed, deleted = row
    return Tweet(
        id=tweet_id,
        author_id=author_id or 0,
        text=text or "",
        created_ms=ids.ms_of(tweet_id),
        conversation_id=conversation_id or tweet_id,
        in_reply_to=in_reply_to,
        media_keys=tuple(media.split()) if media else (),
        deleted=bool(deleted),
        entities=packed,
    )
