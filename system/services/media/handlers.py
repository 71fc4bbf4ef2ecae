"""Uploads: a signed URL to put to, a check of what was put, a signed URL to get from."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from system.kernel.errors import Forbidden, NotFound
from system.ports import Blob, BlobStore
from system.services.media import policy


@dataclass(frozen=True)
class Upload:
    """A place to put bytes. `url`: signed, for one PUT with this content type, for `expires_s` seconds."""

    media_id: str
    url: str
    expires_s: int


class Media:
    """Media over the blob store. The service never sees the bytes."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def initialize(self, owner_id: int, content_type: str) -> Upload:
        """Return a place for a picture of this type. No I/O; a repeat gives another place."""
        number = secrets.randbits(62)
        url = self._blobs.signed_put(policy.key(owner_id, number), content_type, policy.PUT_LIFE_S)
        return Upload(policy.media_id(owner_id, number), url, policy.PUT_LIFE_S)

    async def finalize(self, caller: int, media_id: str) -> Blob:
        """Check what was put and let it be read. Safe to repeat. Raises Forbidden, NotFound, WrongInput, TooLarge."""
        owner_id, number = policy.split(media_id)
        if owner_id != caller:
            raise Forbidden(f"Media {media_id} belongs to another user.")
        blob = await self._blobs.head(policy.key(owner_id, number))
        if blob is None:
            raise NotFound(f"Nothing was put under media {media_id}; PUT the bytes to the URL of initialize first.")
        policy.check(blob.content_type, blob.size)
        note = json.dumps({"size": blob.size, "type": blob.content_type}).encode()
        await self._blobs.put(policy.seal(owner_id, number), note, "application/json")
        return blob

    async def url(self, media_id: str) -> tuple[str, Blob]:
        """Return (a signed URL to read, what lies there). Raises NotFound where it was not finalised."""
        owner_id, number = policy.split(media_id)
        if await self._blobs.head(policy.seal(owner_id, number)) is None:
            raise NotFound(f"No media with id {media_id[:60]!r}, or its upload was not finalised.")
        blob = await self._blobs.head(policy.key(owner_id, number))
        if blob is None:
            raise NotFound(f"No media with id {media_id[:60]!r}.")
        return self._blobs.signed_get(policy.key(owner_id, number), policy.GET_LIFE_S), blob
