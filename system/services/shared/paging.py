"""Which page a caller asks for, and the cursors to its neighbours. Pure.

A cursor (`pagination_token`) is the bound of its page, then the bounds of the pages before it, nearest first: `70.80.90`. A
bound is the last id that was looked at, exclusive. The first page has none, so `70` alone is the second page, and the way
back needs no memory here: `70.80.90` goes back to `80.90`, that to `90`, that to the first page. A bare id is a cursor too.

A trail holds at most MAX_TRAIL bounds. Where older ones fell off it ends in `~`: the way back then ends at the last bound
that is known, with no cursor rather than with a wrong page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from system.kernel import ids
from system.kernel.errors import WrongInput

MAX_RESULTS = 100  # tweets in one page; Twitter's API v2
MAX_TRAIL = 100    # bounds in one cursor: 2,000 characters at most
CUT = "~"          # stands in no id, and a URL takes it as it is
MAX_TOKEN = MAX_TRAIL * (len(str(ids.MAX_ID)) + 1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins. `bound`: exclusive, None = the first page. `trail`: bounds of the pages before, nearest first.

    `cut`: the trail does not reach back to the second page. `start`: the bound that means the first page, as a number.
    """

    start: int
    bound: int | None = None
    trail: tuple[int, ...] = ()
    cut: bool = False

    def next(self, scanned: int) -> str:
        """Return the cursor to the page after this one. `scanned`: last id looked at."""
        if self.bound is None:
            return str(scanned)
        bounds = (scanned, self.bound, *self.trail)
        return _text(bounds[:MAX_TRAIL], self.cut or len(bounds) > MAX_TRAIL)

    def previous(self) -> str | None:
        """Return the cursor to the page before this one; None on the first page, and where the trail was cut."""
        if self.bound is None or (self.cut and not self.trail):
            return None
        return _text(self.trail, self.cut) if self.trail else str(self.start)


NEWEST = Cursor(ids.MAX_ID)  # first page of a list that goes down by id
LEAST = Cursor(0)            # first page of a list that goes up by id


def cursor(params: Mapping[str, str], first: Cursor) -> Cursor:
    """Return what `pagination_token` says; `first` (NEWEST or LEAST) where it is absent. Raises WrongInput naming the value."""
    text = params.get("pagination_token")
    if text is None:
        return first
    parts = text.removesuffix(CUT).split(".") if len(text) <= MAX_TOKEN else []
    if not parts or len(parts) > MAX_TRAIL or not all(map(_is_id, parts)):
        raise _refusal(text, f"it must be 1 to {MAX_TRAIL} whole numbers from 0 to {ids.MAX_ID}, joined by '.'")
    bound, *trail = map(int, parts)
    away = 1 if first.start else -1
    if any((after - before) * away <= 0 for before, after in zip([bound, *trail], trail, strict=False)):
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
                      "`previous_token` as an answer gave it, or none for the first page.")


def next_token(scanned: int, ended: bool, since_id: int | None, here: Cursor = NEWEST) -> str | None:
    """Return the cursor to the next page of tweets, or None where nothing older can follow.

    `scanned`: lowest id looked at. `ended`: every source is exhausted. `since_id`: exclusive lower bound asked for.
    `here`: the cursor of this page.
    """
    if ended or scanned <= 0 or (since_id is not None and scanned <= since_id + 1):
        return None
    return here.next(scanned)


@dataclass(frozen=True)
class Window:
    """What a caller asked of a page. `before`: exclusive upper bound of ids, None = newest. `since_id`: exclusive lower bound.

    `cursor`: where the page stands in its walk; `before` is its bound, or `until_id` where that is lower.
    """

    limit: int
    before: int | None
    since_id: int | None
    cursor: Cursor = NEWEST


def window(params: Mapping[str, str], default: int, least: int = 1) -> Window:
    """Return the page asked for by query parameters. Raises WrongInput naming parameter, value and bound."""
    text = params.get("max_results", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and least <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from {least} to {MAX_RESULTS}.")
    here = cursor(params, NEWEST)
    before = here.bound
    if "until_id" in params:
        until = ids.parse(params["until_id"], "until_id")
        before = until if before is None else min(before, until)
    since = ids.parse(params["since_id"], "since_id") if "since_id" in params else None
    return Window(int(text), before, since, here)
