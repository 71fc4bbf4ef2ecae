"""Converts a query tree to Elasticsearch's JSON, and a document to its two lines of a bulk request. Pure.

Uses core features only: bool, match, match_phrase, term, terms, range, function_score with gauss and
field_value_factor. The native build has no scripts, so the rank is two nested function_scores:

    BM25  x  (0.9 x gauss(age) + 0.1)  x  ln(2 + likes)
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from system.kernel.search_query import Author, From, Phrase, Query, Rank, Tag, Term, Word
from system.ports import Ask, Document

Json = dict[str, Any]
DELETED = 1 << 62
"""Added to the version of a deleted document, so that it exceeds any live one (2^62 ns: year 2116)."""
NEWEST_FIRST: list[Json] = [{"id": "desc"}]
BEST_FIRST: list[Json] = [{"_score": "desc"}, {"id": "desc"}]


def clause(term: Term) -> Json:
    """Return the query of one term."""
    match term:
        case Word(text):
            return {"match": {"text": {"query": text, "operator": "and"}}}
        case Phrase(text):
            return {"match_phrase": {"text": {"query": text}}}
        case Tag(name):
            return {"term": {"hashtags": name}}
        case Author(user_id):
            return {"term": {"author_id": str(user_id)}}
        case From(username):
            raise ValueError(f"from:{username} was not resolved to an id")


def query(tree: Query, before: int | None, since: int | None, hidden: Collection[int] = ()) -> Json:
    """Return the bool query of a tree, without tweets of `hidden` authors.

    `before`, `since`: exclusive bounds of ids, None = unbounded.

    Words and phrases score; exact terms only filter. A query of exact terms only gives every match the score
    1.
    """
    scoring = [clause(term) for term in tree.wanted if isinstance(term, Word | Phrase)]
    exact = [clause(term) for term in tree.wanted if not isinstance(term, Word | Phrase)]
    bounds = {name: bound for name, bound in (("lt", before), ("gt", since)) if bound is not None}
    if bounds:
        exact.append({"range": {"id": bounds}})
    excluded: list[Json] = [{"term": {"deleted": True}}, *(clause(term) for term in tree.unwanted)]
    if hidden:
        excluded.append({"terms": {"author_id": [str(author) for author in sorted(hidden)]}})
    return {"bool": {"must": scoring or [{"match_all": {}}], "filter": exact, "must_not": excluded}}


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
    body: Json = {"id": tweet.id, "author_id": tweet.author_id, "text": tweet.text, "hashtags": document.hashtags,
                  "created_ms": tweet.created_ms, "likes": document.likes, "deleted": False}
    if tweet.deleted:
        body = {"id": tweet.id, "created_ms": tweet.created_ms, "deleted": True, "deleted_ms": document.version // 1_000_000}
    return orjson.dumps({"index": action}), orjson.dumps(body)
