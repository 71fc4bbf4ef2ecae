"""Full-text index of tweets: Elasticsearch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from system.kernel.events import Tweet
from system.kernel.search_query import Query, Rank


@dataclass(frozen=True)
class Document:
    """A tweet as stored in the index.

    `version`: external, the wall time (ns) at which the source was read; the newest wins. `likes`: how many
    users like it. `recipient`: author of the tweet that it replies to, None if it is no reply or unknown. What
    a search finds of the tweet itself: `kernel/text/searchable.py`.
    """

    tweet: Tweet
    version: int
    likes: int = 0
    recipient: int | None = None


@dataclass(frozen=True)
class Indexed:
    """Outcome of a bulk.

    Documents in neither field are indexed (or a newer version exists, which is just as good).

    `refused`: tweet id -> reason; the document is never accepted unchanged. `busy`: ids to retry after a
    pause.
    """

    refused: Mapping[int, str] = field(default_factory=dict)
    busy: tuple[int, ...] = ()


MAX_HIDDEN = 60_000  # Elasticsearch accepts 65,536 terms per field


@dataclass(frozen=True)
class Ask:
    """One page of a search. Live tweets only.

    `before`, `since`: exclusive bounds of ids. `rank` None: newest first, else best first and newest first on
    ties. `after`: (score, id) of the last hit of the previous page, if ranked. `view`: from
    `SearchIndex.view`; empty: the documents that are visible now. `hidden`: authors whose tweets do not
    match, at most MAX_HIDDEN.
    """

    query: Query
    limit: int
    before: int | None = None
    since: int | None = None
    rank: Rank | None = None
    after: tuple[float, int] | None = None
    view: str = ""
    hidden: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Hit:
    """A matching tweet. `score`: 0 without ranking."""

    id: int
    score: float = 0.0


@dataclass(frozen=True)
class Found:
    """A page of hits. `view`: the view to use for the next page, empty if the search had none."""

    hits: Sequence[Hit]
    view: str = ""


class SearchIndex(Protocol):
    """Full-text index of tweets. Documents are visible within about a second (`refresh_interval: 1s`)."""

    async def index(self, documents: Sequence[Document]) -> Indexed:
        """Index in bulk.

        Safe to repeat; an older version never overwrites a newer one. Deleted tweets remain as `deleted`, and
        win over live ones regardless of versions: a deletion is never undone, but clocks step.

        A refused document does not affect the others. Raises StoreUnavailable if it is unknown which were
        indexed.
        """
        ...

    async def search(self, ask: Ask) -> Found:
        """Return one page. Raises WrongInput if its view has expired."""
        ...

    async def nth_newest(self, ask: Ask, n: int) -> int | None:
        """Return the id of the `n`-th newest tweet that matches (1 = the newest), None if there are fewer."""
        ...

    async def histogram(self, ask: Ask, times_ms: Sequence[int]) -> list[int]:
        """Return how many matching tweets were created in each interval of `times_ms`, which ascend.

        An interval includes its start and excludes its end: one count fewer than times. `limit`, `rank` and
        `after` of `ask` have no effect.
        """
        ...

    async def view(self) -> str:
        """Return a snapshot of what is visible now (or was a moment ago).

        Its pages neither overlap nor miss documents.

        It is kept for `policies.search.view_s` seconds after its last use.
        """
        ...

    async def found(self, tweet_ids: Sequence[int]) -> set[int]:
        """Return the subset that a search can find now: indexed, visible and not deleted."""
        ...

    async def sweep(self, before_ms: int, limit: int) -> int:
        """Remove up to `limit` documents that were deleted before wall time `before_ms`. Return how many."""
        ...

    async def refresh(self) -> None:
        """Make all indexed documents visible now. For tests and final reads."""
        ...
