"""Objects and signed URLs: MinIO, as plain S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Blob:
    """What is known of a stored object. `sha256`: hex of its bytes where the uploader declared it, else empty."""

    key: str
    size: int
    content_type: str
    sha256: str


class BlobStore(Protocol):
    """Objects and signed URLs. Read-after-write."""

    def signed_put(self, key: str, content_type: str, expires_s: int) -> str:
        """Return a URL to which the client PUTs the bytes. No I/O."""
        ...

    def signed_get(self, key: str, expires_s: int) -> str:
        """Return a URL from which the client GETs the bytes. No I/O."""
        ...

    async def head(self, key: str) -> Blob | None:
        """Return what is stored under `key`, or None."""
        ...

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store bytes. Safe to repeat."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes. Raises NotFound."""
        ...
