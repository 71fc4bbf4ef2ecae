"""In-memory media and CDN edge, for unit tests.

The store passes the same contract tests as the one on PostgreSQL.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from system.kernel import cdn_links
from system.ports import MediaState, Medium
from tests.fakes.base import Memory


@dataclasses.dataclass
class _Row:
    medium: Medium
    changed_s: float
    confirmed: bool = False
    due_s: float = 0.0
    original_due_s: float = float("inf")


class MemoryMedia(Memory):
    """`MediaStore` in a dict."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._leader = ("", float("-inf"))
        self._reset()

    def _reset(self) -> None:
        self._rows: dict[str, _Row] = {}

    async def initialise(self, medium: Medium) -> Medium:
        new = dataclasses.replace(medium, declared=medium.sha256)
        return self._rows.setdefault(medium.id, _Row(new, self._now_s())).medium

    async def get(self, media_ids: Sequence[str]) -> dict[str, Medium]:
        return {media_id: self._rows[media_id].medium for media_id in media_ids if media_id in self._rows}

    async def of_tweets(self, tweet_ids: Sequence[int]) -> list[Medium]:
        media = [row.medium for row in self._rows.values() if row.medium.tweet_id in tweet_ids]
        return sorted((medium for medium in media if not medium.sweeps), key=lambda medium: medium.id)

    async def finalise(self, media_id: str, sha256: str, size: int, original_s: float) -> Medium | None:
        row = self._rows.get(media_id)
        if row is None or row.medium.state is MediaState.CONDEMNED:
            return None
        if row.medium.state is MediaState.INITIALISED:
            self._set(row, state=MediaState.FINALISED, sha256=sha256, served_size=size)
            row.original_due_s = self._now_s() + original_s
        return row.medium

    async def attach(self, owner_id: int, media_ids: Sequence[str], tweet_id: int) -> list[str]:
        refused = [media_id for media_id in dict.fromkeys(media_ids) if not self._attachable(media_id, owner_id, tweet_id)]
        for media_id in media_ids if not refused else ():
            self._set(self._rows[media_id], state=MediaState.ATTACHED, tweet_id=tweet_id)
        return refused

    def _attachable(self, media_id: str, owner_id: int, tweet_id: int) -> bool:
        row = self._rows.get(media_id)
        if row is None or row.medium.owner_id != owner_id:
            return False
        attached = row.medium.state is MediaState.ATTACHED and row.medium.tweet_id == tweet_id
        return attached or row.medium.state is MediaState.FINALISED

    async def detach(self, media_ids: Sequence[str], tweet_id: int) -> None:
        for row in (self._rows[media_id] for media_id in media_ids if media_id in self._rows):
            if row.medium.state is MediaState.ATTACHED and row.medium.tweet_id == tweet_id and not row.confirmed:
                self._set(row, state=MediaState.FINALISED, tweet_id=0)

    async def condemn(self, media_ids: Sequence[str], state: MediaState | None = None, older_s: float = 0.0) -> list[Medium]:
        rows = [self._rows[media_id] for media_id in media_ids if media_id in self._rows]
        return [self._condemned(row) for row in rows
                if row.medium.state is not MediaState.CONDEMNED and state in (None, row.medium.state)
                and row.changed_s <= self._now_s() - older_s]

    async def condemn_orphans(self, unfinished_s: float, unattached_s: float, limit: int) -> list[Medium]:
        ages = {MediaState.INITIALISED: unfinished_s, MediaState.FINALISED: unattached_s}
        orphans = [row for row in self._oldest() if self._now_s() - row.changed_s > ages.get(row.medium.state, float("inf"))]
        return [self._condemned(row) for row in orphans[:limit]]

    async def unconfirmed(self, older_s: float, limit: int) -> list[Medium]:
        media = [row.medium for row in self._oldest() if row.medium.state is MediaState.ATTACHED and not row.confirmed
                 and self._now_s() - row.changed_s > older_s]
        return media[:limit]

    async def confirm(self, media_ids: Sequence[str]) -> None:
        for row in (self._rows[media_id] for media_id in media_ids if media_id in self._rows):
            row.confirmed = row.confirmed or row.medium.state is MediaState.ATTACHED

    async def due(self, limit: int) -> list[Medium]:
        due = [row for row in self._rows.values() if row.medium.state is MediaState.CONDEMNED and row.due_s <= self._now_s()]
        return [row.medium for row in sorted(due, key=lambda row: row.due_s)[:limit]]

    async def swept(self, medium: Medium, again_s: float | None) -> None:
        row = self._rows.get(medium.id)
        recorded = row is None or (row.medium.state, row.medium.sweeps) != (MediaState.CONDEMNED, medium.sweeps)
        if row is None or recorded or row.due_s > self._now_s():
            return
        if again_s is None:
            del self._rows[medium.id]
        else:
            row.medium = dataclasses.replace(row.medium, sweeps=row.medium.sweeps + 1)
            row.due_s = self._now_s() + again_s

    async def originals_due(self, limit: int) -> list[Medium]:
        due = [row for row in self._rows.values()
               if row.medium.state is not MediaState.CONDEMNED and row.original_due_s <= self._now_s()]
        return [row.medium for row in sorted(due, key=lambda row: row.original_due_s)[:limit]]

    async def original_swept(self, medium: Medium, again_s: float | None) -> None:
        row = self._rows.get(medium.id)
        if row is None or row.medium.original_sweeps != medium.original_sweeps or row.original_due_s > self._now_s():
            return
        row.medium = dataclasses.replace(row.medium, original_sweeps=row.medium.original_sweeps + 1)
        row.original_due_s = float("inf") if again_s is None else self._now_s() + again_s

    async def lead(self, holder: str, ttl_s: float) -> bool:
        leader, ends_s = self._leader
        if leader != holder and ends_s >= self._now_s():
            return False
        self._leader = (holder, self._now_s() + ttl_s)
        return True

    def _oldest(self) -> list[_Row]:
        return sorted(self._rows.values(), key=lambda row: row.changed_s)

    def _condemned(self, row: _Row) -> Medium:
        row.due_s = self._now_s()
        return self._set(row, state=MediaState.CONDEMNED)

    def _set(self, row: _Row, **changes: object) -> Medium:
        row.medium = dataclasses.replace(row.medium, **changes)  # type: ignore[arg-type]
        row.changed_s = self._now_s()
        return row.medium


class MemoryEdge:
    """`MediaEdge` without a server: links are well-formed, and `purged` records purged keys, in order."""

    def __init__(self) -> None:
        self.purged: list[str] = []

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    async def ready(self) -> None:
        """Always ready."""

    def link(self, key: str, expires_s: int) -> str:
        return cdn_links.link("http://127.0.0.1:9", f"/memory-media/{key}", "memory", int(time.time()) + expires_s)

    async def purge(self, key: str) -> None:
        self.purged.append(key)
