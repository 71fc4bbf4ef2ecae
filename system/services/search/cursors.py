"""The `next_token` of a search: where it stands, sealed. Only who knows the lab's key can make one or look into it.

It is sealed because the place where a page ended may be a tweet that the caller must not see, and bound to the search it was
given for: a token of another query, order or bound is refused. Any process of the service can open it.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import orjson

from system.kernel.errors import WrongInput
from system.services.shared import sealed_cursors

REVISION = 2


@dataclass(frozen=True)
class Cursor:
    """Where a page ended. `last_id`: of the last tweet looked at; None: the next one begins a band.

    A ranked search also has `score` of that tweet, `origin_ms` of all its ages, the `view` it reads, and the band it ranks:
    ids below `before` (None: the newest) and above `since` (None: no bound but that of the query).
    """

    last_id: int | None
    score: float = 0.0
    origin_ms: int = 0
    view: str = ""
    before: int | None = None
    since: int | None = None


class Seal:
    """Makes and opens tokens with a key derived from `secret`; an empty one: a key of this process alone."""

    def __init__(self, secret: str) -> None:
        self._seal = sealed_cursors.Seal(secret, f"search cursor {REVISION}")

    def close(self, cursor: Cursor, about: str) -> str:
        """Return the token of `cursor`. `about`: the search it belongs to, in any fixed spelling."""
        return self._seal.close(orjson.dumps(astuple(cursor)).decode(), about)

    def open(self, token: str, about: str) -> Cursor:
        """Return what a token holds. Raises WrongInput where it is not one of ours, or of another search."""
        text = self._seal.open(token, about)
        if text is None:
            raise WrongInput(f"`next_token` {token[:24]!r} was not given for this search; send it with the very query, order and "
                             "bounds of the page before, or leave it out to begin again.")
        return Cursor(*orjson.loads(text))
