"""What may be uploaded, who may read it, and when it is removed. Pure: reads no clock, no store.

A media id is `<owner>_<number>`. Its bytes are uploaded to `uploads/<owner>/<number>` and served, without
metadata, from `media/<owner>/<number>`: the keys need no look-up. A picture goes through these states, only
forward:

| state | uploaded bytes | served object | who gets a link |
|---|---|---|---|
| initialised | none, or unchecked | none, or not yet valid | nobody |
| finalised | emptied | checked bytes without metadata | the owner |
| attached to a tweet | emptied, later removed | the same, forever | users that may read the author's tweets |
| condemned | removed, three times | removed, three times | nobody |

One removal is not enough because an upload URL outlives its medium: while it is valid, its holder can put the
bytes again, and a PUT that started under it may take long. The empty object that replaces the uploaded bytes
makes storage refuse such a PUT while the URL is valid.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import NotFound, TooLarge, WrongInput
from system.kernel.http.asgi import only

MAX_BYTES = 5 * 1024 * 1024  # Twitter's limit for pictures
STARTS = {  # type -> pattern of the first bytes; a dot is any byte
    "image/gif": rb"GIF8[79]a",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/webp": rb"RIFF....WEBP",
}
TYPES = tuple(STARTS)
CATEGORIES = ("tweet_image", "tweet_gif")  # Twitter's, of pictures in tweets: here all are processed alike
START_BYTES = 16
# Limits of what a reader has to decode. A still picture: Pillow warns of a decompression bomb above 89 million
# pixels. An animation: Twitter's limit for GIFs, all frames together.
MAX_PIXELS, MAX_ANIMATION_PIXELS = 89_000_000, 300_000_000
PUT_LIFE_S = 900    # seconds a signed upload URL is valid
LATE_S = 60.0       # a PUT that started in time normally ends within this time afterwards
ORIGINAL_S = PUT_LIFE_S + LATE_S  # from finalize until the emptied upload is removed
LONGEST_PUT_S = 86_400.0  # and within this time at most: 5 MiB at 60 bytes a second
MAX_KEY = 128       # characters of an Idempotency-Key
HITS = {"HIT": "hit", "REVALIDATED": "hit", "STALE": "stale", "UPDATING": "stale"}


@dataclass(frozen=True)
class Wanted:
    """A declared or stored picture. `sha256`: hex, empty if the client declared none."""

    content_type: str
    size: int
    sha256: str = ""


def wanted(body: Any) -> Wanted:
    """Return the upload that a JSON body declares. Raises WrongInput or TooLarge."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `media_type` and `total_bytes`.")
    only(body, ("media_type", "total_bytes", "sha256", "media_category"))
    category = body.get("media_category")
    if category is not None and category not in CATEGORIES:
        raise WrongInput(f"`media_category` is {str(category)[:40]!r}; it must be {' or '.join(CATEGORIES)}, or left out.")
    size = body.get("total_bytes")
    if isinstance(size, float) and size.is_integer():  # JSON has one number type: 8.0 is 8
        size = int(size)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise WrongInput(f"`total_bytes` is {str(size)[:40]!r}; it must be a whole number from 1 to {MAX_BYTES}.")
    sha256 = body.get("sha256", "")
    if "sha256" in body and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise WrongInput(f"`sha256` is {str(sha256)[:80]!r}; it must be the 64 lower-case hex digits of the picture's SHA-256, "
                         "or left out.")
    return Wanted(check(str(body.get("media_type", "")), size), size, sha256)


def check(content_type: str, size: int) -> str:
    """Return the media type if type and size (bytes) are allowed.

    Raises WrongInput (type) or TooLarge (size).
    """
    if content_type not in TYPES:
        raise WrongInput(f"`media_type` is {content_type[:60]!r}; it must be one of {', '.join(TYPES)}.")
    if size > MAX_BYTES:
        raise TooLarge(f"The picture has {size} bytes; the limit is {MAX_BYTES}. Send a smaller one.")
    return content_type


def looks_like(content_type: str, start: bytes) -> bool:
    """Return whether the first bytes of a picture match its type."""
    return re.match(STARTS[content_type], start, re.DOTALL) is not None


