"""The query language. Pure: reads no clock, no store.

    query       = choice
    choice      = all { "OR" all }                  one of them matches; binds weaker than a blank
    all         = term { blank term }               all of them match
    term        = ["-"] ( group | phrase | tag | cashtag | mention | operator | word )     with "-" it must not match
    group       = "(" choice ")"
    phrase      = '"' words '"'                     these words in sequence
    tag         = "#" name        cashtag = "$" symbol        mention = "@" username
    operator    = name ":" value                    a row of OPERATORS
    word        = anything else between blanks

Operators of Twitter that the lab does not support are refused instead of treated as words: wrong results are
worse than an error. Each alternative must hold something that must match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.search_query import (
    AnyOf,
    Cashtag,
    Conversation,
    From,
    Has,
    Link,
    Mention,
    Phrase,
    Query,
    Retweet,
    Tag,
    Term,
    To,
    Word,
    terms_of,
)
from system.kernel.text import entities, fold, searchable, urls

MAX_QUERY = 512        # characters; Twitter's API v2 for recent search
MAX_TERMS = 48         # terms, groups included; each is one clause of a bool query
MAX_DEPTH = 8          # groups inside groups
MAX_USERNAME = 15      # characters; Twitter's
SIGNS = "#＃"
UNSUPPORTED = frozenset((  # operators of Twitter's API v2 that are not supported
    "bio", "bio_location", "bio_name", "bounding_box", "context", "entity", "followers_count", "following_count",
    "in_reply_to_tweet_id", "lang", "list", "listed_count", "place", "place_country", "point_radius", "profile_bounding_box",
    "profile_country", "profile_locality", "profile_point_radius", "profile_region", "profile_subregion",
    "quotes_of_tweet_id", "retweets_of", "retweets_of_tweet_id", "retweets_of_user", "sample", "since", "since_id", "source",
    "tweets_count", "until", "until_id", "url_contains", "url_description", "url_title",
))
IS = ("reply", "retweet")
OR, AND, OPEN, CLOSE = "OR", "AND", "(", ")"


@dataclass(frozen=True)
class Token:
    """A piece of a query. `at`: its position. `text`: as typed; OPEN and CLOSE stand alone. `negated`: after a `-`."""

    at: int
    text: str
    negated: bool = False

    @property
    def is_or(self) -> bool:
        """Whether it separates alternatives."""
        return self.text == OR and not self.negated


def parse(text: str | None) -> Query:
    """Return the parsed query. Raises WrongInput naming the position, the text there and the fix."""
    if not text or not text.strip():
        raise WrongInput(f"`query` is empty; it must hold 1 to {MAX_TERMS} terms: {SUPPORTED}.")
    if len(text) > MAX_QUERY:
        raise WrongInput(f"`query` has {len(text)} characters; it may have {MAX_QUERY}. Shorten it.")
    parser = _Parser(list(_split(text)))
    query = parser.choice(0)
    count = sum(1 for _ in terms_of(query))
    if count > MAX_TERMS:
        raise WrongInput(f"`query` holds {count} terms; it may hold {MAX_TERMS}. Remove some.")
    return query


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens, self._next = tokens, 0

    def choice(self, depth: int) -> Query:
        """Return everything up to the end, or up to the `)` that ends the group."""
        alternatives = [self._all(depth)]
        while (token := self._peek()) is not None and token.is_or:
            self._next += 1
            alternatives.append(self._all(depth, token))
        if depth == 0 and token is not None:
            raise _wrong(token.at, token.text, "closes no group; remove it, or add a `(` before it")
        different = tuple(dict.fromkeys(alternatives))
        return different[0] if len(different) == 1 else Query((AnyOf(different),))

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _all(self, depth: int, after: Token | None = None) -> Query:
        wanted: dict[Term, None] = {}
        unwanted: dict[Term, None] = {}
        before = self._next
        while (token := self._peek()) is not None and not (token.is_or or token.text == CLOSE):
            self._next += 1
            term = self._group(token, depth + 1) if token.text == OPEN else _term(token)
            (unwanted if token.negated else wanted)[term] = None
        if before == self._next:
            place = token or after
            raise _wrong(place.at if place else 0, place.text if place else "", "has nothing beside it; put a term on both sides "
                         "of `OR` and inside each group, or remove it")
        # Nothing is a retweet, so excluding them all is no exclusion.
        unwanted = {term: None for term in unwanted if term != Retweet()}
        if not wanted and (unwanted or depth or after or self._peek() is not None):
            raise WrongInput("`query` has only exclusions, or an alternative of `OR` has; add a word, #tag or from:username "
                             "that must match.")
        return Query(tuple(wanted), tuple(unwanted))

    def _group(self, start: Token, depth: int) -> Term:
        if depth > MAX_DEPTH:
            raise _wrong(start.at, start.text, f"is group {depth} inside another; there may be {MAX_DEPTH}. Write it flatter")
        query = self.choice(depth)
        if self._peek() is None:
            raise _wrong(start.at, start.text, "opens a group that is never closed; add a `)` at its end")
        self._next += 1
        return query.wanted[0] if len(query.wanted) == 1 and not query.unwanted else AnyOf((query,))


def _split(text: str) -> Iterator[Token]:
    """Yield the tokens; blanks and parentheses inside quotation marks do not separate."""
    at, end = 0, len(text)
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        if text[at] == CLOSE:
            yield Token(at, CLOSE)
            at += 1
            continue
        start, negated = at, text[at] == "-"
        at += negated
        if text[at:at + 1] == OPEN:
            yield Token(start, OPEN, negated)
            at += 1
            continue
        at = _end_of(text, at, start)
        if text[start:at] == "-" or (negated and text[start + 1] == "-"):
            raise _wrong(start, text[start:at], "excludes nothing; put one `-` directly before a term, or remove it")
        yield Token(start + negated, text[start + negated:at], negated)


def _end_of(text: str, at: int, start: int) -> int:
    """Return the end of the term at `at`: a blank or a parenthesis outside of quotation marks."""
    begin, end = at, len(text)
    while at < end and not text[at].isspace():
        if text[at] == '"':
            if at > begin and text[at - 1] != ":":
                raise _wrong(begin, text[begin:at + 1], "has a quotation mark inside; a phrase starts and ends with one")
            close = text.find('"', at + 1)
            if close < 0:
                raise _wrong(start, text[start:], 'opens a phrase that is never closed; add a `"` at its end')
            at = close + 1
            if at < end and not text[at].isspace() and text[at] != CLOSE:
                raise _wrong(start, text[start:at + 1], "continues after the phrase; put a blank after the quotation mark")
            return at
        if text[at] == CLOSE and OPEN not in text[begin:at]:
            return at
        at += 1
    return at


def _term(token: Token) -> Term:
    raw, at = token.text, token.at
    name, colon, value = raw.partition(":")
    if raw.startswith('"'):
        return Phrase(_readable(raw[1:-1], raw, at))
    if raw == OR:
        raise _wrong(at, raw, "is an operator, which cannot be excluded; write the word in lower case, or leave the `-` out")
    if raw == AND:
        raise _wrong(at, raw, "is no operator: a blank means that both match; write the word in lower case, or leave it out")
    if raw[0] in SIGNS:
        return Tag(_tag(raw, at))
    if raw[0] in "@＠":
        return Mention(_username(raw[1:], raw, at, "@"))
    if raw[0] == "$" and (found := entities.cashtags(raw)) and found[0].end == len(raw):
        return Cashtag(found[0].value.lower())
    if colon and name.lower() in OPERATORS:
        return OPERATORS[name.lower()](value, raw, at)
    if colon and value and name.lower() in UNSUPPORTED:
        raise _wrong(at, raw, f"uses an operator that is not supported; supported are {SUPPORTED}")
    if '"' in raw:
        raise _wrong(at, raw, "has a quotation mark inside; a phrase starts and ends with one")
    return Word(_readable(raw, raw, at))


def _readable(text: str, raw: str, at: int) -> str:
    """Return `text` if it holds anything that is indexed."""
    if not fold.required(text):
        raise _wrong(at, raw, "holds no letter, digit or emoji; only those are indexed")
    return text


def _tag(raw: str, at: int) -> str:
    found = entities.hashtags(raw)
    if [(tag.start, tag.end) for tag in found] != [(0, len(raw))]:
        raise _wrong(at, raw, "is not a hashtag; after the `#` it must have letters, digits and underscores, not digits alone")
    return fold.tag(found[0].value)


def _username(text: str, raw: str, at: int, sign: str) -> str:
    name = text.removeprefix("@") if sign != "@" else text
    if not (1 <= len(name) <= MAX_USERNAME and name.isascii() and name.replace("_", "a").isalnum()):
        raise _wrong(at, raw, f"is not a username; after `{sign}` it must have 1 to {MAX_USERNAME} letters, digits or "
                     "underscores")
    return name.lower()


def _conversation(value: str, raw: str, at: int) -> Term:
    if not (value.isascii() and value.isdigit() and len(value) <= 19 and int(value) <= ids.MAX_ID):
        raise _wrong(at, raw, "names no tweet; after `conversation_id:` it must have a decimal id")
    return Conversation(int(value))


def _link(value: str, raw: str, at: int) -> Term:
    url = value.removeprefix('"').removesuffix('"')
    parts = fold.address(url)
    if not parts or ("://" in url and not urls.is_url(url)):
        raise _wrong(at, raw, "names no URL; after `url:` it must have a URL or a part of one, without blanks")
    return Link(parts)


def _has(value: str, raw: str, at: int) -> Term:
    if value.lower() not in searchable.HAS:
        raise _wrong(at, raw, f"is not supported; `has:` may name {', '.join(searchable.HAS)}")
    return Has(value.lower())


def _is(value: str, raw: str, at: int) -> Term:
    if value.lower() not in IS:
        raise _wrong(at, raw, f"is not supported; `is:` may name {', '.join(IS)}")
    return Has(searchable.REPLY) if value.lower() == "reply" else Retweet()


OPERATORS: dict[str, Callable[[str, str, int], Term]] = {
    "conversation_id": _conversation,
    "from": lambda value, raw, at: From(_username(value, raw, at, "from:")),
    "has": _has,
    "is": _is,
    "to": lambda value, raw, at: To(_username(value, raw, at, "to:")),
    "url": _link,
}
"""Operator -> what builds its term from (value, the whole term, its position)."""
SUPPORTED = ('words, "phrase", #tag, $cashtag, @username, from:, to:, conversation_id:, url:, '
             f"has:{'|'.join(searchable.HAS)}, is:{'|'.join(IS)}, OR, groups, and - before any of them")


def _wrong(at: int, shown: str, what: str) -> WrongInput:
    return WrongInput(f"`query` is wrong at character {at + 1}: {shown[:40]!r} {what}.")
