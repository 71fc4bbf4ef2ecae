"""What a query means, which hashtags a text holds, which version of a document wins. Decides; reads no clock, no store.

    query   = term { blank term }            all of them must hold
    term    = ["-"] ( phrase | tag | from | word )      with "-" it must not
    phrase  = '"' words '"'                  these words side by side
    tag     = "#" name                       this hashtag, exactly
    from    = "from:" username               tweets of this user
    word    = whatever else stands between blanks

Operators of Twitter's that the lab does not serve are refused, not taken for words: an answer to another question is worse
than none. A hashtag is `#` or `＃` at the start of a word, then letters, marks, digits and underscores of any script, not
digits alone; two are the same where Unicode's compatibility form (NFKC), case-folded, is the same.
"""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Iterator, Mapping

from system.kernel import ids
from system.kernel.errors import WrongInput
from system.kernel.search_query import From, Phrase, Query, Tag, Term, Word

MAX_QUERY = 512        # characters; Twitter's API v2 for recent search
MAX_TERMS = 16         # terms; each is one clause of a bool query
MAX_USERNAME = 15      # characters; Twitter's
DEFAULT_RESULTS = 10   # Twitter's API v2
MIN_RESULTS = 1        # Twitter asks for 10; a smaller page costs nobody
RELEVANCY, RECENCY = "relevancy", "recency"
SIGNS = "#＃"
UNSERVED = frozenset((  # operators of Twitter's API v2 that are not served
    "bio", "bio_location", "bio_name", "bounding_box", "context", "conversation_id", "entity", "followers_count", "has",
    "in_reply_to_tweet_id", "is", "lang", "list", "place", "place_country", "point_radius", "profile_country",
    "quotes_of_tweet_id", "retweets_of", "retweets_of_tweet_id", "sample", "since", "to", "tweets_count", "until", "url",
))
SERVED = 'words, #tag, from:username, "phrase", and - before any of them'


def parse(text: str | None) -> Query:
    """Return what a query asks for. Raises WrongInput naming the place, what stands there and the fix."""
    if not text or not text.strip():
        raise WrongInput(f"`query` is empty; it must hold 1 to {MAX_TERMS} terms: {SERVED}.")
    if len(text) > MAX_QUERY:
        raise WrongInput(f"`query` has {len(text)} characters; it may have {MAX_QUERY}. Ask for less.")
    wanted: dict[Term, None] = {}
    unwanted: dict[Term, None] = {}
    for at, raw in _cut(text):
        if raw.startswith("-"):
            unwanted[_term(raw[1:], at + 1, negated=True)] = None
        else:
            wanted[_term(raw, at)] = None
    if len(wanted) + len(unwanted) > MAX_TERMS:
        raise WrongInput(f"`query` holds {len(wanted) + len(unwanted)} terms; it may hold {MAX_TERMS}. Ask for less.")
    if not wanted:
        raise WrongInput("`query` only says what must not be there; add a word, #tag or from:username that must.")
    return Query(tuple(wanted), tuple(unwanted))


def _cut(text: str) -> Iterator[tuple[int, str]]:
    """Yield (position, term) of what stands between blanks; blanks inside quotation marks do not count."""
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
                raise _wrong(start, text[start:], 'opens a phrase and never closes it; add a `"` at its end')
            at += 1
            if at < end and not text[at].isspace():
                raise _wrong(start, text[start:at + 1], "goes on after the phrase; put a blank behind the quotation mark")
        else:
            while at < end and not text[at].isspace():
                at += 1
        yield start, text[start:at]


def _term(raw: str, at: int, negated: bool = False) -> Term:
    name, colon, rest = raw.partition(":")
    if not raw or (negated and raw.startswith("-")):
        raise _wrong(at - 1, f"-{raw}", "excludes nothing; put one `-` directly before a word, or take it away")
    if raw.startswith('"'):
        return Phrase(_readable(raw[1:-1], raw, at))
    if '"' in raw:
        raise _wrong(at, raw, "has a quotation mark inside; a phrase begins and ends with one")
    if raw[0] in SIGNS:
        return Tag(_tag(raw, at))
    if colon and name.lower() == "from":
        return From(_username(rest, raw, at))
    if colon and rest and name.lower() in UNSERVED:
        raise _wrong(at, raw, f"uses an operator that is not served; served are {SERVED}")
    if raw in ("OR", "AND") or raw.startswith("("):
        raise _wrong(at, raw, "asks for a choice or a group, which are not served; write the word in lower case, or search twice")
    return Word(_readable(raw, raw, at))


