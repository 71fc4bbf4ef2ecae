"""BlobStore on plain S3 (here MinIO): clients and this adapter access objects by presigned URLs.

`s3_signing` signs the URLs (no I/O), aiohttp sends the requests; minio-py creates and empties buckets. An
upload URL signs not only method, key and expiry, but every header that decides what is stored: content-type,
content-length, `if-none-match: *` (S3's conditional write: the first PUT wins, each later one gets 412) and,
if the uploader declared the digest, `x-amz-checksum-sha256`, which the server verifies as it stores. Any
other `x-amz-*` header is refused, as it is not signed.

Of several nodes (`Stores.minio_spares`) the first live one is used and named in URLs. The holder of a URL
cannot fail over to another node, so the nodes are probed every WATCH_S. A call whose connection breaks is
retried at the next node: all calls here are safe to repeat.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import minio
import urllib3
import yarl
from minio import deleteobjects
from minio import error as minio_error

from system.kernel import background, cdn_links
from system.kernel.errors import LabError, NotFound, StoreUnavailable
from system.kernel.resilience.guard import Guard
from system.kernel.settings import Settings
from system.ports import Blob, SignedPut
from system.stores.s3 import signing as s3_signing

REGION = "us-east-1"  # MinIO's default; set explicitly, so that signing needs no look-up
WATCH_S = 1.0  # interval of the health checks of several nodes, and timeout of one check
OWN_EXPIRY_S = 60  # validity of the URLs that this adapter uses itself, immediately
CHECKSUM = "x-amz-checksum-sha256"
READ_MEDIA = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::*-media/media/*"]}]}
"""Permissions of the edge's user: read media objects; no listing."""


NEVER_SENT = (aiohttp.ClientConnectorError, urllib3.exceptions.NewConnectionError, aiohttp.InvalidURL)
ALIVE = "/minio/health/live"


