"""What a like may be, which page is asked for, and what one poll of events makes count again. Pure.

A count is the size of a set: it is recomputed from the rows and set, never incremented, so an event that is seen twice, late
or out of order cannot make it drift. That also makes gathering free: of ten events about one tweet one recount is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system.kernel import ids
from system.kernel.errors import WrongInput

MAX_KEY = 128          # characters of an Idempotency-Key
DEFAULT_RESULTS = 100  # Twitter's API v2, for likers and for liked tweets
MAX_RESULTS = 100
BATCH = 200            # tweets counted by one statement
MOST_IDS = 200         # ids that a round of a page reads after the first one
MAX_ROUNDS = 5         # rounds of a page: it looks at no more than about 900 ids


@dataclass(frozen=True)
class Asked:
    """A page as asked for. `cursor`: the last id that was looked at; None at the begin."""

    limit: int
    cursor: int | None


def tweet_of(body: Any) -> int:
    """Return the tweet in a JSON body of `POST /2/users/{id}/likes`. Raises WrongInput naming field and value."""
    value = body.get("tweet_id") if isinstance(body, dict) else None
    if not isinstance(value, str):
        raise WrongInput(f"`tweet_id` is {str(value)[:40]!r}; it must be a decimal string.")
    return ids.parse(value, "tweet_id")


def check_key(key: str) -> str:
    """Return an Idempotency-Key that may be used. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def page(query: Mapping[str, str], cursor: int | None) -> Asked:
    """Return the page behind `cursor` that query parameters ask for. Raises WrongInput naming parameter, value and bound."""
    text = query.get("max_results", str(DEFAULT_RESULTS))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from 1 to {MAX_RESULTS}.")
    return Asked(int(text), cursor)


def recounts(tweet_ids: Iterable[int]) -> list[list[int]]:
    """Return the tweets to count again, each once, in batches of one statement."""
    once = list(dict.fromkeys(tweet_ids))
    return [once[start : start + BATCH] for start in range(0, len(once), BATCH)]


def rounds(limit: int) -> list[int]:
    """Return how many ids each round of a page reads: the page's own number and one to see whether more follows, then as many
    as one look-up takes."""
    return [limit + 1] + [MOST_IDS] * (MAX_ROUNDS - 1)


def ended(shown: Sequence[int], limit: int, scanned: int | None, more: bool) -> tuple[list[int], int | None]:
    """Return what a page takes and where it ended, None where nothing follows that could be shown.

    `shown`: what may be seen of all that was looked at, in order. `scanned`: the last id looked at. `more`: ids follow it.
    A page ends at an id that it does not show only where the rounds did not suffice: such a cursor must be sealed.
    """
    taken = list(shown[:limit])
    if len(shown) > limit:
        return taken, taken[-1]
    return taken, scanned if more else None
