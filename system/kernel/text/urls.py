"""URLs in a text, as Twitter finds them: with a protocol, or as a bare domain of a known top-level domain.

    url      = [ "http://" or "https://" ] domain [ ":" port ] [ path ] [ "?" query ]
    domain   = { label "." } label "." top-level-domain         a "_" only left of the last label before it
    path     = characters of a path, and balanced parentheses; trailing punctuation is not part of it

A bare domain consists of Latin letters, digits and hyphens (the text around it may be in any script), and has
no port or query without a path. The scan is linear in the length of the text: no regular expression here
repeats a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from system.kernel.text.rules import DOMAINS, DOMAINS_BY_CHAR

MAX_LABEL = 63     # octets of a label in its ASCII form; RFC 1035
MAX_URL = 4096     # characters of a URL; Twitter's
MAX_SLUG = 40      # characters after https://t.co/; Twitter's
INVALID = "\ufffe\ufeff\uffff"
"""Code points that no tweet may hold."""
SPACES = "\t-\r \x85\xa0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
DIRECTIONAL = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
LATIN = ("À-ÖØ-öø-\u024f\u0253\u0254\u0256\u0257\u0259\u025b\u0263\u0268\u026f\u0272\u0289\u028b\u02bb"
         "\u0300-\u036f\u1e00-\u1eff")
"""Latin letters with marks, as characters of a class."""
_CYRILLIC = "\u0400-\u04ff"
_PUNCTUATION = r"\-_!\"#%&'()*+,./:;<=>?@\[\\\]^`{|}~$"
_NOT_BEFORE = re.compile(rf"[A-Za-z0-9@＠$#＃{INVALID}]")
_NOT_BEFORE_BARE = re.compile(rf"[A-Za-z0-9@＠$#＃{INVALID}\-_./]")
_PROTOCOL = re.compile(r"https?://", re.IGNORECASE)
_HOST = re.compile(rf"[^{_PUNCTUATION}{SPACES}{INVALID}{DIRECTIONAL}](?:[^{_PUNCTUATION}{SPACES}{INVALID}{DIRECTIONAL}]|[\-_.])*")
_BARE = re.compile(rf"[A-Za-z0-9{LATIN}][A-Za-z0-9{LATIN}\-_.]*")
_TOP = re.compile(r"[A-Za-z]+")
_PUNYCODE = re.compile(r"xn--[\-0-9a-z]+", re.IGNORECASE)
_NOT_AFTER_TOP = re.compile(r"[0-9A-Za-z@+\-]")
_PORT = re.compile(r":[0-9]+")
_PLAIN = rf"A-Za-z{_CYRILLIC}0-9!*';:=+,.$/%#\[\]\-\u2013_~@|&{LATIN}"
_PATH_RUN = re.compile(rf"[{_PLAIN}]+")
_PARENTHESES = re.compile(rf"\([{_PLAIN}]*(?:\([{_PLAIN}]+\)[{_PLAIN}]*)?\)")
_PATH_END = re.compile(rf"[A-Za-z{_CYRILLIC}0-9=_#/+\-{LATIN}]")
_QUERY_RUN = re.compile(r"[A-Za-z0-9!?*'@();:&=+$/%#\[\]\-_.,~|]+")
_QUERY_END = re.compile(r"[A-Za-z0-9\-_&=#/]")
_SHORT = re.compile(r"https?://t\.co/([A-Za-z0-9]+)", re.IGNORECASE)
_USER = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+(?::(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)?@")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9A-Za-z.])|\[[0-9A-Fa-f:.]+\]")
_REST = re.compile(rf"(?::[0-9]{{1,5}})?(?:/(?:[A-Za-z{_CYRILLIC}0-9\-._~!$&'()*+,;=:@/|]|%[0-9A-Fa-f]{{2}})*)?"
                   r"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?|\[\]]|%[0-9A-Fa-f]{2})*)?"
                   r"(?:#(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?|]|%[0-9A-Fa-f]{2})*)?")


class Url(NamedTuple):
    """A URL in a text: code points `start` to `end` (exclusive)."""

    start: int
    end: int
    url: str


def urls(text: str) -> list[Url]:
    """Return the URLs of a text, in order."""
    if "." not in text:
        return []
    found: list[Url] = []
    end = 0
    for match in _PROTOCOL.finditer(text):
        if match.start() < end:
            continue  # inside the URL before, such as a referrer in its query
        found.extend(_bare(text, end, match.start()))
        found, end = _with_protocol(text, match, found, end)
    found.extend(_bare(text, end, len(text)))
    return found


def _with_protocol(text: str, match: re.Match[str], found: list[Url], end: int) -> tuple[list[Url], int]:
    """Append the URL that begins at `match`. Return the URLs and the end of what was read."""
    start = match.start()
    if start and _NOT_BEFORE.match(text, start - 1):
        return found, max(end, start)
    host = _HOST.match(text, match.end())
    stop = _domain_end(text, host.start(), text.rfind(".", host.start(), host.end())) if host else None
    if stop is None:
        return found, max(end, start)
    port = _PORT.match(text, stop)
    stop_of_host = port.end() if port else stop
    slash = text[stop_of_host:stop_of_host + 1] == "/"
    ended = _query_end(text, _path_end(text, stop_of_host) if slash else stop_of_host)
    short = _SHORT.match(text, start)
    if short:
        if len(short[1]) > MAX_SLUG:
            return found, ended
        ended = _query_end(text, short.end())
    if _is_valid(text[match.end():stop], ended - start):
        found.append(Url(start, ended, text[start:ended]))
    return found, ended


def _bare(text: str, begin: int, stop: int) -> Iterator[Url]:
    """Yield the URLs without a protocol that lie within text[begin:stop]."""
    at = begin
    for run in _BARE.finditer(text, begin, stop):
        start, dot = run.start(), text.rfind(".", run.start(), run.end())
        if start < at or dot < 0 or (start and _NOT_BEFORE_BARE.match(text, start - 1)):
            continue
        end = _domain_end(text, start, dot)
        if end is None:
            continue
        domain = text[start:end]
        port = _PORT.match(text, end)
        after = port.end() if port else end
        if text[after:after + 1] == "/":
            end = _query_end(text, _path_end(text, after))
        if _is_valid(domain, end - start):
            yield Url(start, end, text[start:end])
        at = end


def _domain_end(text: str, start: int, dot: int) -> int | None:
    """Return the end of the longest domain in text[start:] with its last dot at `dot` or before; None if there is none."""
    valid_to = _valid_to(text, start, dot)
    while dot > start:
        if dot <= valid_to and (end := _top_end(text, dot + 1)) is not None:
            name = text[text.rfind(".", start, dot) + 1 or start:dot]
            if "_" not in name:  # allowed in the labels of a host, not in a name that a registry gives out
                return end
        dot = text.rfind(".", start, dot)
    return None


def _valid_to(text: str, start: int, dot: int) -> int:
    """Return the position of the last dot, at most `dot`, before which every label from `start` on is valid."""
    begin = start
    for label in text[start:dot].split("."):
        if not label or label[0] in "-_" or label[-1] in "-_":
            return begin - 1
        begin += len(label) + 1
    return dot


def _top_end(text: str, start: int) -> int | None:
    """Return the end of the top-level domain at `start`, None if there is none."""
    if (match := _PUNYCODE.match(text, start)) is not None:
        return match.end()
    for name in DOMAINS_BY_CHAR.get(text[start:start + 1].lower(), ()):
        end = start + len(name)
        if text[start:end].lower() == name and not _NOT_AFTER_TOP.match(text, end):
            return end
    match = _TOP.match(text, start)
    if match is None or match[0].lower() not in DOMAINS or _NOT_AFTER_TOP.match(text, match.end()):
        return None
    return match.end()


def _path_end(text: str, start: int) -> int:
    """Return the end of the path that begins at the slash at `start`: after its last character that may end one."""
    at, end = start, start
    while True:
        if (match := _PATH_RUN.match(text, at)) is not None:
            at = match.end()
            last = at
            while last > match.start() and not _PATH_END.match(text, last - 1):
                last -= 1
            end = last if last > match.start() else end
        elif (match := _PARENTHESES.match(text, at)) is not None:
            at = end = match.end()
        else:
            return end


def _query_end(text: str, start: int) -> int:
    """Return the end of the query that begins at `start`; `start` if there is none."""
    if text[start:start + 1] != "?" or (match := _QUERY_RUN.match(text, start + 1)) is None:
        return start
    end = match.end()
    while end > start + 1 and not _QUERY_END.match(text, end - 1):
        end -= 1
    return end if end > start + 1 else start


def _is_valid(domain: str, length: int) -> bool:
    """Return whether the labels of a domain fit into DNS in their ASCII form, and the URL is not too long."""
    if length > MAX_URL:
        return False
    if domain.isascii() and len(domain) <= MAX_LABEL:
        return True
    added = 0
    for label in domain.split("."):
        if not label.isascii():
            if label.lower().startswith("xn--"):
                return False
            encoded = len("xn--") + len(label.lower().encode("punycode"))
            added += encoded - len(label)
        else:
            encoded = len(label)
        if encoded > MAX_LABEL:
            return False
    return length + added <= MAX_URL


def is_url(text: str, protocol: bool = True) -> bool:
    """Return whether the whole text is one URL of http or https by its syntax. `protocol`: it must name one.

    Wider than what is found in texts: a user and password, an address, and a domain of any name are valid.
    """
    match = _PROTOCOL.match(text)
    if match is None and (protocol or "://" in text):
        return False
    at = match.end() if match else 0
    if (user := _USER.match(text, at)) is not None:
        at = user.end()
    host = _ADDRESS.match(text, at)
    if host is None:
        if (host := _HOST.match(text, at)) is None:
            return False
        labels = host[0].split(".")
        if len(labels) < 2 or not all(label and label[0] not in "-_" and label[-1] not in "-_" for label in labels):
            return False
        if "_" in labels[-1] + labels[-2] or labels[-1].isdigit() or not _is_valid(host[0], len(text)):
            return False
    return _REST.fullmatch(text, host.end()) is not None
