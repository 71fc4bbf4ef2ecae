"""Full text of tweets: Elasticsearch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from system.kernel.events import Tweet
from system.kernel.search_query import Query, Rank


@dataclass(frozen=True)
class Document:
    """A tweet as the index holds it.

    `version`: external, the wall time (ns) at which the truth was read; the newest wins. `hashtags`: folded, without the sign.
    `likes`: how many users like it.
    """

    tweet: Tweet
    version: int
    hashtags: tuple[str, ...] = ()
    likes: int = 0


@dataclass(frozen=True)
class Indexed:
    """What became of a bulk. What is in neither is done (or a newer version stands, which keeps the promise).

    `refused`: tweet id -> reason; it will never be taken as it is. `busy`: ids to be sent again after a pause.
    """

    refused: Mapping[int, str] = field(default_factory=dict)
    busy: tuple[int, ...] = ()


MAX_HIDDEN = 60_000  # Elasticsearch takes 65,536 terms of a field


@dataclass(frozen=True)
class Ask:
    """One page of a search. Live tweets only.

    `before`, `since`: exclusive bounds of ids. `rank` None: newest first, else best first and among equals newest first.
    `after`: (score, id) of the last one seen, where ranked. `view`: what `SearchIndex.view` returned; empty: what is visible now.
    `hidden`: authors whose tweets do not count as matches, at most MAX_HIDDEN.
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
    """A tweet that was found. `score`: 0 where nothing was ranked."""

    id: int
    score: float = 0.0


@dataclass(frozen=True)
class Found:
    """A page. `view`: the one to ask the next page of, empty where none was given."""

    hits: Sequence[Hit]
    view: str = ""


class SearchIndex(Protocol):
    """Full text of tweets. Visible within about a second (`refresh_interval: 1s`)."""

    async def index(self, documents: Sequence[Document]) -> Indexed:
        """Index in bulk. Safe to repeat; an older version never overwrites a newer one. Deleted tweets stay as `deleted`,
        and win over live ones whatever their versions: a deletion is never taken back, but clocks step.

        One document that is refused costs the others nothing. Raises StoreUnavailable where nobody knows what was taken.
        """
        ...

    async def search(self, ask: Ask) -> Found:
        """Return one page. Raises WrongInput where its view is no longer kept."""
        ...

    async def nth_newest(self, ask: Ask, n: int) -> int | None:
        """Return the id of the `n`-th newest tweet that matches (1 = the newest), None where there are fewer."""
        ...

    async def view(self) -> str:
        """Return a frozen view of what is visible now (or was a moment ago): pages asked of it neither overlap nor miss.

        It is kept for `policies.search.view_s` seconds after its last use.
        """
        ...

    async def found(self, tweet_ids: Sequence[int]) -> set[int]:
        """Return which of these a search can find now: there, visible and not deleted."""
        ...

    async def sweep(self, before_ms: int, limit: int) -> int:
        """Remove up to `limit` documents that are known to be deleted since before wall time `before_ms`. Return how many."""
        ...

    async def refresh(self) -> None:
        """Make what was indexed visible now. For tests and final reads."""
        ...
