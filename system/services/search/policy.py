"""The parameters of a search besides its query, and the versions of documents. Pure: reads no clock, no store."""

from __future__ import annotations

from system.kernel.errors import WrongInput

DEFAULT_RESULTS = 10   # Twitter's API v2
MIN_RESULTS = 1        # Twitter requires 10; a smaller page does no harm
RELEVANCY, RECENCY = "relevancy", "recency"


def order_of(text: str | None) -> str:
    """Return the order of results. Raises WrongInput unless it is `relevancy` (the default) or `recency`."""
    if text not in (None, RELEVANCY, RECENCY):
        raise WrongInput(f"`sort_order` is {text[:40]!r}; it must be {RELEVANCY} or {RECENCY}.")
    return text or RELEVANCY


def version(deleted: bool, read_started_ns: int, read_ended_ns: int) -> int:
    """Return the external version of a document that was read from the stores between the two wall times.

    A live document gets the start of its read, a deleted one the end. A read that returned the tweet alive
    started before the end of any read that returned it deleted, so a live document never replaces a deleted
    one.
    """
    return read_ended_ns if deleted else read_started_ns
