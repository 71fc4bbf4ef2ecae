"""Converts a query tree to Elasticsearch's JSON, and a document to its two lines of a bulk request. Pure.

Uses core features only: bool, match_phrase, term, terms, range, function_score with gauss and
field_value_factor. Texts arrive as tokens (`kernel/text/fold.py`), which the index splits at blanks, so that every
build of the index agrees. The native build has no scripts, so the rank is two nested function_scores:

    BM25  x  (0.9 x gauss(age) + 0.1)  x  ln(2 + likes)
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import orjson

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
from system.ports import Ask, Document

Json = dict[str, Any]
DELETED = 1 << 62
"""Added to the version of a deleted document, so that it exceeds any live one (2^62 ns: year 2116)."""
NOTHING: Json = {"match_none": {}}
NEWEST_FIRST: list[Json] = [{"id": "desc"}]
BEST_FIRST: list[Json] = [{"_score": "desc"}, {"id": "desc"}]


def clause(term: Term) -> Json:
    """Return the query of one term."""
    match term:
        case Word(text) | Phrase(text):
            parts = [sequence(field, tokens) for field, tokens in fold.required(text, isinstance(term, Phrase))]
            return parts[0] if len(parts) == 1 else {"bool": {"must": parts or [NOTHING]}}
        case Tag(name):
            return {"term": {"hashtags": name}}
        case Cashtag(name):
            return {"term": {"cashtags": name}}
        case Mention(username):
            return {"term": {"mentions": username}}
        case Link(parts):
            return sequence("links", parts)
        case Has(part):
            return {"term": {"has": part}}
        case Retweet():
            return NOTHING
        case Conversation(tweet_id):
            return {"term": {"conversation_id": str(tweet_id)}}
        case Author(user_id):
            return {"term": {"author_id": str(user_id)}}
        case Recipient(user_id):
            return {"term": {"recipient": str(user_id)}}
        case AnyOf(alternatives):
            return {"bool": {"should": [tree(alternative) for alternative in alternatives], "minimum_should_match": 1}}
        case From(username) | To(username):
            raise ValueError(f"the user {username} was not resolved to an id")


def sequence(field: str, tokens: Sequence[str]) -> Json:
    """Return the query for adjacent tokens of a field."""
    return {"term": {field: tokens[0]}} if len(tokens) == 1 else {"match_phrase": {field: {"query": " ".join(tokens)}}}


def tree(query: Query) -> Json:
    """Return the bool query of a tree.

    Words, phrases and groups of them score; everything else only filters. A query without words gives every
    match the score 1.
    """
    scoring = [term for term in query.wanted if scores(Query((term,)))]
    return {"bool": {"must": [clause(term) for term in scoring] or [{"match_all": {}}],
                     "filter": [clause(term) for term in query.wanted if term not in scoring],
                     "must_not": [clause(term) for term in query.unwanted]}}


def query(wanted: Query, before: int | None, since: int | None, hidden: Collection[int] = ()) -> Json:
    """Return the bool query of a tree, without deleted tweets and tweets of `hidden` authors.

    `before`, `since`: exclusive bounds of ids, None = unbounded.
    """
    rendered = tree(wanted)
    bounds = {name: bound for name, bound in (("lt", before), ("gt", since)) if bound is not None}
    if bounds:
        rendered["bool"]["filter"].append({"range": {"id": bounds}})
    rendered["bool"]["must_not"].append({"term": {"deleted": True}})
    if hidden:
        rendered["bool"]["must_not"].append({"terms": {"author_id": [str(author) for author in sorted(hidden)]}})
    return rendered


def ranked(matching: Json, rank: Rank) -> Json:
    """Return `matching` with its score multiplied by age and likes."""
    age = {"gauss": {"created_ms": {"origin": rank.origin_ms, "scale": int(rank.half_life_s * 1e3), "decay": 0.5}},
           "weight": 1.0 - rank.floor}
    aged = {"function_score": {"query": matching, "functions": [age, {"weight": rank.floor}], "score_mode": "sum",
                               "boost_mode": "multiply"}}
    return {"function_score": {"query": aged, "boost_mode": "multiply",
                               "field_value_factor": {"field": "likes", "modifier": "ln2p", "missing": 0}}}


def search(ask: Ask, keep_alive: str) -> Json:
    """Return the body of a search request. With a view the request names no index: the view does."""
    matching = query(ask.query, ask.before, ask.since, ask.hidden)
    body: Json = {"query": matching if ask.rank is None else ranked(matching, ask.rank), "size": ask.limit, "_source": False,
                  "track_total_hits": False, "sort": NEWEST_FIRST if ask.rank is None else BEST_FIRST}
    if ask.after is not None:
        body["search_after"] = list(ask.after)
    if ask.view:
        body["pit"] = {"id": ask.view, "keep_alive": keep_alive}
    return body


def histogram(ask: Ask, times_ms: Sequence[int]) -> Json:
    """Return the body of a request that counts matches by time of creation, in the order of the intervals."""
    ranges = [{"from": start, "to": end} for start, end in itertools.pairwise(times_ms)]
    return {"query": query(ask.query, ask.before, ask.since, ask.hidden), "size": 0, "track_total_hits": False,
            "aggs": {"times": {"range": {"field": "created_ms", "ranges": ranges}}}}


def lines(document: Document, index: str) -> tuple[bytes, bytes]:
    """Return the two lines of a bulk request.

    A deleted tweet keeps only its id, version and time of the deleting version.
    """
    tweet = document.tweet
    action = {"_index": index, "_id": str(tweet.id), "version": document.version + DELETED * tweet.deleted,
                    "version_type": "external_gte"}
    body: Json = {"id": tweet.id, "created_ms": tweet.created_ms, "deleted": True, "deleted_ms": document.version // 1_000_000}
    if not tweet.deleted:
        found = searchable.of(tweet)
        fields = {"words": " ".join(found.words), "characters": " ".join(found.characters), "hashtags": found.hashtags,
                  "cashtags": found.cashtags, "mentions": found.mentions, "links": [" ".join(link) for link in found.links],
                  "has": found.has, "recipient": document.recipient}
        body = {"id": tweet.id, "author_id": tweet.author_id, "conversation_id": tweet.conversation_id,
                "created_ms": tweet.created_ms, "likes": document.likes, "deleted": False,
                **{name: value for name, value in fields.items() if value}}
    return orjson.dumps({"index": action}), orjson.dumps(body)
