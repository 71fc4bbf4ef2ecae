"""The tables behind the rules of texts: emoji, top-level domains, weights. The web client reads the same file.

`rules.json` is data of Unicode and of IANA; `python -m bench.text.rules_data` writes it. An emoji is matched by
its structure (Unicode Technical Standard 51, possible emoji), from the emoji characters of Unicode:

    keycap   = digit or # or *, [variant], U+20E3
    flag     = two regional indicators that name a region
    region   = black flag, the tags of England, Scotland or Wales, cancel tag
    element  = emoji character, [skin tone], [variant]
    sequence = element { ZWJ element }                 at most MAX_JOINED elements, as in every emoji of Unicode
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("rules.json")
MAX_JOINED = 4  # elements: a family of four is the longest; without a limit one emoji would hold any length of text
FIRST_FLAG = 0x1F1E6
TONES = "\U0001f3fb-\U0001f3ff"
VARIANT = "\ufe0f"
ZWJ = "\u200d"
_TEXT_BY_DEFAULT = (0xA9, 0xAE)  # © and ®: emoji only with a variant selector, as Twitter's own list has them

_DATA: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
DOMAINS: frozenset[str] = frozenset(_DATA["domains"])
"""Top-level domains in lower case, in Unicode."""
DOMAINS_BY_CHAR: dict[str, tuple[str, ...]] = {}
"""First character -> the top-level domains in other scripts that begin with it, longest first."""
for _name in sorted((name for name in DOMAINS if not name.isascii()), key=len, reverse=True):
    DOMAINS_BY_CHAR[_name[0]] = (*DOMAINS_BY_CHAR.get(_name[0], ()), _name)


def _class(ranges: list[list[int]]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges if first not in _TEXT_BY_DEFAULT)


def _emoji() -> str:
    indicators = {name: "".join(chr(ord(char) - ord("A") + FIRST_FLAG) for char in name) for name in _DATA["flags"]}
    by_first: dict[str, str] = {}
    for pair in indicators.values():
        by_first[pair[0]] = by_first.get(pair[0], "") + pair[1]
    flags = "|".join(f"{first}[{seconds}]" for first, seconds in by_first.items())
    regions = "|".join("".join(chr(ord(char) + 0xE0000) for char in name) for name in _DATA["regions"])
    element = f"(?:[{_class(_DATA['toned'])}][{TONES}]|[{_class(_DATA['emoji'])}]|[©®](?={VARIANT})){VARIANT}?"
    return (f"[0-9#*]{VARIANT}?\u20e3|{flags}|\U0001f3f4(?:{regions})\U000e007f|"
            f"{element}(?:{ZWJ}{element}){{0,{MAX_JOINED - 1}}}")


EMOJI = re.compile(_emoji())
"""Matches one emoji."""
IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")
"""Matches one invisible code point: Unicode's Default_Ignorable_Code_Point."""
