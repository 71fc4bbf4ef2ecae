"""What is known of media: PostgreSQL. And the edge that serves them: nginx."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class MediaState(enum.StrEnum):
    """Where a medium stands. It only moves forward.

    initialised: a URL to put the bytes was given. finalised: the bytes were checked. attached: it belongs to a tweet.
    condemned: nobody gets a link any more; its bytes are removed, then its row.
    """

    INITIALISED = "initialised"
    FINALISED = "finalised"
    ATTACHED = "attached"
    CONDEMNED = "condemned"


@dataclass(frozen=True)
class Medium:
    """One medium. `size`: bytes, as declared. `sha256`: hex of its bytes; empty until known. `tweet_id`: 0 where it has none.

    `sweeps`: how often the bytes of a condemned medium were removed. `declared`: the digest that initialize was told, if any; a
    store sets it from `sha256` when it first keeps the medium, and a finalize does not change it.
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


class MediaStore(Protocol):
    """Media by id. Durable; every change is one statement on its rows, so of two that race one wins. Ages by its own clock."""

    async def initialise(self, medium: Medium) -> Medium:
        """Keep a new medium; return what stands under its id, which a repeat does not change: a condemned one stays condemned."""
        ...

    async def get(self, media_ids: Sequence[str]) -> dict[str, Medium]:
        """Return those that exist, condemned ones too."""
        ...

    async def of_tweets(self, tweet_ids: Sequence[int]) -> list[Medium]:
        """Return what was attached to these tweets and may still have bytes: condemned ones too, until they were swept once."""
        ...

    async def finalise(self, media_id: str, sha256: str) -> Medium | None:
        """Mark it checked, with the digest of its bytes; return it, None where it is unknown or condemned. Safe to repeat."""
        ...

    async def attach(self, owner_id: int, media_ids: Sequence[str], tweet_id: int) -> list[str]:
        """Attach all of them, or none; return those that may not be: not the owner's, not finalised, or another tweet's.

        Safe to repeat with the same tweet.
        """
        ...

    async def detach(self, media_ids: Sequence[str], tweet_id: int) -> None:
        """Take back an `attach` of a tweet that certainly was not made."""
        ...

    async def condemn(self, media_ids: Sequence[str], state: MediaState | None = None, older_s: float = 0.0) -> list[Medium]:
        """Let nobody read them again; return those that were not condemned before. They are due at once.

        `state`: only those that stand there are. `older_s`: only those that have stood so for as many seconds.
        """
        ...

    async def condemn_orphans(self, unfinished_s: float, unattached_s: float, limit: int) -> list[Medium]:
        """Condemn, oldest first, what was initialised or finalised so many seconds ago and has not moved since; return it."""
        ...

    async def unconfirmed(self, older_s: float, limit: int) -> list[Medium]:
        """Return attached media whose tweet nobody has seen to exist, attached more than `older_s` seconds ago."""
        ...

    async def confirm(self, media_ids: Sequence[str]) -> None:
        """Note that the tweets of these exist."""
        ...

    async def due(self, limit: int) -> list[Medium]:
        """Return condemned media whose bytes are to be removed now."""
        ...

    async def swept(self, medium: Medium, again_s: float | None) -> None:
        """Note that the bytes of a condemned medium were removed once more than `medium` says.

        It is due again after `again_s` seconds, None: its row goes. Nothing is changed before it is due, or where somebody else
        was first.
        """
        ...

    async def lead(self, holder: str, ttl_s: float) -> bool:
        """Return whether `holder` is the one that collects, for `ttl_s` seconds from now. At most one is."""
        ...


class MediaEdge(Protocol):
    """The cache in front of the bytes."""

    def link(self, key: str, expires_s: int) -> str:
        """Return a URL from which whoever has it reads `key` for `expires_s` seconds. No I/O."""
        ...

    async def purge(self, key: str) -> None:
        """Forget a cached object. Safe to repeat. Raises StoreUnavailable where the edge does not answer."""
        ...