def mismatch(declared: Wanted, stored: Wanted, start: bytes) -> str:
    """Return how the stored bytes differ from the declaration, in one sentence.

    "" if they match. Digests must be known.
    """
    if stored.size != declared.size:
        return f"{stored.size} bytes were uploaded, but {declared.size} were declared."
    if stored.content_type != declared.content_type:
        return f"The bytes were uploaded as {stored.content_type[:60]!r}, but declared as {declared.content_type!r}."
    if declared.sha256 and stored.sha256 != declared.sha256:
        return f"The SHA-256 of the bytes is {stored.sha256}, but {declared.sha256} was declared."
    if not looks_like(declared.content_type, start):
        return f"The bytes start with {start[:8].hex(' ')}, so they are not {declared.content_type}."
    return ""


def check_pixels(described: Mapping[str, object]) -> None:
    """Check the size of a picture in pixels.

    `described`: ExifTool's `ImageWidth` and `ImageHeight`, and `FrameCount` or `AnimationFrames` of an
    animation. Raises WrongInput if there is no size, TooLarge above the limit.
    """
    width, height = (described.get(name) for name in ("ImageWidth", "ImageHeight"))
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise unreadable(str(described.get("Error", "it states no size")))
    frames = next((count for name in ("FrameCount", "AnimationFrames") if isinstance(count := described.get(name), int)), 1)
    if width * height > MAX_PIXELS:
        raise TooLarge(f"The picture has {width} x {height} pixels; the limit is {MAX_PIXELS} in all. Send a smaller one.")
    if width * height * frames > MAX_ANIMATION_PIXELS:
        raise TooLarge(f"The animation has {frames} frames of {width} x {height} pixels; the limit is {MAX_ANIMATION_PIXELS} "
                       "pixels in all frames. Send a smaller one.")


def unreadable(problem: str) -> WrongInput:
    """Return the error for bytes that are no complete picture. `problem`: as ExifTool reports it."""
    reason = problem.partition("\n")[0].removeprefix("Error: ").partition(" - /proc")[0].strip()
    return WrongInput(f"The bytes are no readable picture ({reason[:80] or 'unknown format'}).")


def check_key(key: str) -> str:
    """Return the Idempotency-Key if it is valid. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def number_of(owner_id: int, key: str) -> int:
    """Return the media number for an Idempotency-Key: 62 bits of a digest, the same for each repeat."""
    return int.from_bytes(hashlib.sha256(f"{owner_id} {key}".encode()).digest()[:8]) >> 2


def media_id(owner_id: int, number: int) -> str:
    """Return the public id of a medium."""
    return f"{owner_id}_{number}"


def owner_of(text: str) -> int:
    """Return the owner of a public id. Raises NotFound if the text is not such an id."""
    owner, _, number = text.partition("_")
    if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in (owner, number)):
        raise unknown(text)
    return int(owner)


def unknown(text: str) -> NotFound:
    """Return the error for media that are absent, unfinished, removed or hidden from the caller.

    All look alike.
    """
    return NotFound(f"No media with id {text[:60]!r}, or you may not see it.")


def is_shown(state: str, is_owner: bool) -> bool:
    """Return whether a medium in this state may be read.

    By its owner once finalised, by others once attached to a tweet.
    """
    return state == "attached" or (is_owner and state == "finalised")


def original_again_s(sweeps: int) -> float | None:
    """Return the seconds until the uploaded bytes of a finalised medium are removed again, None for never.

    `sweeps`: earlier removals. At the first no upload URL is valid any more; at the second no PUT that started
    under one can still be running.
    """
    return LONGEST_PUT_S if sweeps == 0 else None


def again_s(link_s: float, sweeps: int) -> float | None:
    """Return the seconds until a condemned medium is removed again, None for never.

    `sweeps`: earlier removals.

    At the second removal no URL of it is valid any more; at the third no PUT that started under one can still
    be running.
    """
    return (max(PUT_LIFE_S + LATE_S, link_s), LONGEST_PUT_S)[sweeps] if sweeps < 2 else None


def cache_result(status: str) -> str:
    """Return hit, miss or stale for nginx's cache status of a look-up."""
    return HITS.get(status, "miss")
