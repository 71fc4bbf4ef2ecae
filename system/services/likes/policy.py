"""Validation of likes, requested pages, and which tweets one poll of events recounts. Pure.

A count is the size of a set: it is recomputed from the rows and set, never incremented, so an event that is
handled twice, late or out of order cannot make it drift. Batching is free for the same reason: ten events
about one tweet need one recount.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.http.asgi import only

MAX_KEY = 128          # characters of an Idempotency-Key
DEFAULT_RESULTS = 100  # Twitter's API v2, for liking users and for liked tweets
MAX_RESULTS = 100
BATCH = 200            # tweets counted by one statement
ROUND_IDS = 200         # ids that each round of a page reads after the first one
MAX_ROUNDS = 5         # rounds of a page: it scans no more than about 900 ids


@dataclass(frozen=True)
class PageRequest:
    """A requested page. `cursor`: the last id that was scanned; None for the first page."""

    limit: int
    cursor: int | None


def tweet_of(body: Any) -> int:
    """Return the tweet id in a JSON body of `POST /2/users/{id}/likes`.

    Raises WrongInput naming field and value.
    """
    value = body.get("tweet_id") if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise WrongInput(f"`tweet_id` is {str(value)[:40]!r}; it must be a decimal string.")
    only(body, ("tweet_id",))
    return ids.parse(value, "tweet_id")


def check_key(key: str) -> str:
    """Return the Idempotency-Key if it is valid. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def page_request(query: Mapping[str, str], cursor: int | None) -> PageRequest:
    """Return the page after `cursor` that the query parameters request.

    Raises WrongInput naming parameter, value and bound.
    """
    text = query.get("max_results", str(DEFAULT_RESULTS))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from 1 to {MAX_RESULTS}.")
    return PageRequest(int(text), cursor)


def recounts(tweet_ids: Iterable[int]) -> list[list[int]]:
    """Return the tweets to recount, each once, in batches of one statement."""
    unique = list(dict.fromkeys(tweet_ids))
    return [unique[start : start + BATCH] for start in range(0, len(unique), BATCH)]


def round_sizes(limit: int) -> list[int]:
    """Return how many ids each round of a page reads.

    First `limit` and one more, to see whether another page follows, then ROUND_IDS, as many as one look-up
    takes.
    """
    return [limit + 1] + [ROUND_IDS] * (MAX_ROUNDS - 1)


def page_end(visible: Sequence[int], limit: int, scanned: int | None, more: bool) -> tuple[list[int], int | None]:
    """Return (ids of the page, where it ended; None if nothing that follows could be shown).

    `visible`: the visible ids of all that were scanned, in order. `scanned`: the last id scanned. `more`: ids
    follow it. A page ends at an id that it does not show only if the rounds did not suffice: such a cursor
    must be sealed.
    """
    shown = list(visible[:limit])
    if len(visible) > limit:
        return shown, shown[-1]
    return shown, scanned if more else None
