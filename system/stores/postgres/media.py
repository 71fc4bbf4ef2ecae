"""Media in PostgreSQL. Schema: `postgres/media.sql`.

Every change is one statement, or one transaction that locks its rows first: if a finalize, an attach and a
collector race for a row, each sees what the others committed. A repeat writes its row again, so its commit
waits for the standby too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from system.ports import MediaState, Medium
from system.stores.postgres.base import Postgres
from system.stores.postgres.pool import Connection

_ALL: LiteralString = """id, owner_id, content_type, size, sha256, state, coalesce(tweet_id, 0), sweeps,
            coalesce(declared, sha256), coalesce(served_size, 0), original_sweeps"""
# The update locks the row, so it returns the state after every condemn that committed before it.
_INITIALISE: LiteralString = f"""INSERT INTO media AS m (id, owner_id, content_type, size, sha256, declared, state)
            VALUES (%s, %s, %s, %s, %s, %s, 'initialised') ON CONFLICT (id) DO UPDATE SET size = m.size RETURNING {_ALL}"""
_FINALISE: LiteralString = f"""UPDATE media SET
            sha256 = CASE WHEN state = 'initialised' THEN %s ELSE sha256 END,
            served_size = CASE WHEN state = 'initialised' THEN %s ELSE served_size END,
            original_due_at = CASE WHEN state = 'initialised' THEN clock_timestamp() + make_interval(secs => %s)
                              ELSE original_due_at END,
            changed_at = CASE WHEN state = 'initialised' THEN clock_timestamp() ELSE changed_at END,
            state = CASE WHEN state = 'initialised' THEN 'finalised' ELSE state END
            WHERE id = %s AND state <> 'condemned' RETURNING {_ALL}"""
_LOCK: LiteralString = """SELECT id FROM media WHERE id = ANY(%s) AND owner_id = %s
            AND (state = 'finalised' OR state = 'attached' AND tweet_id = %s) ORDER BY id FOR UPDATE"""
_ATTACH: LiteralString = """UPDATE media SET state = 'attached', tweet_id = %s, changed_at = clock_timestamp()
            WHERE id = ANY(%s)"""
_DETACH: LiteralString = """UPDATE media SET state = 'finalised', tweet_id = NULL, changed_at = clock_timestamp()
            WHERE id = ANY(%s) AND state = 'attached' AND tweet_id = %s AND NOT confirmed"""
_CONDEMN: LiteralString = f"""UPDATE media SET state = 'condemned', changed_at = clock_timestamp(), due_at = clock_timestamp()
            WHERE id = ANY(%s) AND state <> 'condemned' AND state = coalesce(%s, state)
            AND changed_at <= clock_timestamp() - make_interval(secs => %s) RETURNING {_ALL}"""
_ORPHANS: LiteralString = f"""UPDATE media SET state = 'condemned', changed_at = clock_timestamp(), due_at = clock_timestamp()
            WHERE id IN (SELECT id FROM media WHERE NOT confirmed AND (
                    state = 'initialised' AND changed_at < clock_timestamp() - make_interval(secs => %s)
                    OR state = 'finalised' AND changed_at < clock_timestamp() - make_interval(secs => %s))
                ORDER BY changed_at LIMIT %s FOR UPDATE SKIP LOCKED)
            RETURNING {_ALL}"""
_UNCONFIRMED: LiteralString = f"""SELECT {_ALL} FROM media WHERE state = 'attached' AND NOT confirmed
            AND changed_at < clock_timestamp() - make_interval(secs => %s) ORDER BY changed_at LIMIT %s"""
_DUE: LiteralString = f"""SELECT {_ALL} FROM media WHERE state = 'condemned' AND due_at <= clock_timestamp()
            ORDER BY due_at LIMIT %s"""
_RESCHEDULE: LiteralString = """UPDATE media SET sweeps = sweeps + 1, due_at = clock_timestamp() + make_interval(secs => %s)
            WHERE id = %s AND sweeps = %s AND state = 'condemned' AND due_at <= clock_timestamp() RETURNING id"""
_DELETE: LiteralString = """DELETE FROM media
            WHERE id = %s AND sweeps = %s AND state = 'condemned' AND due_at <= clock_timestamp() RETURNING id"""
_ORIGINALS_DUE: LiteralString = f"""SELECT {_ALL} FROM media WHERE original_due_at <= clock_timestamp()
            AND state <> 'condemned' ORDER BY original_due_at LIMIT %s"""
_ORIGINAL_SWEPT: LiteralString = """UPDATE media SET original_sweeps = original_sweeps + 1,
            original_due_at = clock_timestamp() + make_interval(secs => %s)
            WHERE id = %s AND original_sweeps = %s AND original_due_at <= clock_timestamp() RETURNING id"""
_LEAD: LiteralString = """UPDATE media_collector SET holder = %s, expires_at = clock_timestamp() + make_interval(secs => %s)
            WHERE holder = %s OR expires_at < clock_timestamp() RETURNING holder"""


class PostgresMedia(Postgres):
    """`MediaStore` in the namespace's database."""

    pool_size = 6
    schema = "media.sql"
    probe = "SELECT 1 FROM media LIMIT 1"
    clear_statement = "TRUNCATE media"

    async def initialise(self, medium: Medium) -> Medium:
        values = (medium.id, medium.owner_id, medium.content_type, medium.size, medium.sha256, medium.sha256)
        return _medium((await self._rows(_INITIALISE, values, "store the medium"))[0])

    async def get(self, media_ids: Sequence[str]) -> dict[str, Medium]:
        if not media_ids:
            return {}
        rows = await self._rows(f"SELECT {_ALL} FROM media WHERE id = ANY(%s)", (list(media_ids),), "read media")
        return {row[0]: _medium(row) for row in rows}

    async def of_tweets(self, tweet_ids: Sequence[int]) -> list[Medium]:
        statement: LiteralString = f"SELECT {_ALL} FROM media WHERE tweet_id = ANY(%s) AND sweeps = 0 ORDER BY id"
        return [_medium(row) for row in await self._rows(statement, (list(tweet_ids),), "read media of tweets")]

    async def finalise(self, media_id: str, sha256: str, size: int, original_s: float) -> Medium | None:
        rows = await self._rows(_FINALISE, (sha256, size, float(original_s), media_id), "finalise the medium")
        return _medium(rows[0]) if rows else None

    async def attach(self, owner_id: int, media_ids: Sequence[str], tweet_id: int) -> list[str]:
        wanted = list(dict.fromkeys(media_ids))

        async def work(connection: Connection) -> list[str]:
            async with connection.transaction():
                rows = await (await connection.execute(_LOCK, (wanted, owner_id, tweet_id))).fetchall()
                attachable = {row[0] for row in rows}
                if len(attachable) == len(wanted):
                    await connection.execute(_ATTACH, (tweet_id, wanted))
                return [media_id for media_id in wanted if media_id not in attachable]

        return await self._pool.run(work, "attach media")

    async def detach(self, media_ids: Sequence[str], tweet_id: int) -> None:
        await self._rows(_DETACH + " RETURNING id", (list(media_ids), tweet_id), "detach media")

    async def condemn(self, media_ids: Sequence[str], state: MediaState | None = None, older_s: float = 0.0) -> list[Medium]:
        values = (list(media_ids), state and state.value, float(older_s))
        return [_medium(row) for row in await self._rows(_CONDEMN, values, "condemn media")] if media_ids else []

    async def condemn_orphans(self, unfinished_s: float, unattached_s: float, limit: int) -> list[Medium]:
        values = (float(unfinished_s), float(unattached_s), limit)
        return [_medium(row) for row in await self._rows(_ORPHANS, values, "condemn orphans")]

    async def unconfirmed(self, older_s: float, limit: int) -> list[Medium]:
        return [_medium(row) for row in await self._rows(_UNCONFIRMED, (float(older_s), limit), "read attached media")]

    async def confirm(self, media_ids: Sequence[str]) -> None:
        statement: LiteralString = "UPDATE media SET confirmed = true WHERE id = ANY(%s) AND state = 'attached' RETURNING id"
        if media_ids:
            await self._rows(statement, (list(media_ids),), "confirm media")

    async def due(self, limit: int) -> list[Medium]:
        return [_medium(row) for row in await self._rows(_DUE, (limit,), "read condemned media")]

    async def swept(self, medium: Medium, again_s: float | None) -> None:
        if again_s is None:
            await self._rows(_DELETE, (medium.id, medium.sweeps), "delete the row of removed media")
        else:
            await self._rows(_RESCHEDULE, (float(again_s), medium.id, medium.sweeps), "record the removal")

    async def originals_due(self, limit: int) -> list[Medium]:
        return [_medium(row) for row in await self._rows(_ORIGINALS_DUE, (limit,), "read media with uploaded bytes")]

    async def original_swept(self, medium: Medium, again_s: float | None) -> None:
        values = (None if again_s is None else float(again_s), medium.id, medium.original_sweeps)  # NULL: never
        await self._rows(_ORIGINAL_SWEPT, values, "record the removal of the uploaded bytes")

    async def lead(self, holder: str, ttl_s: float) -> bool:
        return bool(await self._rows(_LEAD, (holder, float(ttl_s), holder), "acquire the collector's lease"))


def _medium(row: tuple[Any, ...]) -> Medium:
    media_id, owner_id, content_type, size, sha256, state, *others = row
    return Medium(media_id, owner_id, content_type, size, sha256, MediaState(state), *others)
