"""What a search finds of a tweet: a function of the tweet alone, the same for every index."""

from __future__ import annotations

from dataclasses import dataclass

from system.kernel.events import Tweet
from system.kernel.text import entities, fold

MEDIA, HASHTAGS, MENTIONS, LINKS, CASHTAGS, REPLY = "media", "hashtags", "mentions", "links", "cashtags", "reply"
HAS = (MEDIA, HASHTAGS, MENTIONS, LINKS, CASHTAGS)
"""What `has:` may name."""


@dataclass(frozen=True)
class Searchable:
    """The indexed parts of a tweet.

    `words`, `characters`: its tokens (`kernel/text/fold.py`). `hashtags`, `mentions`, `cashtags`: folded, each
    once. `links`: the parts of each URL. `has`: which of HAS it has, and REPLY if it is one.
    """

    words: tuple[str, ...]
    characters: tuple[str, ...]
    hashtags: tuple[str, ...]
    mentions: tuple[str, ...]
    cashtags: tuple[str, ...]
    links: tuple[tuple[str, ...], ...]
    has: tuple[str, ...]


def of(tweet: Tweet) -> Searchable:
    """Return what a search finds of a tweet that is not deleted."""
    found = entities.unpacked(entities.of(tweet))
    hashtags = tuple(dict.fromkeys(fold.tag(part["tag"]) for part in found.get("hashtags", ())))
    cashtags = tuple(dict.fromkeys(part["tag"].lower() for part in found.get("cashtags", ())))
    mentions = tuple(dict.fromkeys(part["username"].lower() for part in found.get("mentions", ())))
    links = tuple(fold.address(part["expanded_url"]) for part in found.get("urls", ()))
    parts = ((MEDIA, tweet.media_keys), (HASHTAGS, hashtags), (MENTIONS, mentions), (LINKS, links), (CASHTAGS, cashtags),
             (REPLY, tweet.in_reply_to is not None))
    return Searchable(tuple(fold.tokens(tweet.text)), tuple(fold.characters(tweet.text)), hashtags, mentions, cashtags, links,
                      tuple(name for name, value in parts if value))
