"""What a search asks for, as a value: the parser makes it, every index answers it, the twin reads it.

    walrus "sea lion" #zoo from:ann -fish      Query(wanted=(Word, Phrase, Tag, From), unwanted=(Word,))

All wanted terms must hold, no unwanted one may. `Word` and `Phrase` are cut into words by the index; `Tag` and `Author`
are exact.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word as it was typed. Case does not matter; where it holds several words ("well-known") all must be there."""

    text: str


@dataclass(frozen=True)
class Phrase:
    """Words in this order, side by side."""

    text: str


@dataclass(frozen=True)
class Tag:
    """A hashtag in its folded form, without the sign."""

    name: str


@dataclass(frozen=True)
class From:
    """Tweets of the user with this name, in lower case. An index knows ids only: it is resolved to `Author` before."""

    username: str


@dataclass(frozen=True)
class Author:
    """Tweets of this user."""

    user_id: int


Term = Word | Phrase | Tag | From | Author


@dataclass(frozen=True)
class Query:
    """All of `wanted`, none of `unwanted`. `wanted` is never empty; the order says nothing."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Rank:
    """Score = BM25 of the wanted words x (floor + (1 - floor) x 0.5^((age / half_life)^2)) x ln(2 + likes).

    A query without words has a BM25 of 1. `origin_ms`: the moment from which ages count, the same for all pages of one search.
    `half_life_s`: age at which the decaying part is a half. `floor`: what an old tweet keeps, a fraction.
    """

    origin_ms: int
    half_life_s: float
    floor: float
