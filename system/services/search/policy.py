"""The parameters of a search besides its query, and the versions of documents. Pure: reads no clock, no store."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from system.kernel import ids
from system.kernel.errors import WrongInput

DEFAULT_RESULTS = 10   # Twitter's API v2
MIN_RESULTS = 1        # Twitter requires 10; a smaller page does no harm
RELEVANCY, RECENCY = "relevancy", "recency"


def order_of(text: str | None) -> str:
    """Return the order of results. Raises WrongInput unless it is `relevancy` (the default) or `recency`."""
    if text not in (None, RELEVANCY, RECENCY):
        raise WrongInput(f"`sort_order` is {text[:40]!r}; it must be {RELEVANCY} or {RECENCY}.")
    return text or RELEVANCY


def moment_ms(text: str, name: str) -> int:
    """Return a time like 2026-11-22T18:00:00Z in ms since 1970. Raises WrongInput."""
    try:
        if not text.endswith("Z"):
            raise ValueError("it has no Z")
        return int(datetime.datetime.fromisoformat(text).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise WrongInput(f"`{name}` is {text[:40]!r}; it must be a UTC time like 2026-11-22T18:00:00Z.") from None


def bounds(params: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return (before, since), exclusive bounds of ids, either None.

    They are the tightest of `until_id`, `end_time` (exclusive), `since_id` and `start_time` (inclusive). The
    range between them may be empty. Raises WrongInput on an invalid id or time.
    """
    uppers = [ids.parse(params["until_id"], "until_id")] if "until_id" in params else []
    lowers = [ids.parse(params["since_id"], "since_id")] if "since_id" in params else []
    if "end_time" in params:
        uppers.append(max(0, ids.floor_id(moment_ms(params["end_time"], "end_time"))))
    if "start_time" in params:
        lowers.append(max(0, ids.floor_id(moment_ms(params["start_time"], "start_time")) - 1))
    return min((*uppers, ids.MAX_ID)) if uppers else None, min(max(lowers), ids.MAX_ID) if lowers else None


def version(deleted: bool, read_started_ns: int, read_ended_ns: int) -> int:
    """Return the external version of a document that was read from the stores between the two wall times.

    A live document gets the start of its read, a deleted one the end. A read that returned the tweet alive
    started before the end of any read that returned it deleted, so a live document never replaces a deleted
    one.
    """
    return read_ended_ns if deleted else read_started_ns
