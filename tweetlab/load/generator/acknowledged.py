"""The run's own acknowledged tweets: which to reply to, which to delete, which words to search.

Runs in Locust's process.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

REMEMBERED = 200  # newest acknowledged tweets that replies and searches choose from
SEARCHABLE_AFTER_NS = 3_000_000_000  # the index refreshes each second; Kafka and the indexer add less


@dataclass(frozen=True, slots=True)
class Own:
    """A tweet that this run posted.

    `row`: of the tape. `sent_ns`: when the post was sent, `acked_ns`: when its 201 was read.

    `word`: occurs in no other tweet.
    """

    tweet_id: int
    author: int
    row: int
    acked_ns: int
    word: str
    sent_ns: int = 0


class Ledger:
    """`doomed`: rows of posts that the tape will delete; replies and searches do not choose them.

    Nor do they choose posts of `protected` users, which most users may neither reply to nor find.
    """

    def __init__(self, doomed: Iterable[int], protected: Iterable[int] = ()) -> None:
        self._doomed, self._protected = frozenset(doomed), frozenset(protected)
        self._by_row: dict[int, Own] = {}
        self._recent: deque[Own] = deque(maxlen=REMEMBERED)

    def posted(self, own: Own) -> None:
        """Remember an acknowledged tweet."""
        self._by_row[own.row] = own
        if own.row not in self._doomed and own.author not in self._protected:
            self._recent.append(own)

    def to_delete(self, row: int) -> Own | None:
        """Return the tweet of the tape's post `row`, once.

        If that post was not acknowledged, another tweet of the run; None if none is left.
        """
        own = self._by_row.pop(row, None)
        if own is None and self._recent:
            own = self._recent.popleft()
            self._by_row.pop(own.row, None)
        return own

    def to_answer(self, draw: random.Random) -> Own | None:
        """Return a tweet to reply to, or None if none is acknowledged yet."""
        return draw.choice(self._recent) if self._recent else None

    def to_find(self, draw: random.Random, now_ns: int) -> Own | None:
        """Return a tweet that the search index must contain by now, or None."""
        old = [own for own in self._recent if own.acked_ns + SEARCHABLE_AFTER_NS <= now_ns]
        return draw.choice(old) if old else None