class MinioBlobs:
    """The bucket `<namespace>-media`. Shared by all tasks of one event loop."""

    def __init__(self, client: minio.Minio, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._client, self._session = client, session
        self._bucket = cdn_links.bucket(settings.namespace)
        self._settings = settings
        self._guard = Guard("minio", settings.policies)
        stores = settings.stores
        self._signers = [s3_signing.Signer(endpoint, stores.minio_access_key, stores.minio_secret_key, REGION)
                         for endpoint in (stores.minio, *stores.minio_spares)]
        self._current = 0  # index of the node in use
        self._watch = asyncio.ensure_future(background.run_forever(self._watch_nodes, "storage")) if stores.minio_spares else None

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Create the clients; the first call connects.

        Bucket and user are created at the first node, without retries.
        """
        timeout_s = settings.policies.timeout_s("minio")
        http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=timeout_s, read=30.0), retries=False)
        stores = settings.stores
        client = minio.Minio(stores.minio, stores.minio_access_key, stores.minio_secret_key, secure=False, region=REGION,
                             http_client=http)
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s))
        return cls(client, session, settings)

    async def close(self) -> None:
        """Close the connections. Safe to repeat."""
        if self._watch:
            self._watch.cancel()
        await self._session.close()

    async def ready(self) -> None:
        """Return if the bucket exists. Raises StoreUnavailable."""
        status, _, body = await self._exchange("GET", "no-such-object")
        if status != 200 and b"NoSuchKey" not in body:
            raise StoreUnavailable(f"S3 at {self._endpoint} has no bucket {self._bucket} ({status}); seeding creates it.",
                                   definite=True)

    async def prepare(self) -> None:
        """Create the bucket if it does not exist, and the user that the edge reads with. Safe to repeat."""
        def create() -> None:
            try:
                self._client.make_bucket(self._bucket, location=REGION)
            except minio_error.S3Error as problem:
                if problem.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
        await self._in_thread(create)
        if self._settings.edge_secret:
            await self._in_thread(self._make_reader)

    def _make_reader(self) -> None:
        from minio import minioadmin  # imported here: needed once per lab
        from minio.credentials import providers

        stores = self._settings.stores
        keys = providers.StaticProvider(stores.minio_access_key, stores.minio_secret_key)
        admin = minioadmin.MinioAdmin(endpoint=stores.minio, credentials=keys, secure=False, region=REGION)
        admin.user_add(cdn_links.STORAGE_USER, cdn_links.storage_password(self._settings.edge_secret))
        admin.policy_add(cdn_links.STORAGE_USER, policy=READ_MEDIA)
        admin.policy_set(cdn_links.STORAGE_USER, user=cdn_links.STORAGE_USER)

    def signed_put(self, key: str, content_type: str, size: int, sha256: str, expires_s: int) -> SignedPut:
        headers = {"content-type": content_type, "if-none-match": "*"}
        if sha256:
            headers[CHECKSUM] = base64.b64encode(bytes.fromhex(sha256)).decode()
        url = self._signed("PUT", key, expires_s, {**headers, "content-length": str(size)})
        return SignedPut(url, headers)  # every HTTP client sets content-length from the body

    def signed_get(self, key: str, expires_s: int) -> str:
        return self._signed("GET", key, expires_s)

    async def head(self, key: str) -> Blob | None:
        status, headers, _ = await self._exchange("HEAD", key, headers={"x-amz-checksum-mode": "ENABLED"})
        if status == 404:
            return None
        self._expect(status, 200, f"HEAD of {key}", b"")
        digest = base64.b64decode(headers.get(CHECKSUM, "")).hex()
        return Blob(key, int(headers["Content-Length"]), headers.get("Content-Type", ""), digest)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        headers = {"Content-Type": content_type, CHECKSUM: base64.b64encode(hashlib.sha256(data).digest()).decode()}
        status, _, body = await self._exchange("PUT", key, data=data, headers=headers)
        self._expect(status, 200, f"PUT of {key}", body)

    async def get(self, key: str) -> bytes:
        status, _, body = await self._exchange("GET", key)
        if status == 404:
            raise NotFound(f"There is no object {key!r}; it was never uploaded, or was removed.")
        self._expect(status, 200, f"GET of {key}", body)
        return body

    async def remove(self, key: str) -> None:
        status, _, body = await self._exchange("DELETE", key)
        self._expect(status, 204, f"DELETE of {key}", body)

    async def clear(self) -> None:
        """Remove all objects of this namespace's bucket. Safe to repeat."""
        def empty() -> None:
            if not self._client.bucket_exists(self._bucket):
                return
            objects = self._client.list_objects(self._bucket, recursive=True)
            deletions = [deleteobjects.DeleteObject(item.object_name) for item in objects if item.object_name]
            for problem in self._client.remove_objects(self._bucket, deletions):
                raise StoreUnavailable(f"S3 at {self._endpoint} did not remove {problem.name}: {problem.message}.")
        await self._in_thread(empty)

    async def keys(self) -> list[str]:
        """Return the keys of all objects in this namespace's bucket. For the check after a reset."""
        keys: list[str] = []

        def list_keys() -> None:
            objects = self._client.list_objects(self._bucket, recursive=True)
            keys.extend(item.object_name for item in objects if item.object_name)
        await self._in_thread(list_keys)
        return keys

    async def drop(self) -> None:
        """Remove the bucket with all its objects. Safe to repeat."""
        await self.clear()

        def remove() -> None:
            if self._client.bucket_exists(self._bucket):
                self._client.remove_bucket(self._bucket)
        await self._in_thread(remove)

    def _signed(self, method: str, key: str, expires_s: int, headers: Mapping[str, str] | None = None,
                node: int | None = None) -> str:
        signer = self._signers[self._current if node is None else node]
        return s3_signing.presigned(signer, method, f"/{self._bucket}/{key}", expires_s, headers or {})

    @property
    def _endpoint(self) -> str:
        return self._signers[self._current].endpoint

    async def _exchange(self, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        return await self._guard.run(lambda: self._send_anywhere(method, key, **options))

    async def _send_anywhere(self, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        """Send a request; on 404 of a read, try the other nodes.

        A node that restarts sees its peers' drives only some seconds later; until then it answers 404 for
        objects that were written while it was down.
        """
        reply = await self._send(method, key, **options)
        if reply[0] == 404 and method in ("GET", "HEAD"):
            current = self._current
            for other in (other for other in range(len(self._signers)) if other != current):
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    retried = await self._send_to(other, method, key, **options)
                    if retried[0] == 200:
                        return retried
        return reply

    async def _send_to(self, node: int, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        # The signature covers this exact URL: yarl must not encode it again.
        url = yarl.URL(self._signed(method, key, OWN_EXPIRY_S, node=node), encoded=True)
        async with self._session.request(method, url, **options) as reply:
            return reply.status, reply.headers, await reply.read()

    async def _send(self, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        may_have_happened = False
        for left in reversed(range(len(self._signers))):
            current = self._current
            try:
                return await self._send_to(current, method, key, **options)
            except (aiohttp.ClientError, OSError) as problem:
                may_have_happened |= not isinstance(problem, NEVER_SENT)
                broke = isinstance(problem, aiohttp.ClientConnectionError) and not isinstance(problem, TimeoutError)
                if not broke or not left:
                    raise mapped(problem, self._endpoint, may_have_happened) from problem
                if current == self._current:  # no other task has failed over yet
                    self._current = (current + 1) % len(self._signers)
        raise AssertionError("unreachable")

    async def _watch_nodes(self) -> None:
        """Use the first live node; keep the current one while none is live."""
        timeout = aiohttp.ClientTimeout(total=WATCH_S)
        while True:
            for node, signer in enumerate(self._signers):
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    async with self._session.get(f"http://{signer.endpoint}{ALIVE}", timeout=timeout) as reply:
                        if reply.status == 200:
                            self._current = node
                            break
            await asyncio.sleep(WATCH_S)

    async def _in_thread(self, work: Any) -> None:
        try:
            await asyncio.to_thread(work)
        except (minio_error.MinioException, urllib3.exceptions.HTTPError) as problem:
            raise mapped(problem, self._endpoint) from problem

    def _expect(self, status: int, wanted: int, what: str, body: bytes) -> None:
        if status != wanted:
            # 4xx and 503 (SlowDown) are refusals before anything is stored.
            raise StoreUnavailable(f"S3 at {self._endpoint} answered {status} to {what}: {body[:200]!r}; see the log of minio.",
                                   definite=400 <= status < 500 or status == 503)


def mapped(problem: BaseException, endpoint: str, may_have_happened: bool = False) -> LabError:
    """Map any error of the HTTP clients or minio-py.

    `may_have_happened`: an earlier attempt may have taken effect.
    """
    never_sent = isinstance(problem, NEVER_SENT) and not may_have_happened
    text = f"S3 at {endpoint}: {problem or type(problem).__name__}; see `tweetlab status` and the log of minio."
    return StoreUnavailable(text, definite=never_sent)
