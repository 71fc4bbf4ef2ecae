"""What may be uploaded, who may read it, and what is collected. Decides; reads no clock, no store.

A media id is `<owner>_<number>`, and its bytes lie under `media/<owner>/<number>`: the key can be told without a look-up.
A picture goes through these states, and only forward:

| state | bytes | who gets a link |
|---|---|---|
| initialised | none, or unchecked | nobody |
| finalised | checked: size, type, first bytes, digest | its owner |
| attached to a tweet | the same, for ever | whoever may read its author's tweets |
| condemned | removed, three times | nobody |

Once is not enough because an upload URL outlives its medium: for as long as it holds, its holder could put the bytes again, and
a PUT that began under it may take its time.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import NotFound, TooLarge, WrongInput

MAX_BYTES = 5 * 1024 * 1024  # Twitter's limit for pictures
STARTS = {  # type -> how the bytes of such a picture begin; a dot is any byte
    "image/gif": rb"GIF8[79]a",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/webp": rb"RIFF....WEBP",
}
TYPES = tuple(STARTS)
START_BYTES = 16
PUT_LIFE_S = 900    # seconds a signed upload URL holds
LATE_S = 60.0       # a PUT that began in time ends so much later, if nobody makes it slow on purpose
LONGEST_PUT_S = 86_400.0  # and so much later at most: 5 MiB at 60 bytes a second
MAX_KEY = 128       # characters of an Idempotency-Key
HITS = {"HIT": "hit", "REVALIDATED": "hit", "STALE": "stale", "UPDATING": "stale"}


@dataclass(frozen=True)
class Wanted:
    """What an upload is to be. `sha256`: hex, empty where the client does not say."""

    content_type: str
    size: int
    sha256: str = ""


def wanted(body: Any) -> Wanted:
    """Return what a JSON body asks to upload. Raises WrongInput or TooLarge."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `media_type` and `total_bytes`.")
    size = body.get("total_bytes")
    if isinstance(size, float) and size.is_integer():  # JSON has one kind of number: 8.0 is 8
        size = int(size)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise WrongInput(f"`total_bytes` is {str(size)[:40]!r}; it must be a whole number from 1 to {MAX_BYTES}.")
    sha256 = body.get("sha256", "")
    if "sha256" in body and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise WrongInput(f"`sha256` is {str(sha256)[:80]!r}; it must be the 64 lower-case hex digits of the picture's SHA-256, "
                         "or left out.")
    return Wanted(check(str(body.get("media_type", "")), size), size, sha256)


def check(content_type: str, size: int) -> str:
    """Return the type of a picture that may be kept. Raises WrongInput (type) or TooLarge (size in bytes)."""
    if content_type not in TYPES:
        raise WrongInput(f"`media_type` is {content_type[:60]!r}; it must be one of {', '.join(TYPES)}.")
    if size > MAX_BYTES:
        raise TooLarge(f"The picture has {size} bytes; the limit is {MAX_BYTES}. Send a smaller one.")
    return content_type


def looks_like(content_type: str, start: bytes) -> bool:
    """Do the first bytes of a picture fit its type?"""
    return re.match(STARTS[content_type], start, re.DOTALL) is not None


def mismatch(declared: Wanted, stored: Wanted, start: bytes) -> str:
    """Return what is wrong with stored bytes in one sentence; "" where they are what was declared. Digests must be known."""
    if stored.size != declared.size:
        return f"{stored.size} bytes were put and {declared.size} declared."
    if stored.content_type != declared.content_type:
        return f"The bytes were put as {stored.content_type[:60]!r} and declared as {declared.content_type!r}."
    if declared.sha256 and stored.sha256 != declared.sha256:
        return f"The SHA-256 of the bytes is {stored.sha256} and {declared.sha256} was declared."
    if not looks_like(declared.content_type, start):
        return f"The bytes begin with {start[:8].hex(' ')}: that is no {declared.content_type}."
    return ""


def check_key(key: str) -> str:
    """Return an Idempotency-Key that may be used. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def number_of(owner_id: int, key: str) -> int:
    """Return the number of the medium that an Idempotency-Key asks for: 62 bits of a digest, the same for each repeat."""
    return int.from_bytes(hashlib.sha256(f"{owner_id} {key}".encode()).digest()[:8]) >> 2


def media_id(owner_id: int, number: int) -> str:
    """Return the public id of a medium."""
    return f"{owner_id}_{number}"


def owner_of(text: str) -> int:
    """Return the owner of a public id. Raises NotFound where the text is no such id."""
    owner, _, number = text.partition("_")
    if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in (owner, number)):
        raise unknown(text)
    return int(owner)


def unknown(text: str) -> NotFound:
    """Return the one answer for what is absent, unfinished, removed, or hidden from the caller: they look alike."""
    return NotFound(f"No media with id {text[:60]!r}, or none that you may see.")


def is_shown(state: str, is_owner: bool) -> bool:
    """May a medium in this state be read at all? Others than its owner see it once it belongs to a tweet."""
    return state == "attached" or (is_owner and state == "finalised")


def again_s(link_s: float, sweeps: int) -> float | None:
    """Return seconds until a condemned medium is removed once more, None: never. `sweeps`: how often it was before this time.

    The second time no URL of it holds any more; the third time no PUT that began under one can still be on its way.
    """
    return (max(PUT_LIFE_S + LATE_S, link_s), LONGEST_PUT_S)[sweeps] if sweeps < 2 else None


def looked(status: str) -> str:
    """Return what a look-up of the edge's cache was, hit, miss or stale, from nginx' word for it."""
    return HITS.get(status, "miss")