def _readable(text: str, raw: str, at: int) -> str:
    """Return `text` if an index can find words in it."""
    if not any(char.isalnum() or unicodedata.category(char) == "So" for char in text):
        raise _wrong(at, raw, "holds no letter, digit or picture; only those are indexed")
    return text


def _tag(raw: str, at: int) -> str:
    name = tag_of(raw[1:])
    if name is None:
        raise _wrong(at, raw, "is no hashtag: after the `#` come letters, digits and underscores, not digits alone")
    return name


def _username(text: str, raw: str, at: int) -> str:
    name = text.removeprefix("@")
    if not (1 <= len(name) <= MAX_USERNAME and name.isascii() and name.replace("_", "a").isalnum()):
        raise _wrong(at, raw, f"names no user; after `from:` come 1 to {MAX_USERNAME} letters, digits or underscores")
    return name.lower()


def _wrong(at: int, shown: str, what: str) -> WrongInput:
    return WrongInput(f"`query` is wrong at character {at + 1}: {shown[:40]!r} {what}.")


def tag_of(name: str) -> str | None:
    """Return the folded form of a hashtag's name; None where it is none."""
    if not name or not all(map(_in_tag, name)) or not any(unicodedata.category(char)[0] == "L" for char in name):
        return None
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _in_tag(char: str) -> bool:
    return char == "_" or unicodedata.category(char)[0] in "LMN"


def hashtags(text: str) -> tuple[str, ...]:
    """Return the folded hashtags of a text, each once, in their order."""
    if "#" not in text and "＃" not in text:
        return ()  # as most
    found: dict[str, None] = {}
    for at, char in enumerate(text):
        if char not in SIGNS or (at and (_in_tag(text[at - 1]) or text[at - 1] in "&/")):
            continue  # a sign inside a word, an HTML entity (&#39;) or a path (/#top) makes no hashtag
        end = at + 1
        while end < len(text) and _in_tag(text[end]):
            end += 1
        name = tag_of(text[at + 1:end])
        if name is not None:
            found[name] = None
    return tuple(found)


def order_of(text: str | None) -> str:
    """Return how the results are ordered. Raises WrongInput on what is neither `relevancy` (the default) nor `recency`."""
    if text not in (None, RELEVANCY, RECENCY):
        raise WrongInput(f"`sort_order` is {text[:40]!r}; it must be {RELEVANCY} or {RECENCY}.")
    return text or RELEVANCY


def moment_ms(text: str, name: str) -> int:
    """Return a time like 2026-11-22T18:00:00Z in ms since 1970. Raises WrongInput."""
    try:
        if not text.endswith("Z"):
            raise ValueError("it has no Z")
        return int(datetime.datetime.fromisoformat(text).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise WrongInput(f"`{name}` is {text[:40]!r}; it must be a UTC time like 2026-11-22T18:00:00Z.") from None


def bounds(params: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return (before, since), exclusive bounds of ids: the tightest of `until_id`, `end_time` (exclusive), `since_id` and
    `start_time` (inclusive). They may leave no room. Raises WrongInput on what is no id or time."""
    uppers = [ids.parse(params["until_id"], "until_id")] if "until_id" in params else []
    lowers = [ids.parse(params["since_id"], "since_id")] if "since_id" in params else []
    if "end_time" in params:
        uppers.append(max(0, ids.floor_id(moment_ms(params["end_time"], "end_time"))))
    if "start_time" in params:
        lowers.append(max(0, ids.floor_id(moment_ms(params["start_time"], "start_time")) - 1))
    return min((*uppers, ids.MAX_ID)) if uppers else None, min(max(lowers), ids.MAX_ID) if lowers else None


def version(deleted: bool, read_began_ns: int, read_ended_ns: int) -> int:
    """Return the external version of a document that was read from the truth between the two wall times.

    A live one counts from the begin of its read, a deleted one from the end: a read that still saw the
    tweet alive began before any read that saw it deleted had ended, so it can never win.
    """
    return read_ended_ns if deleted else read_began_ns
