"""The `next_token` of a search: a sealed cursor. Only a holder of the lab's key can make or read one.

It is sealed because a page may end at a tweet that the caller must not see, and bound to the search it was
issued for: a token of another query, order or bound is refused. Every process of the service can open it.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import orjson

from system.kernel.errors import WrongInput
from system.services.shared import sealed_cursors

REVISION = 2


@dataclass(frozen=True)
class Cursor:
    """Where a page ended. `last_id`: id of the last tweet scanned; None: the next page starts a band.

    A ranked search also has the `score` of that tweet, `origin_ms`, from which all ages count, the `view` of
    the index it reads, and the band it ranks: ids below `before` (None: the newest) and above `since` (None:
    only the query's bound).
    """

    last_id: int | None
    score: float = 0.0
    origin_ms: int = 0
    view: str = ""
    before: int | None = None
    since: int | None = None


class Seal:
    """Makes and opens tokens with a key derived from `secret`; an empty secret.

    A random key, valid in this process only.
    """

    def __init__(self, secret: str) -> None:
        self._seal = sealed_cursors.Seal(secret, f"search cursor {REVISION}")

    def close(self, cursor: Cursor, about: str) -> str:
        """Return the token of `cursor`. `about`: the search it belongs to, in any fixed spelling."""
        return self._seal.close(orjson.dumps(astuple(cursor)).decode(), about)

    def open(self, token: str, about: str) -> Cursor:
        """Return the cursor in a token.

        Raises WrongInput if it was not issued here, or was issued for another search.
        """
        text = self._seal.open(token, about)
        if text is None:
            raise WrongInput(f"`next_token` {token[:24]!r} was not issued for this search; send it with the same query, order "
                             "and bounds as the previous page, or leave it out to start again.")
        return Cursor(*orjson.loads(text))
