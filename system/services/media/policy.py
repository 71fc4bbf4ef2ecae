"""What may be uploaded, and under which key it lies. Decides; reads no clock, no store.

A media id is `<owner>_<number>`: the owner is part of it, so the key can be told without a look-up.
The bytes lie under `media/<owner>/<number>`; a second, small object beside them says that the upload was
finalised. Before that nobody gets a URL to read it.
"""

from __future__ import annotations

from typing import Any

from system.kernel.errors import NotFound, TooLarge, WrongInput

MAX_BYTES = 5 * 1024 * 1024  # Twitter's limit for pictures
TYPES = ("image/gif", "image/jpeg", "image/png", "image/webp")
PUT_LIFE_S = 900   # seconds a signed upload URL holds
GET_LIFE_S = 300   # seconds a signed read URL holds


def wanted(body: Any) -> tuple[str, int]:
    """Return (content type, size in bytes) of a JSON body that asks for an upload. Raises WrongInput or TooLarge."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `media_type` and `total_bytes`.")
    size = body.get("total_bytes")
    if isinstance(size, str) and size.isascii() and size.isdigit():
        size = int(size)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise WrongInput(f"`total_bytes` is {str(size)[:40]!r}; it must be a whole number from 1 to {MAX_BYTES}.")
    return check(str(body.get("media_type", "")), size), size


def check(content_type: str, size: int) -> str:
    """Return the type of a picture that may be kept. Raises WrongInput (type) or TooLarge (size in bytes)."""
    if content_type not in TYPES:
        raise WrongInput(f"`media_type` is {content_type[:60]!r}; it must be one of {', '.join(TYPES)}.")
    if size > MAX_BYTES:
        raise TooLarge(f"The picture has {size} bytes; the limit is {MAX_BYTES}. Send a smaller one.")
    return content_type


def media_id(owner_id: int, number: int) -> str:
    """Return the public id of a medium."""
    return f"{owner_id}_{number}"


def split(text: str) -> tuple[int, int]:
    """Return (owner, number) of a public id. Raises NotFound where the text is no such id."""
    owner, _, number = text.partition("_")
    if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in (owner, number)):
        raise NotFound(f"No media with id {text[:60]!r}; ids are those that initialize returned.")
    return int(owner), int(number)


def key(owner_id: int, number: int) -> str:
    """Return where the bytes lie."""
    return f"media/{owner_id}/{number}"


def seal(owner_id: int, number: int) -> str:
    """Return where the note lies that says "finalised"."""
    return f"sealed/{owner_id}/{number}"
