"""Which page a caller asks for, and the cursor to the next one. Pure.

The cursor (`pagination_token`) is the lowest id that was looked at, as decimal digits: an exclusive upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from system.kernel import ids
from system.kernel.errors import WrongInput

MAX_RESULTS = 100  # tweets in one page; Twitter's API v2


def next_token(scanned: int, ended: bool, since_id: int | None) -> str | None:
    """Return the cursor to the next page, or None where nothing older can follow.

    `scanned`: lowest id looked at. `ended`: every source is exhausted. `since_id`: exclusive lower bound asked for.
    """
    if ended or scanned <= 0 or (since_id is not None and scanned <= since_id + 1):
        return None
    return str(scanned)


@dataclass(frozen=True)
class Window:
    """What a caller asked of a page. `before`: exclusive upper bound of ids, None = newest. `since_id`: exclusive lower bound."""

    limit: int
    before: int | None
    since_id: int | None


def window(params: Mapping[str, str], default: int, least: int = 1) -> Window:
    """Return the page asked for by query parameters. Raises WrongInput naming parameter, value and bound."""
    text = params.get("max_results", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and least <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from {least} to {MAX_RESULTS}.")
    bounds = [ids.parse(params[name], name) for name in ("pagination_token", "until_id") if name in params]
    since = ids.parse(params["since_id"], "since_id") if "since_id" in params else None
    return Window(int(text), min(bounds, default=None), since)
