"""SearchIndex in memory: the equal of the Elasticsearch adapter, held to the same contract tests.

Words are cut as Elasticsearch's standard tokenizer cuts Latin text: letters, digits and underscores, joined by an
apostrophe or a dot inside a word; a picture is a word; case does not matter. Scores are BM25 with Lucene's defaults, so
that orders agree where they differ by more than rounding. Visible at once, which is within the promise.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from system.kernel.errors import WrongInput
from system.kernel.search_query import Author, From, Phrase, Query, Rank, Tag, Term, Word
from system.ports import Ask, Document, Found, Hit, Indexed

WORD = re.compile(r"\w+(?:['’.]\w+)*|[☀-➿\U0001f300-\U0001faff]")
K1, B = 1.2, 0.75  # Lucene's BM25Similarity
VIEWS = 32         # views kept; an older one is gone

Documents = Mapping[int, Document]


class MemorySearch:
    """The index in this process."""

    def __init__(self) -> None:
        self._documents: dict[int, Document] = {}
        self._views: dict[str, Documents] = {}
        self._opened = 0

    async def close(self) -> None:
        """Do nothing: what is in memory stays. Safe to repeat."""

    async def ready(self) -> None:
        """Return: memory always answers."""

    async def prepare(self) -> None:
        """Do nothing: there is no schema."""

    async def clear(self) -> None:
        """Forget all documents."""
        self._documents.clear()

    async def index(self, documents: Sequence[Document]) -> Indexed:
        for document in documents:
            stands = self._documents.get(document.tweet.id)
            if stands is None or _rank(document) >= _rank(stands):
                self._documents[document.tweet.id] = document
        return Indexed()

    async def search(self, ask: Ask) -> Found:
        seen = self._seen(ask.view)
        hits = sorted(_ranked(seen, ask), key=lambda hit: (-hit.score, -hit.id))
        if ask.after is not None:
            score, last_id = ask.after
            hits = [hit for hit in hits if (-hit.score, -hit.id) > (-score, -last_id)]
        return Found(hits[:ask.limit], ask.view)

    async def nth_newest(self, ask: Ask, n: int) -> int | None:
        found = sorted(_matches(self._seen(ask.view), ask), reverse=True)
        return found[n - 1] if len(found) >= n else None

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
        """Do nothing: everything is visible."""

    async def bulk_load(self, documents: Iterable[Document]) -> int:
        """Index many documents. Return how many. Safe to repeat."""
        batch = list(documents)
        await self.index(batch)
        return len(batch)

    def _seen(self, view: str) -> Documents:
        if not view:
            return self._documents
        if view not in self._views:
            raise WrongInput("The page was requested too late: its view is no longer kept. Search again without `next_token`.")
        return self._views[view]


def words_of(text: str) -> list[str]:
    """Return the words of a text in their order, lower-case."""
    return [word.lower() for word in WORD.findall(text)]


def _matches(documents: Documents, ask: Ask) -> list[int]:
    return [tweet_id for tweet_id, document in documents.items()
            if not document.tweet.deleted and (ask.before is None or tweet_id < ask.before)
            and (ask.since is None or tweet_id > ask.since) and document.tweet.author_id not in ask.hidden
            and _holds(document, ask.query)]


def _holds(document: Document, query: Query) -> bool:
    words = words_of(document.tweet.text)
    return (all(_has(document, words, term) for term in query.wanted)
            and not any(_has(document, words, term) for term in query.unwanted))


def _has(document: Document, words: list[str], term: Term) -> bool:
    match term:
        case Word(text):
            return bool(wanted := set(words_of(text))) and wanted <= set(words)
        case Phrase(text):
            return _times(words, words_of(text)) > 0
        case Tag(name):
            return name in document.hashtags
        case Author(user_id):
            return document.tweet.author_id == user_id
        case From(username):
            raise ValueError(f"from:{username} was not resolved to an id")


def _times(words: list[str], phrase: list[str]) -> int:
    return sum(words[at:at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1)) if phrase else 0


def _rank(document: Document) -> tuple[bool, int]:
    return document.tweet.deleted, document.version


def _ranked(documents: Documents, ask: Ask) -> list[Hit]:
    matching = _matches(documents, ask)
    if ask.rank is None:
        return [Hit(tweet_id) for tweet_id in matching]
    counts = _Counts(documents)
    return [Hit(tweet_id, _score(documents[tweet_id], ask.query, ask.rank, counts)) for tweet_id in matching]


class _Counts:
    """What BM25 knows of the whole index."""

    def __init__(self, documents: Documents) -> None:
        texts = [words_of(document.tweet.text) for document in documents.values() if not document.tweet.deleted]
        self.texts = len(texts)
        self.length = sum(map(len, texts)) / max(1, len(texts))
        self.holding = Counter(word for words in texts for word in set(words))

    def idf(self, word: str) -> float:
        """Return the inverse document frequency of a word, as Lucene counts it."""
        return math.log(1 + (self.texts - self.holding[word] + 0.5) / (self.holding[word] + 0.5))


def _score(document: Document, query: Query, rank: Rank, counts: _Counts) -> float:
    words = words_of(document.tweet.text)
    bent = K1 * (1 - B + B * len(words) / (counts.length or 1))
    scoring = [words_of(term.text) for term in query.wanted if isinstance(term, Word | Phrase)]
    phrases = [isinstance(term, Phrase) for term in query.wanted if isinstance(term, Word | Phrase)]
    total = 0.0
    for parts, together in zip(scoring, phrases):
        for each in ([parts] if together else [[part] for part in parts]):
            times = _times(words, each)
            total += sum(map(counts.idf, each)) * times / (times + bent)
    age = (document.tweet.created_ms - rank.origin_ms) / (rank.half_life_s * 1e3)
    decay = rank.floor + (1 - rank.floor) * math.exp2(-min(age * age, 1000.0))
    return (total if scoring else 1.0) * decay * math.log(2 + document.likes)
