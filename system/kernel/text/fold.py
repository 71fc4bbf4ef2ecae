"""What a search compares: the tokens of a text and of a query, folded by one rule on both sides.

| in the text | token |
|---|---|
| letters, marks and digits of any script, joined by `'`, `.`, `·`, `׳`, `״` inside a word | the word, folded |
| a run of a script without blanks between words | each pair of adjacent characters; one alone is itself |
| an emoji, however many code points it has | the emoji without skin tone and variant |
| another symbol | the symbol |

Scripts without blanks: Chinese, Japanese, Thai, Lao, Khmer, Burmese; and Korean, whose words carry endings.

Folding is Unicode's NFKC_Casefold: compatibility forms (full and half width, ligatures), case (ß is ss) and
composed marks are equal, and invisible code points (joiners, direction, soft hyphen) do not count.

The analysis is done here, and not in the index: it is the same in every build of the index, and the index
only splits at blanks. Tokens keep their order, so a phrase is a sequence of adjacent tokens. A run of two or
more characters in a query is a phrase of pairs: it finds the run anywhere in a longer one. A single character
is in no pair of its own, so texts with such scripts have a second sequence, with each character by itself.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from system.kernel.text.rules import EMOJI, IGNORABLE, TONES, VARIANT

WORDS, CHARACTERS = "words", "characters"
"""The two sequences of a text: with pairs, and with single characters."""
MAX_TOKEN = 200  # code points; the index splits longer ones at 255 UTF-16 units
BREAK = "|"      # between two runs, so that a pair of each is no longer run; no query holds it
UNSEGMENTED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u109f\u1100-\u11ff\u1780-\u17d3"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff"
    "\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff")
"""Characters of scripts without blanks between words, as a class."""
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u02b9\u201b", "'"))
_ASCII_WORD = re.compile(r"[a-z0-9_]+(?:['.][a-z0-9_]+)*")
_NOT_IN_EMOJI = re.compile(f"[{TONES}{VARIANT}]")
_LAST_MARK = 0x1EFFF  # no marks or symbols above, except variation selectors, which are ignored
_ADDRESS_PART = re.compile(r"\w+")


def folded(text: str) -> str:
    """Return the text in the form in which it is compared."""
    if text.isascii():
        return text.lower()
    once = unicodedata.normalize("NFKC", IGNORABLE.sub("", text)).casefold()
    return unicodedata.normalize("NFKC", IGNORABLE.sub("", once)).translate(_APOSTROPHES)


@functools.cache
def _token() -> re.Pattern[str]:
    """Return the pattern of a token in folded text. Built at its first use: it takes 20 ms."""
    marks, symbols = [], []
    for code in range(_LAST_MARK + 1):
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            marks.append(chr(code))
        elif category == "So":
            symbols.append(chr(code))
    word = f"(?:(?![{UNSEGMENTED}])[\\w{''.join(marks)}])"
    return re.compile(f"(?P<run>[{UNSEGMENTED}]+)|(?P<word>{word}+(?:['.·׳״]{word}+)*)|(?P<symbol>[{''.join(symbols)}])")


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a run of an unsegmented script, the folded piece), in order."""
    if text.isascii():
        yield from ((False, word) for word in _ASCII_WORD.findall(text.lower()))
        return
    end = 0
    for emoji in EMOJI.finditer(text):
        yield from _plain(text[end:emoji.start()])
        token = _NOT_IN_EMOJI.sub("", emoji[0])
        yield from ((False, part) for part in [token or emoji[0]])
        end = emoji.end()
    yield from _plain(text[end:])


def _plain(text: str) -> Iterator[tuple[bool, str]]:
    if text:
        yield from ((match.lastgroup == "run", match[0]) for match in _token().finditer(folded(text)))


def _pairs(run: str) -> list[str]:
    return [run[at:at + 2] for at in range(len(run) - 1)] or [run]


def _cut(tokens: Iterable[str]) -> list[str]:
    return [token[at:at + MAX_TOKEN] for token in tokens for at in range(0, len(token), MAX_TOKEN)]


def tokens(text: str) -> list[str]:
    """Return the tokens of a text in order, with pairs for unsegmented scripts."""
    if text.isascii():
        words = _ASCII_WORD.findall(text.lower())
        return words if max(map(len, words), default=0) <= MAX_TOKEN else _cut(words)
    return _sequence(_pieces(text), _pairs)


def characters(text: str) -> list[str]:
    """Return the tokens of a text in order, with single characters for unsegmented scripts; [] if it has none of them."""
    if text.isascii():
        return []
    pieces = list(_pieces(text))
    if not any(is_run for is_run, _ in pieces):
        return []
    return _sequence(pieces, list)


def _sequence(pieces: Iterable[tuple[bool, str]], split: Callable[[str], list[str]]) -> list[str]:
    found: list[str] = []
    after_run = False
    for is_run, piece in pieces:
        if is_run and after_run:
            found.append(BREAK)
        found.extend(split(piece) if is_run else _cut([piece]))
        after_run = is_run
    return found


def required(text: str, in_order: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    """Return what a text must hold to match this part of a query: (WORDS or CHARACTERS, adjacent tokens), all of them.

    `in_order`: all tokens of the query must be adjacent. Empty if the query holds nothing that is indexed.
    """
    pieces = list(_pieces(text))
    if not in_order:
        return list(dict.fromkeys(part for piece in pieces for part in _parts(*piece)))
    if not pieces:
        return []
    if any(is_run and len(piece) == 1 for is_run, piece in pieces):
        return [(CHARACTERS, tuple(characters(text)))]
    return [(WORDS, tuple(tokens(text)))]


def _parts(is_run: bool, piece: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if is_run and len(piece) == 1:
        yield CHARACTERS, (piece,)
    elif is_run:
        yield WORDS, tuple(_pairs(piece))
    else:
        yield WORDS, tuple(_cut([piece]))


def tag(name: str) -> str:
    """Return the form in which hashtags are compared."""
    return folded(name)


def address(url: str) -> tuple[str, ...]:
    """Return the parts of a URL, without its protocol, as they are compared."""
    parts = _ADDRESS_PART.findall(folded(url))
    return tuple(parts[1:] if parts[:1] in (["http"], ["https"]) else parts)
