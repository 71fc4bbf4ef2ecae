"""The length of a text as Twitter counts it, and whether it may be posted.

| part of the text, in Unicode's composed form (NFC) | counts |
|---|---|
| URL | 23 |
| emoji, however many code points it has | 2 |
| code point of U+0000 to U+10FF, or common punctuation and spaces of U+2000 to U+2037 | 1 |
| any other code point, such as Chinese, Japanese and Korean | 2 |

A text may count 280. It must not hold U+FFFE, U+FEFF or U+FFFF. The weights are those of version 3 of
Twitter's configuration.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from system.kernel.text.rules import EMOJI, IGNORABLE
from system.kernel.text.urls import INVALID, urls

MAX_WEIGHT = 280
URL_WEIGHT = 23
EMOJI_WEIGHT = 2
_INVALID = re.compile(f"[{INVALID}]")
_HEAVY = re.compile("[^\u0000-\u10ff\u2000-\u200d\u2010-\u201f\u2032-\u2037]")


@dataclass(frozen=True)
class Measure:
    """The length of a text.

    `weight`: what it counts. `valid`: whether it may be posted. `valid_end`: number of code points, of the
    text's composed form, that fit. `composed`: that form.
    """

    weight: int
    valid: bool
    valid_end: int
    composed: str


def weight(text: str) -> int:
    """Return what a text counts. Linear in its length."""
    if text.isascii() and "." not in text:
        return len(text)  # no URL, no emoji (a keycap has U+20E3), and each character counts 1
    return _total(unicodedata.normalize("NFC", text))


def _total(composed: str) -> int:
    found = urls(composed)
    total, rest = URL_WEIGHT * len(found), composed
    if found:
        parts, end = [], 0
        for url in found:
            parts.append(composed[end:url.start])
            end = url.end
        # The separator keeps an emoji from joining across the URL that was taken out.
        rest = "\n".join([*parts, composed[end:]])
        total -= len(found)
    if rest.isascii():
        return total + len(rest)
    without, emoji = EMOJI.subn("", rest)
    return total + EMOJI_WEIGHT * emoji + len(without) + len(_HEAVY.findall(without))


def measure(text: str) -> Measure:
    """Return the length of a text, and how much of it fits."""
    composed = unicodedata.normalize("NFC", text)
    ends = {url.start: (url.end, URL_WEIGHT) for url in urls(composed)}
    for match in EMOJI.finditer(composed):
        ends.setdefault(match.start(), (match.end(), EMOJI_WEIGHT))
    total, at, valid_end, valid = 0, 0, 0, True
    while at < len(composed):
        char = composed[at]
        at, counted = ends.get(at) or (at + 1, 2 if _HEAVY.match(char) else 1)
        valid = valid and char not in INVALID
        total += counted
        if valid and total <= MAX_WEIGHT:
            valid_end = at
    return Measure(total, valid and 0 < total <= MAX_WEIGHT, valid_end, composed)


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: blanks and invisible code points alone."""
    return not text.strip() or (not text.isascii() and not IGNORABLE.sub("", text).strip())


def has_invalid(text: str) -> bool:
    """Return whether a text holds a code point that no tweet may hold."""
    return not text.isascii() and _INVALID.search(text) is not None
