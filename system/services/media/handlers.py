"""Uploads: a signed URL to PUT to, a check of the stored bytes, a signed link to read.

The service never handles the bytes. The signature of the upload URL (see `BlobStore.signed_put`) binds what
may be put: these bytes, once. So finalize needs no copy: the bytes it checked stay as they are, however long
the URL is still valid.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import secrets
from dataclasses import dataclass

from system.kernel import cdn_links, checkpoints
from system.kernel.errors import Conflict, Forbidden, LabError, NotFound, WrongInput
from system.kernel.telemetry import metrics
from system.ports import Blob, BlobStore, MediaEdge, MediaState, MediaStore, Medium, Ports, SignedPut
from system.services.media import policy
from system.services.shared.visibility import Visibility

_log = logging.getLogger("tweetlab")


@dataclass(frozen=True)
class Upload:
    """A started upload: `put` is valid for `expires_s` seconds."""

    media_id: str
    put: SignedPut
    expires_s: int


class Media:
    """Media over the ports. `link_s`: seconds for which a link to read is valid."""

    def __init__(self, ports: Ports, visibility: Visibility, link_s: int) -> None:
        self._media: MediaStore = ports.media
        self._blobs: BlobStore = ports.blobs
        self._edge: MediaEdge = ports.edge
        self._visibility = visibility
        self.link_s = link_s

    async def initialize(self, owner_id: int, wanted: policy.Wanted, key: str) -> Upload:
        """Start the upload of a picture. With a `key`, a repeat returns the same medium.

        Raises Conflict (422) if the key was used for another picture, or for one that was dropped: a URL that
        is signed after the condemnation would outlive the row, and leave bytes that no row refers to.
        """
        number = policy.number_of(owner_id, key) if key else secrets.randbits(62)
        requested = Medium(policy.media_id(owner_id, number), owner_id, wanted.content_type, wanted.size, wanted.sha256)
        stored = await self._media.initialise(requested)
        if dataclasses.replace(_declared(stored), sha256=stored.declared) != wanted:
            raise _key_conflict(key, "another picture")
        if stored.state is MediaState.CONDEMNED:
            raise _key_conflict(key, "a picture that was dropped")
        put = self._blobs.signed_put(cdn_links.object_key(requested.id), wanted.content_type, wanted.size, wanted.sha256,
                                     policy.PUT_LIFE_S)
        _count_step("initialised")
        return Upload(requested.id, put, policy.PUT_LIFE_S)

    async def finalize(self, caller: int, media_id: str) -> Medium:
        """Check the stored bytes and make the medium usable.

        Safe to repeat. Raises Forbidden, NotFound, WrongInput.
        """
        if policy.owner_of(media_id) != caller:
            raise Forbidden(f"Media {media_id} belongs to another user.")
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None or medium.state is MediaState.CONDEMNED:
            raise policy.unknown(media_id)
        if medium.state is not MediaState.INITIALISED:
            return await self._finalised(medium, medium.sha256)
        # In sequence, not concurrently: a PUT in between would be invisible to one read and complete in the
        # other.
        blob = await self._blobs.head(_key(medium))
        if blob is None:
            raise NotFound(f"No bytes were uploaded for media {media_id}; PUT them to the URL of initialize first.")
        await checkpoints.reached("media.after_head", media_id=media_id)
        start = await self._blobs.start(_key(medium), policy.START_BYTES)
        sha256 = await self._digest(medium, blob)
        actual = policy.Wanted(blob.content_type, blob.size, sha256)
        if wrong := policy.mismatch(_declared(medium), actual, start):
            # The stored bytes cannot change any more: a retry cannot succeed.
            await self._media.condemn([media_id], MediaState.INITIALISED)
            _count_step("refused")
            raise WrongInput(f"{wrong} The upload was dropped; initialize a new one.")
        await checkpoints.reached("media.before_finalise", media_id=media_id)
        return await self._finalised(medium, sha256)

    async def _finalised(self, medium: Medium, sha256: str) -> Medium:
        done = await self._media.finalise(medium.id, sha256)
        if done is None:
            raise policy.unknown(medium.id)  # removed as an orphan in the meantime
        if medium.state is MediaState.INITIALISED:
            _count_step("finalised")
        return done

    async def _digest(self, medium: Medium, blob: Blob) -> str:
        """Return the SHA-256 of the stored bytes: verified by storage during the upload, else computed here."""
        if blob.sha256 or blob.size != medium.size:
            return blob.sha256
        data = await self._blobs.get(_key(medium))
        return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())

    async def show(self, viewer_id: int, media_id: str) -> tuple[Medium, str]:
        """Return a medium and a link to read it. Raises NotFound if the viewer may not read it."""
        policy.owner_of(media_id)
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None or not policy.is_shown(medium.state, medium.owner_id == viewer_id):
            raise policy.unknown(media_id)
        # After the row was read, so that a switch to protected acknowledged before it is respected.
        if medium.owner_id not in await self._visibility.visible(viewer_id, [medium.owner_id]):
            raise policy.unknown(media_id)
        return medium, self._edge.link(_key(medium), self.link_s)

    async def delete(self, caller: int, media_id: str) -> None:
        """Remove a medium of the caller. Safe to repeat while its row exists. Raises Forbidden, NotFound."""
        if policy.owner_of(media_id) != caller:
            raise Forbidden(f"Media {media_id} belongs to another user.")
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None:
            raise policy.unknown(media_id)
        await self._media.condemn([media_id])
        await checkpoints.reached("media.after_condemn", media_id=media_id)
        await self.remove(medium)

    async def remove(self, medium: Medium) -> bool:
        """Remove the bytes of a condemned medium and purge them from the edge cache.

        Return whether both succeeded.

        On a failure the orphan collector retries later. The bytes first, then the cache: a miss in between
        fetches nothing.
        """
        try:
            await self._blobs.remove(_key(medium))
            await self._edge.purge(_key(medium))
            await self._media.swept(medium, policy.again_s(self.link_s, medium.sweeps))
        except LabError as problem:
            _log.warning("media %s is not removed yet: %s", medium.id, problem)
            return False
        return True


def _key(medium: Medium) -> str:
    return cdn_links.object_key(medium.id)


def _key_conflict(key: str, what: str) -> Conflict:
    problem = Conflict(f"The Idempotency-Key {key[:40]!r} was used for {what}; use a new key for a new one.")
    problem.status = 422
    return problem


def _declared(medium: Medium) -> policy.Wanted:
    return policy.Wanted(medium.content_type, medium.size, medium.sha256)


def _count_step(step: str) -> None:
    metrics.count("tweetlab_media_uploads_total", step=step)
