"""Uploads: a signed URL to PUT to, a check of the stored bytes, a copy without metadata, a signed link to read.

The signature of the upload URL (see `BlobStore.signed_put`) binds what may be put: these bytes, once. Finalize
reads them, checks them against the declaration, removes the metadata and stores the result under a second key,
which no client can write. The order of its steps makes each crash harmless:

1. the served object is stored; nobody gets a link to it yet
2. the row is switched: from now on it is served
3. the uploaded bytes are replaced by an empty object, so that the upload URL cannot be used again

A repeat does all steps again, with the same result. If nobody repeats a finalize that died between 2 and 3, the
orphan collector removes the uploaded bytes when their URL has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

from system.kernel import cdn_links, checkpoints
from system.kernel.errors import Conflict, Forbidden, LabError, NotFound, Overloaded, WrongInput
from system.kernel.telemetry import metrics
from system.ports import BlobStore, MediaEdge, MediaState, MediaStore, Medium, Ports, SignedPut
from system.services.media import policy
from system.services.media.stripping import Stripper
from system.services.shared.visibility import Visibility

IN_MEMORY = 4   # pictures that one process holds at a time: the uploaded and the served bytes of each, 10 MiB at most
WAITING = 64    # finalizes that wait for that; more are refused

_log = logging.getLogger("tweetlab")


@dataclass(frozen=True)
class Upload:
    """A started upload: `put` is valid for `expires_s` seconds."""

    media_id: str
    put: SignedPut
    expires_s: int


class Media:
    """Media over the ports. `link_s`: seconds for which a link to read is valid."""

    def __init__(self, ports: Ports, visibility: Visibility, link_s: int, stripper: Stripper) -> None:
        self._media: MediaStore = ports.media
        self._blobs: BlobStore = ports.blobs
        self._edge: MediaEdge = ports.edge
        self._visibility, self._stripper = visibility, stripper
        self._memory, self._waiting = asyncio.Semaphore(IN_MEMORY), 0
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
        put = self._blobs.signed_put(cdn_links.upload_key(requested.id), wanted.content_type, wanted.size, wanted.sha256,
                                     policy.PUT_LIFE_S)
        _count_step("initialised")
        return Upload(requested.id, put, policy.PUT_LIFE_S)

    async def finalize(self, caller: int, media_id: str) -> Medium:
        """Check the uploaded bytes, store them without metadata and make the medium usable.

        Safe to repeat. Raises Forbidden, NotFound, WrongInput, Overloaded.
        """
        if policy.owner_of(media_id) != caller:
            raise Forbidden(f"Media {media_id} belongs to another user.")
        medium = (await self._media.get([media_id])).get(media_id)
        if medium is None or medium.state is MediaState.CONDEMNED:
            raise policy.unknown(media_id)
        if medium.state is not MediaState.INITIALISED:
            await self._empty_original(medium)
            return medium
        async with self._place():
            try:
                data = await self._stripper.strip(await self._uploaded(medium))
            except (NotFound, WrongInput) as problem:
                return await self._refused(medium, problem)
            await checkpoints.reached("media.after_strip", media_id=media_id)
            await self._blobs.put(_key(medium), data, medium.content_type)
            sha256 = await asyncio.to_thread(_sha256, data)
        await checkpoints.reached("media.before_finalise", media_id=media_id)
        done = await self._media.finalise(medium.id, sha256, len(data), policy.ORIGINAL_S)
        if done is None:  # condemned as an orphan in the meantime
            await self._blobs.remove(_key(medium))
            raise policy.unknown(media_id)
        await checkpoints.reached("media.after_finalise", media_id=media_id)
        await self._empty_original(done)
        _count_step("finalised")
        return done

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Limit how many pictures this process holds in memory. Raises Overloaded if too many requests wait."""
        if self._waiting >= WAITING:
            raise Overloaded(f"{WAITING} pictures wait to be processed; retry in a second.", retry_after_s=1.0)
        self._waiting += 1
        try:
            await self._memory.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._memory.release()

    async def _uploaded(self, medium: Medium) -> bytes:
        """Return the uploaded bytes.

        Raises NotFound if there are none, WrongInput if they are not what initialize declared.
        """
        key = cdn_links.upload_key(medium.id)
        # In sequence, not concurrently: a PUT in between would be invisible to one read and complete in the
        # other.
        blob = await self._blobs.head(key)
        if blob is None:
            raise NotFound(f"No bytes were uploaded for media {medium.id}; PUT them to the URL of initialize first.")
        await checkpoints.reached("media.after_head", media_id=medium.id)
        data = await self._blobs.get(key) if blob.size <= policy.MAX_BYTES else b""
        sha256 = await asyncio.to_thread(_sha256, data)
        actual = policy.Wanted(blob.content_type, len(data), sha256)
        if wrong := policy.mismatch(_declared(medium), actual, data[:policy.START_BYTES]):
            raise WrongInput(wrong)
        return data

    async def _refused(self, medium: Medium, problem: NotFound | WrongInput) -> Medium:
        """Drop an upload that failed a check, or return the medium if a concurrent finalize passed it.

        The stored bytes cannot change any more, so no retry can succeed. Raises the problem.
        """
        if isinstance(problem, WrongInput) and await self._media.condemn([medium.id], MediaState.INITIALISED):
            _count_step("refused")
            raise type(problem)(f"{problem.detail} The upload was dropped; initialize a new one.")
        current = (await self._media.get([medium.id])).get(medium.id)
        if current is None or current.state not in (MediaState.FINALISED, MediaState.ATTACHED):
            raise problem
        return current

    async def _empty_original(self, medium: Medium) -> None:
        """Replace the uploaded bytes of a finalised medium by an empty object. Safe to repeat.

        Storage then still refuses a second PUT to the upload URL. On a failure the orphan collector removes
        the bytes later.
        """
        if medium.original_sweeps:
            return
        try:
            await self._blobs.put(cdn_links.upload_key(medium.id), b"", medium.content_type)
        except LabError as problem:
            _log.warning("the uploaded bytes of media %s are not removed yet: %s", medium.id, problem)

    async def remove_original(self, medium: Medium) -> bool:
        """Remove the uploaded bytes of a finalised medium; return whether that succeeded."""
        try:
            await self._blobs.remove(cdn_links.upload_key(medium.id))
            await self._media.original_swept(medium, policy.original_again_s(medium.original_sweeps))
        except LabError as problem:
            _log.warning("the uploaded bytes of media %s are not removed yet: %s", medium.id, problem)
            return False
        return True

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
            for key in (cdn_links.upload_key(medium.id), _key(medium)):
                await self._blobs.remove(key)
            await self._edge.purge(_key(medium))
            await self._media.swept(medium, policy.again_s(self.link_s, medium.sweeps))
        except LabError as problem:
            _log.warning("media %s is not removed yet: %s", medium.id, problem)
            return False
        return True


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
