"""A search query as a value: the parser builds it, every index evaluates it, the twin reads it.

    walrus "sea lion" #zoo from:ann -fish      Query(wanted=(Word, Phrase, Tag, From), unwanted=(Word,))

All wanted terms must match, no unwanted one may. The index tokenizes `Word` and `Phrase`; `Tag` and `Author`
match exactly.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word as typed.

    Case does not matter; if it consists of several words ("well-known") all must occur.
    """

    text: str


@dataclass(frozen=True)
class Phrase:
    """Words in this order, next to each other."""

    text: str


@dataclass(frozen=True)
class Tag:
    """A hashtag in its folded form, without the sign."""

    name: str


@dataclass(frozen=True)
class From:
    """Tweets of the user with this name, in lower case.

    An index knows only ids: this term is resolved to `Author` first.
    """

    username: str


@dataclass(frozen=True)
class Author:
    """Tweets of this user."""

    user_id: int


Term = Word | Phrase | Tag | From | Author


@dataclass(frozen=True)
class Query:
    """All of `wanted`, none of `unwanted`. `wanted` is never empty; the order has no meaning."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Rank:
    """Score = BM25 of the wanted words x (floor + (1 - floor) x 0.5^((age / half_life)^2)) x ln(2 + likes).

    A query without words has a BM25 of 1. `origin_ms`: wall time that ages are measured from, the same for
    all pages of one search. `half_life_s`: age at which the decaying part is one half. `floor`: fraction that
    an old tweet keeps.
    """

    origin_ms: int
    half_life_s: float
    floor: float
