"""Entities of a text: URLs, hashtags, mentions and cashtags with their positions, as Twitter's API v2 shows them.

Positions count code points of the text as it was sent. Entities never overlap: the one that begins first
stays. They are a function of the text, except for the ids of mentioned users, which are looked up at the
post. They are computed when a tweet is written, and stored with it as JSON (`pack`); a tweet that was stored
before has none, and gets them when it is read (`of`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson

from system.kernel.text.urls import DIRECTIONAL, LATIN, SPACES, urls

MAX_DISPLAY = 30  # characters of a URL that a client shows; longer ones end in an ellipsis
_AT, _SIGNS = "@＠", "#＃"
# In hashtags besides letters, marks and digits: joiners of Persian and Sinhala, Catalan's middle dot, marks
# of Hebrew, Japanese, Tibetan and old Cyrillic.
_IN_TAG = frozenset("_\u200c\u200d\ua67e\u05be\u05f3\u05f4\uff5e\u301c\u309b\u309c\u30a0\u30fb\u3003\u0f0b\u0f0c\u00b7")
_VARIANTS = "\ufe0e\ufe0f"
_TRIGGER = re.compile(r"[@＠#＃$.]")
_RETWEET = re.compile(r"(?:^|[^a-zA-Z0-9_+~.\-])rt:?$", re.IGNORECASE)
_NAME = re.compile(r"[a-zA-Z0-9_]{1,20}")
_LIST = re.compile(r"/[a-zA-Z][a-zA-Z0-9_\-]{0,24}")
_NOT_BEFORE_NAME = re.compile(r"[a-zA-Z0-9_!#$%&*@＠]")
_NOT_AFTER_NAME = re.compile(rf"[@＠{LATIN}]|://")
_NOT_AFTER_TAG = re.compile(r"[#＃]|://")
_CASHTAG = re.compile(rf"(?:^|(?<=[{SPACES}{DIRECTIONAL}]))\$([a-zA-Z]{{1,6}}(?:[._][a-zA-Z]{{1,2}})?)"
                      rf"(?=$|\s|[!'#%&\"()*+,\\\-./:;<=>?@\[\]^_{{|}}~$])")
_REPLY = re.compile(rf"[{SPACES}{DIRECTIONAL}]*[@＠]([a-zA-Z0-9_]{{1,20}})")


class Entity(NamedTuple):
    """One entity: code points `start` to `end` (exclusive). `value`: without its sign; a URL as written."""

    start: int
    end: int
    kind: str
    value: str


def entities(text: str) -> list[Entity]:
    """Return the entities of a text, in order, without overlaps."""
    if _TRIGGER.search(text) is None:
        return []  # most texts
    every = [Entity(url.start, url.end, "urls", url.url) for url in urls(text)]
    every += mentions(text) + hashtags(text) + cashtags(text)
    every.sort()
    kept: list[Entity] = []
    for entity in every:
        if not kept or entity.start >= kept[-1].end:
            kept.append(entity)
    return kept


def mentions(text: str, lists: bool = False) -> list[Entity]:
    """Return the mentions of users. `lists`: those of lists too, with a value like `ann/birds`."""
    found: list[Entity] = []
    for at in _places(text, _AT):
        name = _NAME.match(text, at + 1)
        if name is None or not _may_begin_name(text, at):
            continue
        end = name.end()
        slug = _LIST.match(text, end)
        if _NOT_AFTER_NAME.match(text, slug.end() if slug else end):
            continue
        if slug is None:
            found.append(Entity(at, end, "mentions", name[0]))
        elif lists:
            found.append(Entity(at, slug.end(), "mentions", name[0] + slug[0]))
    return found


def _places(text: str, signs: str) -> list[int]:
    return [at for at, char in enumerate(text) if char in signs] if any(sign in text for sign in signs) else []


def _may_begin_name(text: str, at: int) -> bool:
    """Return whether a mention may begin at `at`: not inside a word or an address, but after RT."""
    return not at or not _NOT_BEFORE_NAME.match(text, at - 1) or _RETWEET.search(text, max(0, at - 4), at) is not None


def reply_to(text: str) -> str | None:
    """Return the username that the text begins with, None if it does not begin with a mention."""
    match = _REPLY.match(text)
    return None if match is None or _NOT_AFTER_NAME.match(text, match.end()) else match[1]


def hashtags(text: str) -> list[Entity]:
    """Return the hashtags outside of URLs."""
    places = _places(text, _SIGNS)
    if not places:
        return []
    inside = [(url.start, url.end) for url in urls(text)]
    found: list[Entity] = []
    for at in places:
        if at and not _may_precede(text[at - 1]):
            continue
        end = at + 1
        while end < len(text) and is_in_tag(text[end]):
            end += 1
        if text[at + 1:at + 2] in ("\ufe0f", "\u20e3") or not any(map(_is_letter, text[at + 1:end])):
            continue
        if _NOT_AFTER_TAG.match(text, end) or any(start <= at < stop for start, stop in inside):
            continue
        found.append(Entity(at, end, "hashtags", text[at + 1:end]))
    return found


@lru_cache(maxsize=4096)
def is_in_tag(char: str) -> bool:
    """Return whether a hashtag may hold this character."""
    category = unicodedata.category(char)
    return category[0] in "LM" or category == "Nd" or char in _IN_TAG


def _is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] in "LM"


def _may_precede(char: str) -> bool:
    """Return whether a hashtag may follow this character: no letter or digit, and no `&`, but an emoji."""
    return char in _VARIANTS or (char != "&" and not is_in_tag(char))


def cashtags(text: str) -> list[Entity]:
    """Return the cashtags."""
    if "$" not in text:
        return []
    return [Entity(match.start(), match.end(), "cashtags", match[1]) for match in _CASHTAG.finditer(text)]


# ---- as JSON -----------------------------------------------------------------------------------------------


def _shown_url(entity: Entity) -> dict[str, Any]:
    bare = re.sub(r"^https?://(www\.)?", "", entity.value, flags=re.IGNORECASE)
    shown = bare if len(bare) <= MAX_DISPLAY else f"{bare[:MAX_DISPLAY - 1]}…"
    full = entity.value if "://" in entity.value[:8] else f"http://{entity.value}"
    return {"start": entity.start, "end": entity.end, "url": entity.value, "expanded_url": full, "display_url": shown}


_SHAPES: dict[str, Callable[[Entity], dict[str, Any]]] = {
    "urls": _shown_url,
    "hashtags": lambda entity: {"start": entity.start, "end": entity.end, "tag": entity.value},
    "mentions": lambda entity: {"start": entity.start, "end": entity.end, "username": entity.value},
    "cashtags": lambda entity: {"start": entity.start, "end": entity.end, "tag": entity.value},
}


def packed(text: str) -> str:
    """Return the entities of a text as JSON in the shape of Twitter's API v2; "" if it has none."""
    return pack(entities(text))


