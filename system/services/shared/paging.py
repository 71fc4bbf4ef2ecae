"""The requested page, and the cursors of its neighbors. Pure.

A cursor (`pagination_token`) is the bound of its page, then the bounds of the previous pages, nearest first:
`70.80.90`. A bound is the last id that was scanned, exclusive. The first page has none, so `70` alone is the
second page. Paging back needs no state here: the page before `70.80.90` is `80.90`, then `90`, then the first
page. A bare id is a valid cursor.

A trail holds at most MAX_TRAIL bounds. If older ones were dropped it ends in `~`: paging back then ends at
the last known bound, without a cursor rather than with a wrong page.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace

from system.kernel import ids
from system.kernel.errors import WrongInput

MAX_RESULTS = 100  # tweets in one page; Twitter's API v2
EXCLUDABLE = ("replies", "retweets")
MAX_SPARSE_STEPS = 20  # reads of a page that leaves replies out: then it ends, short or empty, with a cursor
MAX_TRAIL = 100    # bounds in one cursor: 2,000 characters at most
CUT = "~"          # occurs in no id, and needs no escaping in a URL
MAX_TOKEN = MAX_TRAIL * (len(str(ids.MAX_ID)) + 1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins.

    `bound`: exclusive, None = the first page. `trail`: bounds of the previous pages, nearest first.

    `cut`: older bounds were dropped from the trail. `start`: the bound that means the first page, as a
    number.
    """

    start: int
    bound: int | None = None
    trail: tuple[int, ...] = ()
    cut: bool = False

    def next(self, scanned: int) -> str:
        """Return the cursor of the next page. `scanned`: last id scanned."""
        if self.bound is None:
            return str(scanned)
        bounds = (scanned, self.bound, *self.trail)
        return _text(bounds[:MAX_TRAIL], self.cut or len(bounds) > MAX_TRAIL)

    def previous(self) -> str | None:
        """Return the cursor of the previous page.

        None on the first page, and at the end of a trail that was cut.
        """
        if self.bound is None or (self.cut and not self.trail):
            return None
        return _text(self.trail, self.cut) if self.trail else str(self.start)


NEWEST = Cursor(ids.MAX_ID)  # first page of a list in descending order of id
LOWEST = Cursor(0)            # first page of a list in ascending order of id


def cursor(params: Mapping[str, str], first: Cursor) -> Cursor:
    """Return the cursor in `pagination_token`.

    `first` (NEWEST or LOWEST) if it is absent. Raises WrongInput naming the value.
    """
    text = params.get("pagination_token")
    if text is None:
        return first
    parts = text.removesuffix(CUT).split(".") if len(text) <= MAX_TOKEN else []
    if not parts or len(parts) > MAX_TRAIL or not all(map(_is_id, parts)):
        raise _refusal(text, f"it must be 1 to {MAX_TRAIL} whole numbers from 0 to {ids.MAX_ID}, joined by '.'")
    bound, *trail = map(int, parts)
    step = 1 if first.start else -1
    if any((after - before) * step <= 0 for before, after in zip([bound, *trail], trail, strict=False)):
        raise _refusal(text, f"each of its numbers must be {'above' if first.start else 'below'} the one before")
    if bound == first.start:
        return first
    return replace(first, bound=bound, trail=tuple(trail), cut=text.endswith(CUT))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= ids.MAX_ID


def _text(bounds: tuple[int, ...], cut: bool) -> str:
    return ".".join(map(str, bounds)) + (CUT if cut else "")


def _refusal(text: str, bound: str) -> WrongInput:
    return WrongInput(f"`pagination_token` is {text[:40]!r} ({len(text)} characters); {bound}. Send `next_token` or "
                      "`previous_token` of a response unchanged, or leave it out for the first page.")


def next_token(scanned: int, ended: bool, since_id: int | None, current: Cursor = NEWEST) -> str | None:
    """Return the cursor of the next page of tweets, or None if nothing older can follow.

    `scanned`: lowest id scanned. `ended`: every source is exhausted. `since_id`: exclusive lower bound of the
    request. `current`: the cursor of this page.
    """
    if ended or scanned <= 0 or (since_id is not None and scanned <= since_id + 1):
        return None
    return current.next(scanned)


@dataclass(frozen=True)
class Window:
    """A requested page.

    `before`: exclusive upper bound of ids, None = newest. `since_id`: exclusive lower bound.

    `cursor`: the cursor of the page; `before` is its bound, or `until_id` or `end_time` if that is lower.
    `without_replies`: replies are left out; retweets, the other kind that Twitter can leave out, do not exist.
    """

    limit: int
    before: int | None
    since_id: int | None
    cursor: Cursor = NEWEST
    without_replies: bool = False


def window(params: Mapping[str, str], default: int, least: int = 1) -> Window:
    """Return the page that the query parameters request.

    Raises WrongInput naming parameter, value and bound.
    """
    text = params.get("max_results", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and least <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from {least} to {MAX_RESULTS}.")
    current = cursor(params, NEWEST)
    before, since = bounds(params)
    if current.bound is not None:
        before = current.bound if before is None else min(before, current.bound)
    return Window(int(text), before, since, current, "replies" in _excluded(params.get("exclude", "")))


def _excluded(text: str) -> list[str]:
    named = [part for part in text.split(",") if part]
    unknown = [part for part in named if part not in EXCLUDABLE]
    if unknown:
        raise WrongInput(f"`exclude` names {unknown[0][:40]!r}; it may name {', '.join(EXCLUDABLE)}.")
    return named


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
