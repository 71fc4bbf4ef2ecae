"""Uploads: a place to put to, a check of what was put, a link to read by.

The service never carries the bytes. What may be put is bound by the signature of the upload URL (see `BlobStore.signed_put`):
these bytes, once. So finalize needs no copy: what it checked is what stays, however long the URL still holds.
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
    """A place to put bytes: `put` holds for `expires_s` seconds."""

    media_id: str
    put: SignedPut
    expires_s: int


class Media:
    """Media over the ports. `link_s`: seconds for which a link to read holds."""

    def __init__(self, ports: Ports, visibility: Visibility, link_s: int) -> None:
        self._media: MediaStore = ports.media
        self._blobs: BlobStore = ports.blobs
        self._edge: MediaEdge = ports.edge
        self._visibility = visibility
        self.link_s = link_s

    async def initialize(self, owner_id: int, wanted: policy.Wanted, key: str) -> Upload:
        """Return a place for a picture. With a `key` a repeat gets the same.

        Raises Conflict (422) where the key asked for another picture, or for one that is dropped: a URL that is signed after
        the condemnation would outlive the row, and leave bytes that no row speaks of.
        """
        number = policy.number_of(owner_id, key) if key else secrets.randbits(62)
        asked = Medium(policy.media_id(owner_id, number), owner_id, wanted.content_type, wanted.size, wanted.sha256)
        stands = await self._media.initialise(asked)
        if dataclasses.replace(_wanted(stands), sha256=stands.declared) != wanted:
            raise _used(key, "another picture")
        if stands.state is MediaState.CONDEMNED:
            raise _used(key, "a picture that was dropped")
        put = self._blobs.signed_put(cdn_links.object_key(asked.id), wanted.content_type, wanted.size, wanted.sha256,
                                     policy.PUT_LIFE_S)
        _counted("initialised")
        return Upload(asked.id, put, policy.PUT_LIFE_S)

    async def finalize(self, caller: int, media_id: str) -> Medium:
        """Check what was put and let its owner use it. Safe to repeat. Raises Forbidden, NotFound, WrongInput."""
        if policy.owner_of(media_id) != caller:
            raise Forbidden(f"Media {media_id} belongs to another user.")
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None or medium.state is MediaState.CONDEMNED:
            raise policy.unknown(media_id)
        if medium.state is not MediaState.INITIALISED:
            return await self._finalised(medium, medium.sha256)
        # One after the other: of a PUT that comes between, the first would see nothing and the second all.
        blob = await self._blobs.head(_key(medium))
        if blob is None:
            raise NotFound(f"Nothing was put under media {media_id}; PUT the bytes to the URL of initialize first.")
        await checkpoints.reached("media.after_head", media_id=media_id)
        start = await self._blobs.start(_key(medium), policy.START_BYTES)
        sha256 = await self._digest(medium, blob)
        stored = policy.Wanted(blob.content_type, blob.size, sha256)
        if wrong := policy.mismatch(_wanted(medium), stored, start):
            # These bytes stay what they are: there is nothing to fix.
            await self._media.condemn([media_id], MediaState.INITIALISED)
            _counted("refused")
            raise WrongInput(f"{wrong} The upload was dropped; initialize another one.")
        await checkpoints.reached("media.before_finalise", media_id=media_id)
        return await self._finalised(medium, sha256)

    async def _finalised(self, medium: Medium, sha256: str) -> Medium:
        done = await self._media.finalise(medium.id, sha256)
        if done is None:
            raise policy.unknown(medium.id)  # collected meanwhile
        if medium.state is MediaState.INITIALISED:
            _counted("finalised")
        return done

    async def _digest(self, medium: Medium, blob: Blob) -> str:
        """Return the SHA-256 of the stored bytes: what storage verified while it took them, else read back here."""
        if blob.sha256 or blob.size != medium.size:
            return blob.sha256
        data = await self._blobs.get(_key(medium))
        return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())

    async def show(self, viewer_id: int, media_id: str) -> tuple[Medium, str]:
        """Return a medium and a link to read it. Raises NotFound where the viewer may not."""
        policy.owner_of(media_id)
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None or not policy.is_shown(medium.state, medium.owner_id == viewer_id):
            raise policy.unknown(media_id)
        # After the row was read: a switch to protected that was acknowledged before is seen.
        if medium.owner_id not in await self._visibility.visible(viewer_id, [medium.owner_id]):
            raise policy.unknown(media_id)
        return medium, self._edge.link(_key(medium), self.link_s)

    async def delete(self, caller: int, media_id: str) -> None:
        """Remove an own medium. Safe to repeat while its row stands. Raises Forbidden, NotFound."""
        if policy.owner_of(media_id) != caller:
            raise Forbidden(f"Media {media_id} belongs to another user.")
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None:
            raise policy.unknown(media_id)
        await self._media.condemn([media_id])
        await checkpoints.reached("media.after_condemn", media_id=media_id)
        await self.remove(medium)

    async def remove(self, medium: Medium) -> bool:
        """Remove the bytes of a condemned medium and make the edge forget them; return whether it is done.

        What fails is done by the collector later.

        First the bytes, then the cache: a miss that comes between fetches nothing.
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


def _used(key: str, what: str) -> Conflict:
    problem = Conflict(f"The Idempotency-Key {key[:40]!r} was used for {what}; use a new key for a new one.")
    problem.status = 422
    return problem


def _wanted(medium: Medium) -> policy.Wanted:
    return policy.Wanted(medium.content_type, medium.size, medium.sha256)


def _counted(step: str) -> None:
    metrics.count("tweetlab_media_uploads_total", step=step)
