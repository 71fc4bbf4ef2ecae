"""The query language, the hashtags of a text, and the versions of documents.

Pure: reads no clock, no store.

    query   = term { blank term }            all of them must match
    term    = ["-"] ( phrase | tag | from | word )      with "-" it must not match
    phrase  = '"' words '"'                  these words in sequence
    tag     = "#" name                       this hashtag, exactly
    from    = "from:" username               tweets of this user
    word    = anything else between blanks

Operators of Twitter that the lab does not support are refused instead of treated as words: wrong results are
worse than an error. A hashtag is `#` or `＃` at the start of a word, then letters, marks, digits and
underscores of any script, not digits alone; two hashtags are equal if their compatibility forms (Unicode
NFKC), case-folded, are equal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from system.kernel.errors import WrongInput
from system.kernel.search_query import From, Phrase, Query, Tag, Term, Word

MAX_QUERY = 512        # characters; Twitter's API v2 for recent search
MAX_TERMS = 16         # terms; each is one clause of a bool query
MAX_USERNAME = 15      # characters; Twitter's
DEFAULT_RESULTS = 10   # Twitter's API v2
MIN_RESULTS = 1        # Twitter requires 10; a smaller page does no harm
RELEVANCY, RECENCY = "relevancy", "recency"
SIGNS = "#＃"
UNSUPPORTED = frozenset((  # operators of Twitter's API v2 that are not supported
    "bio", "bio_location", "bio_name", "bounding_box", "context", "conversation_id", "entity", "followers_count", "has",
    "in_reply_to_tweet_id", "is", "lang", "list", "place", "place_country", "point_radius", "profile_country",
    "quotes_of_tweet_id", "retweets_of", "retweets_of_tweet_id", "sample", "since", "to", "tweets_count", "until", "url",
))
SUPPORTED = 'words, #tag, from:username, "phrase", and - before any of them'


def parse(text: str | None) -> Query:
    """Return the parsed query. Raises WrongInput naming the position, the text there and the fix."""
    if not text or not text.strip():
        raise WrongInput(f"`query` is empty; it must hold 1 to {MAX_TERMS} terms: {SUPPORTED}.")
    if len(text) > MAX_QUERY:
        raise WrongInput(f"`query` has {len(text)} characters; it may have {MAX_QUERY}. Shorten it.")
    wanted: dict[Term, None] = {}
    unwanted: dict[Term, None] = {}
    for at, raw in _split(text):
        if raw.startswith("-"):
            unwanted[_term(raw[1:], at + 1, negated=True)] = None
        else:
            wanted[_term(raw, at)] = None
    if len(wanted) + len(unwanted) > MAX_TERMS:
        raise WrongInput(f"`query` holds {len(wanted) + len(unwanted)} terms; it may hold {MAX_TERMS}. Remove some.")
    if not wanted:
        raise WrongInput("`query` has only exclusions; add a word, #tag or from:username that must match.")
    return Query(tuple(wanted), tuple(unwanted))


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield (position, term) of the terms between blanks; blanks inside quotation marks do not separate."""
    at, end = 0, len(text)
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        start = at
        at += text[at] == "-"
        if at < end and text[at] == '"':
            at = text.find('"', at + 1)
            if at < 0:
                raise _wrong(start, text[start:], 'opens a phrase that is never closed; add a `"` at its end')
            at += 1
            if at < end and not text[at].isspace():
                raise _wrong(start, text[start:at + 1], "continues after the phrase; put a blank after the quotation mark")
        else:
            while at < end and not text[at].isspace():
                at += 1
        yield start, text[start:at]


def _term(raw: str, at: int, negated: bool = False) -> Term:
    name, colon, rest = raw.partition(":")
    if not raw or (negated and raw.startswith("-")):
        raise _wrong(at - 1, f"-{raw}", "excludes nothing; put one `-` directly before a word, or remove it")
    if raw.startswith('"'):
        return Phrase(_readable(raw[1:-1], raw, at))
    if '"' in raw:
        raise _wrong(at, raw, "has a quotation mark inside; a phrase starts and ends with one")
    if raw[0] in SIGNS:
        return Tag(_tag(raw, at))
    if colon and name.lower() == "from":
        return From(_username(rest, raw, at))
    if colon and rest and name.lower() in UNSUPPORTED:
        raise _wrong(at, raw, f"uses an operator that is not supported; supported are {SUPPORTED}")
    if raw in ("OR", "AND") or raw.startswith("("):
        raise _wrong(at, raw, "is a choice or a group, which are not supported; write the word in lower case, or search twice")
    return Word(_readable(raw, raw, at))


def _readable(text: str, raw: str, at: int) -> str:
    """Return `text` if it holds anything that is indexed."""
    if not any(char.isalnum() or unicodedata.category(char) == "So" for char in text):
        raise _wrong(at, raw, "holds no letter, digit or emoji; only those are indexed")
    return text


def _tag(raw: str, at: int) -> str:
    name = tag_of(raw[1:])
    if name is None:
        raise _wrong(at, raw, "is not a hashtag; after the `#` it must have letters, digits and underscores, not digits alone")
    return name


def _username(text: str, raw: str, at: int) -> str:
    name = text.removeprefix("@")
    if not (1 <= len(name) <= MAX_USERNAME and name.isascii() and name.replace("_", "a").isalnum()):
        raise _wrong(at, raw, f"is not a username; after `from:` it must have 1 to {MAX_USERNAME} letters, digits or underscores")
    return name.lower()


def _wrong(at: int, shown: str, what: str) -> WrongInput:
    return WrongInput(f"`query` is wrong at character {at + 1}: {shown[:40]!r} {what}.")


def tag_of(name: str) -> str | None:
    """Return the folded form of a hashtag's name; None if it is not a valid name."""
    if not name or not all(map(_in_tag, name)) or not any(unicodedata.category(char)[0] == "L" for char in name):
        return None
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _in_tag(char: str) -> bool:
    return char == "_" or unicodedata.category(char)[0] in "LMN"


def hashtags(text: str) -> tuple[str, ...]:
    """Return the folded hashtags of a text, each once, in order of appearance."""
    if "#" not in text and "＃" not in text:
        return ()  # most texts
    names: dict[str, None] = {}
    for at, char in enumerate(text):
        if char not in SIGNS or (at and (_in_tag(text[at - 1]) or text[at - 1] in "&/")):
            continue  # a `#` inside a word, an HTML entity (&#39;) or a path (/#top) starts no hashtag
        end = at + 1
        while end < len(text) and _in_tag(text[end]):
            end += 1
        name = tag_of(text[at + 1:end])
        if name is not None:
            names[name] = None
    return tuple(names)


def order_of(text: str | None) -> str:
    """Return the order of results. Raises WrongInput unless it is `relevancy` (the default) or `recency`."""
    if text not in (None, RELEVANCY, RECENCY):
        raise WrongInput(f"`sort_order` is {text[:40]!r}; it must be {RELEVANCY} or {RECENCY}.")
    return text or RELEVANCY


def version(deleted: bool, read_started_ns: int, read_ended_ns: int) -> int:
    """Return the external version of a document that was read from the stores between the two wall times.

    A live document gets the start of its read, a deleted one the end. A read that returned the tweet alive
    started before the end of any read that returned it deleted, so a live document never replaces a deleted
    one.
    """
    return read_ended_ns if deleted else read_started_ns
