"""Objects and signed URLs: MinIO, as plain S3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Blob:
    """Metadata of a stored object.

    `sha256`: hex digest of its bytes if the uploader declared it, else empty.
    """

    key: str
    size: int
    content_type: str
    sha256: str


@dataclass(frozen=True)
class SignedPut:
    """How a client uploads an object: PUT to `url` with exactly these `headers` (lower-case names)."""

    url: str
    headers: Mapping[str, str]


class BlobStore(Protocol):
    """Objects and signed URLs. Read-after-write."""

    def signed_put(self, key: str, content_type: str, size: int, sha256: str, expires_s: int) -> SignedPut:
        """Return how a client PUTs the object. No I/O.

        The signature covers type, size in bytes, digest (hex; "" if the uploader does not know it) and that
        no object exists under `key`: the store accepts these bytes, once. It rejects everything else, even
        while the URL is valid.
        """
        ...

    def signed_get(self, key: str, expires_s: int) -> str:
        """Return a URL from which the client GETs the bytes. No I/O."""
        ...

    async def head(self, key: str) -> Blob | None:
        """Return the metadata of the object under `key`, or None."""
        ...

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store bytes. Safe to repeat."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes. Raises NotFound."""
        ...

    async def remove(self, key: str) -> None:
        """Remove an object. Safe to repeat, also if there is none."""
        ...
