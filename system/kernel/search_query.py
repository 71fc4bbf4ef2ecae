"""A search query as a value: the parser builds it, every index evaluates it, the twin reads it.

    walrus "sea lion" #zoo from:ann -fish      Query(wanted=(Word, Phrase, Tag, From), unwanted=(Word,))
    walrus OR (seal has:media)                 Query(wanted=(AnyOf((Query((Word,)), Query((Word, Has)))),))

All wanted terms must match, no unwanted one may. Words and phrases are compared by their tokens
(`kernel/text/fold.py`); everything else matches exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
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
class Cashtag:
    """A cashtag in lower case, without the sign."""

    name: str


@dataclass(frozen=True)
class Mention:
    """Tweets that mention this username, in lower case."""

    username: str


@dataclass(frozen=True)
class Link:
    """Tweets with a URL that holds these parts, next to each other."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Has:
    """Tweets that have a part: one of `kernel/text/searchable.py`'s HAS, or REPLY for replies."""

    part: str


@dataclass(frozen=True)
class Retweet:
    """Retweets. The lab has none, so nothing matches."""


@dataclass(frozen=True)
class Conversation:
    """Tweets of the thread that this tweet began."""

    tweet_id: int


@dataclass(frozen=True)
class From:
    """Tweets of the user with this name, in lower case.

    An index knows only ids: this term is resolved to `Author` first.
    """

    username: str


@dataclass(frozen=True)
class To:
    """Replies to the user with this name, in lower case. Resolved to `Recipient` first."""

    username: str


@dataclass(frozen=True)
class Author:
    """Tweets of this user."""

    user_id: int


@dataclass(frozen=True)
class Recipient:
    """Replies to tweets of this user."""

    user_id: int


@dataclass(frozen=True)
class AnyOf:
    """At least one of these queries matches. A group without `OR` is one query."""

    alternatives: tuple[Query, ...]


Term = (Word | Phrase | Tag | Cashtag | Mention | Link | Has | Retweet | Conversation | From | To | Author | Recipient | AnyOf)


@dataclass(frozen=True)
class Query:
    """All of `wanted`, none of `unwanted`. `wanted` is empty only if `unwanted` matches nothing; the order has no meaning."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...] = ()


def scores(query: Query) -> bool:
    """Return whether a match of this query is ranked by its words; otherwise every match has the score 1."""
    return any(isinstance(term, Word | Phrase) or (isinstance(term, AnyOf) and any(map(scores, term.alternatives)))
               for term in query.wanted)


def terms_of(query: Query) -> Iterator[Term]:
    """Yield every term of a query and of its groups, groups included."""
    for term in (*query.wanted, *query.unwanted):
        yield term
        if isinstance(term, AnyOf):
            for alternative in term.alternatives:
                yield from terms_of(alternative)


@dataclass(frozen=True)
class Rank:
    """Score = BM25 of the wanted words x (floor + (1 - floor) x 0.5^((age / half_life)^2)) x ln(2 + likes).

    A query without words has a BM25 of 1, and so has an alternative without words. `origin_ms`: wall time
    that ages are measured from, the same for all pages of one search. `half_life_s`: age at which the decaying
    part is one half. `floor`: fraction that an old tweet keeps.
    """

    origin_ms: int
    half_life_s: float
    floor: float
