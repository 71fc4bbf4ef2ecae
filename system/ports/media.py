"""Metadata of media: PostgreSQL. And the edge that serves their bytes: nginx."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class MediaState(enum.StrEnum):
    """State of a medium. It only moves forward.

    initialised: an upload URL was issued. finalised: the bytes were checked. attached: it belongs to a tweet.
    condemned: no more links are issued; its bytes are removed, then its row.
    """

    INITIALISED = "initialised"
    FINALISED = "finalised"
    ATTACHED = "attached"
    CONDEMNED = "condemned"


@dataclass(frozen=True)
class Medium:
    """One medium.

    `size`: bytes, as declared. `sha256`: hex; once finalised, of the served object, before of the declared
    bytes, empty if unknown. `tweet_id`: 0 if none.

    `sweeps`: how often the bytes of a condemned medium were removed. `declared`: the digest declared at
    initialize, if any; a store sets it from `sha256` when it first stores the medium, and a finalize does not
    change it. `served_size`: bytes of the served object, 0 until finalised. `original_sweeps`: how often the
    uploaded bytes of a finalised medium were removed after their URL expired.
    """

    id: str
    owner_id: int
    content_type: str
    size: int
    sha256: str = ""
    state: MediaState = MediaState.INITIALISED
    tweet_id: int = 0
    sweeps: int = 0
    declared: str = ""
    served_size: int = 0
    original_sweeps: int = 0


class MediaStore(Protocol):
    """Media by id.

    Durable; every change is a single statement, so one of two racing changes wins. Ages use its own clock.
    """

    async def initialise(self, medium: Medium) -> Medium:
        """Store a new medium; return the stored one.

        A repeat does not change it: a condemned one remains condemned.
        """
        ...

    async def get(self, media_ids: Sequence[str]) -> dict[str, Medium]:
        """Return those that exist, condemned ones too."""
        ...

    async def of_tweets(self, tweet_ids: Sequence[int]) -> list[Medium]:
        """Return media of these tweets that may still have bytes.

        Condemned ones are included until their bytes were removed once.
        """
        ...

    async def finalise(self, media_id: str, sha256: str, size: int, original_s: float) -> Medium | None:
        """Mark it checked, with digest and size of the served object.

        Return it, None if it is unknown or condemned. Safe to repeat: the first call decides. The uploaded
        bytes are due for removal after `original_s` seconds.
        """
        ...

    async def attach(self, owner_id: int, media_ids: Sequence[str], tweet_id: int) -> list[str]:
        """Attach all of them, or none.

        Return those that cannot be: not the owner's, not finalised, or another tweet's.

        Safe to repeat with the same tweet.
        """
        ...

    async def detach(self, media_ids: Sequence[str], tweet_id: int) -> None:
        """Undo an `attach` to a tweet that certainly was not created."""
        ...

    async def condemn(self, media_ids: Sequence[str], state: MediaState | None = None, older_s: float = 0.0) -> list[Medium]:
        """Mark media for removal; return those that were not condemned before. They are due immediately.

        `state`: only those in this state. `older_s`: only those that have been in their state for this many
        seconds.
        """
        ...

    async def condemn_orphans(self, unfinished_s: float, unattached_s: float, limit: int) -> list[Medium]:
        """Condemn media that stayed initialised or finalised for this many seconds.

        Oldest first, `limit` at most. Return them.
        """
        ...

    async def unconfirmed(self, older_s: float, limit: int) -> list[Medium]:
        """Return media attached more than `older_s` seconds ago whose tweet is not confirmed to exist."""
        ...

    async def confirm(self, media_ids: Sequence[str]) -> None:
        """Record that the tweets of these media exist."""
        ...

    async def due(self, limit: int) -> list[Medium]:
        """Return condemned media whose bytes must be removed now."""
        ...

    async def swept(self, medium: Medium, again_s: float | None) -> None:
        """Record that the bytes of a condemned medium were removed once more than `medium.sweeps`.

        It is due again after `again_s` seconds; None: its row is deleted. Changes nothing before it is due,
        or if another caller was first.
        """
        ...

    async def originals_due(self, limit: int) -> list[Medium]:
        """Return media, not condemned, whose uploaded bytes must be removed now."""
        ...

    async def original_swept(self, medium: Medium, again_s: float | None) -> None:
        """Record that the uploaded bytes were removed once more than `medium.original_sweeps`.

        They are due again after `again_s` seconds, None for never. Changes nothing if another caller was
        first.
        """
        ...

    async def lead(self, holder: str, ttl_s: float) -> bool:
        """Return whether `holder` is the leader of the cleanup for the next `ttl_s` seconds.

        At most one is.
        """
        ...


class MediaEdge(Protocol):
    """The CDN edge: a cache in front of the object store."""

    def link(self, key: str, expires_s: int) -> str:
        """Return a URL from which any holder can read `key` for `expires_s` seconds. No I/O."""
        ...

    async def purge(self, key: str) -> None:
        """Purge a cached object. Safe to repeat. Raises StoreUnavailable if the edge does not answer."""
        ...
