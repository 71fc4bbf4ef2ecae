"""In-memory SearchIndex, held to the same contract tests as the Elasticsearch adapter.

Scores are BM25 with Lucene's defaults, so the order is the same wherever scores differ by more than rounding.
Documents are visible immediately, which the port allows.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from system.kernel.errors import WrongInput
from system.kernel.events import Tweet
from system.kernel.search_query import (
    AnyOf,
    Author,
    Cashtag,
    Conversation,
    From,
    Has,
    Link,
    Mention,
    Phrase,
    Query,
    Rank,
    Recipient,
    Retweet,
    Tag,
    Term,
    To,
    Word,
    scores,
)
from system.kernel.text import fold, searchable
from system.ports import Ask, Document, Found, Hit, Indexed

K1, B = 1.2, 0.75  # Elasticsearch 8 keeps the factor K1 + 1 of the original formula
VIEWS = 32         # views kept; older ones are dropped

Documents = Mapping[int, Document]


class MemorySearch:
    """The index in memory."""

    def __init__(self) -> None:
        self._documents: dict[int, Document] = {}
        self._views: dict[str, Documents] = {}
        self._opened = 0

    async def close(self) -> None:
        """Do nothing; the contents stay. Safe to repeat."""

    async def ready(self) -> None:
        """Return immediately: always ready."""

    async def prepare(self) -> None:
        """Do nothing: there is no schema."""

    async def clear(self) -> None:
        """Remove all documents."""
        self._documents.clear()

    async def index(self, documents: Sequence[Document]) -> Indexed:
        for document in documents:
            indexed = self._documents.get(document.tweet.id)
            if indexed is None or _version(document) >= _version(indexed):
                self._documents[document.tweet.id] = document
        return Indexed()

    async def search(self, ask: Ask) -> Found:
        visible = self._visible(ask.view)
        hits = sorted(_ranked(visible, ask), key=lambda hit: (-hit.score, -hit.id))
        if ask.after is not None:
            score, last_id = ask.after
            hits = [hit for hit in hits if (-hit.score, -hit.id) > (-score, -last_id)]
        return Found(hits[:ask.limit], ask.view)

    async def nth_newest(self, ask: Ask, n: int) -> int | None:
        newest_first = sorted(_matches(self._visible(ask.view), ask), reverse=True)
        return newest_first[n - 1] if len(newest_first) >= n else None

    async def histogram(self, ask: Ask, times_ms: Sequence[int]) -> list[int]:
        created = [self._documents[tweet_id].tweet.created_ms for tweet_id in _matches(self._documents, ask)]
        return [sum(start <= at < end for at in created) for start, end in itertools.pairwise(times_ms)]

    async def view(self) -> str:
        self._opened += 1
        name = f"view-{self._opened}"
        self._views[name] = dict(self._documents)
        if len(self._views) > VIEWS:
            del self._views[next(iter(self._views))]
        return name

    async def found(self, tweet_ids: Sequence[int]) -> set[int]:
        return {tweet_id for tweet_id in tweet_ids
                if tweet_id in self._documents and not self._documents[tweet_id].tweet.deleted}

    async def sweep(self, before_ms: int, limit: int) -> int:
        old = [tweet_id for tweet_id, document in self._documents.items()
               if document.tweet.deleted and document.version // 1_000_000 < before_ms]
        for tweet_id in old[:limit]:
            del self._documents[tweet_id]
        return len(old[:limit])

    async def refresh(self) -> None:
        """Do nothing: everything is visible already."""

    async def bulk_load(self, documents: Iterable[Document]) -> int:
        """Index many documents; return how many. Safe to repeat."""
        batch = list(documents)
        await self.index(batch)
        return len(batch)

    def _visible(self, view: str) -> Documents:
        if not view:
            return self._documents
        if view not in self._views:
            raise WrongInput("The page was requested too late: its view is no longer kept. Search again without `next_token`.")
        return self._views[view]


def _matches(documents: Documents, ask: Ask) -> list[int]:
    return [tweet_id for tweet_id, document in documents.items()
            if not document.tweet.deleted and (ask.before is None or tweet_id < ask.before)
            and (ask.since is None or tweet_id > ask.since) and document.tweet.author_id not in ask.hidden
            and _matches_query(document, ask.query)]


def _matches_query(document: Document, query: Query) -> bool:
    return (all(_matches_term(document, term) for term in query.wanted)
            and not any(_matches_term(document, term) for term in query.unwanted))


def _matches_term(document: Document, term: Term) -> bool:
    found = _searchable(document.tweet)
    match term:
        case Word(text) | Phrase(text):
            parts = fold.required(text, isinstance(term, Phrase))
            return bool(parts) and all(_count(getattr(found, field), tokens) for field, tokens in parts)
        case Tag(name):
            return name in found.hashtags
        case Cashtag(name):
            return name in found.cashtags
        case Mention(username):
            return username in found.mentions
        case Link(parts):
            return any(_count(link, parts) for link in found.links)
        case Has(part):
            return part in found.has
        case Retweet():
            return False
        case Conversation(tweet_id):
            return document.tweet.conversation_id == tweet_id
        case Author(user_id):
            return document.tweet.author_id == user_id
        case Recipient(user_id):
            return document.recipient == user_id
        case AnyOf(alternatives):
            return any(_matches_query(document, alternative) for alternative in alternatives)
        case From(username) | To(username):
            raise ValueError(f"the user {username} was not resolved to an id")


@functools.lru_cache(maxsize=100_000)
def _searchable(tweet: Tweet) -> searchable.Searchable:
    return searchable.of(tweet)


def _count(words: Sequence[str], phrase: Sequence[str]) -> int:
    return sum(words[at:at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1)) if phrase else 0


def _version(document: Document) -> tuple[bool, int]:
    return document.tweet.deleted, document.version


def _ranked(documents: Documents, ask: Ask) -> list[Hit]:
    matching = _matches(documents, ask)
    if ask.rank is None:
        return [Hit(tweet_id) for tweet_id in matching]
    counts = _Counts(documents)
    return [Hit(tweet_id, _score(documents[tweet_id], ask.query, ask.rank, counts)) for tweet_id in matching]


class _Counts:
    """The index statistics that BM25 uses, by field."""

    def __init__(self, documents: Documents) -> None:
        live = [_searchable(document.tweet) for document in documents.values() if not document.tweet.deleted]
        self._texts = {field: [tokens for found in live if (tokens := getattr(found, field))]
                       for field in (fold.WORDS, fold.CHARACTERS)}
        self._containing = {field: Counter(word for words in texts for word in set(words))
                            for field, texts in self._texts.items()}

    def mean_length(self, field: str) -> float:
        """Return the mean number of tokens of the documents that have the field."""
        texts = self._texts[field]
        return sum(map(len, texts)) / max(1, len(texts)) or 1

    def idf(self, field: str, word: str) -> float:
        """Return the inverse document frequency of a word, by Lucene's formula."""
        containing = self._containing[field][word]
        return math.log(1 + (len(self._texts[field]) - containing + 0.5) / (containing + 0.5))