def pack(found: Sequence[Entity], user_ids: Mapping[str, int] | None = None) -> str:
    """Return these entities as JSON; "" if there are none. `user_ids`: of the mentioned users that exist, by lower-case name."""
    if not found:
        return ""
    shape: dict[str, list[dict[str, Any]]] = {}
    for entity in found:
        part = _SHAPES[entity.kind](entity)
        if user_ids and entity.kind == "mentions" and entity.value.lower() in user_ids:
            part["id"] = str(user_ids[entity.value.lower()])
        shape.setdefault(entity.kind, []).append(part)
    return orjson.dumps(shape).decode()


def names_in(found: Iterable[Entity]) -> list[str]:
    """Return the usernames among these entities, in lower case, each once."""
    return list(dict.fromkeys(entity.value.lower() for entity in found if entity.kind == "mentions"))


class Stored(Protocol):
    """What has a text and the entities that were stored with it: a tweet."""

    @property
    def text(self) -> str: ...

    @property
    def entities(self) -> str | None: ...


def of(tweet: Stored) -> str:
    """Return the packed entities of a tweet; "" if it has none. Computes them if it was stored without them."""
    return packed(tweet.text) if tweet.entities is None else tweet.entities


def unpacked(stored: str) -> dict[str, list[dict[str, Any]]]:
    """Return what `packed` returned, as objects: kind -> entities."""
    return dict(orjson.loads(stored)) if stored else {}


def mentioned(stored: str) -> tuple[str, ...]:
    """Return the usernames in packed entities, in lower case, each once, in order of appearance."""
    if '"mentions"' not in stored:
        return ()
    return tuple(dict.fromkeys(mention["username"].lower() for mention in unpacked(stored)["mentions"]))