def _score(document: Document, query: Query, rank: Rank, counts: _Counts) -> float:
    age = (document.tweet.created_ms - rank.origin_ms) / (rank.half_life_s * 1e3)
    decay = rank.floor + (1 - rank.floor) * math.exp2(-min(age * age, 1000.0))
    return _words_score(document, query, counts) * decay * math.log(2 + document.likes)


def _words_score(document: Document, query: Query, counts: _Counts) -> float:
    if not scores(query):
        return 1.0
    total = 0.0
    for term in query.wanted:
        if isinstance(term, Word | Phrase):
            total += _term_score(_searchable(document.tweet), term, counts)
        elif isinstance(term, AnyOf) and scores(Query((term,))):
            total += sum(_words_score(document, alternative, counts) for alternative in term.alternatives
                         if _matches_query(document, alternative))
    return total


def _term_score(found: searchable.Searchable, term: Word | Phrase, counts: _Counts) -> float:
    total = 0.0
    for field, tokens in fold.required(term.text, isinstance(term, Phrase)):
        words = getattr(found, field)
        length_norm = K1 * (1 - B + B * len(words) / counts.mean_length(field))
        frequency = _count(words, tokens)
        total += sum(counts.idf(field, token) for token in tokens) * (K1 + 1) * frequency / (frequency + length_norm)
    return total
