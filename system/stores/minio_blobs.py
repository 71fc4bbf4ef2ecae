"""BlobStore on plain S3 (here MinIO): objects by presigned URLs, for clients and for ourselves alike.

minio-py makes the signatures (no I/O: the region is given), aiohttp carries the bytes. A URL signs method, key and expiry.
S3 does not let a presigned PUT bind the content type without signed headers, so who finalizes an upload compares what
`head` says with what was declared. An uploader declares the SHA-256 of an object in the header `x-amz-checksum-sha256`
(base64); the server verifies it and keeps it. (Other `x-amz-*` headers are refused unless they are signed.)
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import Any, Self

import aiohttp
import minio
import urllib3
import yarl
from minio import deleteobjects
from minio import error as minio_error

from system.kernel.errors import LabError, NotFound, StoreUnavailable
from system.kernel.settings import Settings
from system.ports import Blob

REGION = "us-east-1"  # MinIO's default; given, so that signing needs no look-up
OWN_EXPIRY_S = 60  # life of the URLs that we use ourselves, at once
CHECKSUM = "x-amz-checksum-sha256"


class MinioBlobs:
    """The bucket `<namespace>-media`. Shared by all tasks of one event loop."""

    def __init__(self, client: minio.Minio, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._client, self._session = client, session
        self._bucket = f"{settings.namespace.lower()}-media"
        self._endpoint = settings.stores.minio

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Make the clients; the first call connects. They retry nothing by themselves."""
        timeout_s = settings.policies.deadline.store_s
        http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=timeout_s, read=30.0), retries=False)
        stores = settings.stores
        client = minio.Minio(stores.minio, stores.minio_access_key, stores.minio_secret_key, secure=False, region=REGION,
                             http_client=http)
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s))
        return cls(client, session, settings)

    async def close(self) -> None:
        """Close the connections. Safe to repeat."""
        await self._session.close()

    async def ready(self) -> None:
        """Return if the bucket stands. Raises StoreUnavailable."""
        status, _, body = await self._exchange("GET", self._signed("GET", "no-such-object", OWN_EXPIRY_S))
        if status != 200 and b"NoSuchKey" not in body:
            raise StoreUnavailable(f"S3 at {self._endpoint} has no bucket {self._bucket} ({status}); seeding makes it.",
                                   definite=True)

    async def prepare(self) -> None:
        """Create the bucket where it does not stand. Safe to repeat."""
        def create() -> None:
            try:
                self._client.make_bucket(self._bucket, location=REGION)
            except minio_error.S3Error as problem:
                if problem.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
        await self._in_thread(create)

    def signed_put(self, key: str, content_type: str, expires_s: int) -> str:
        """Return a URL for PUT. The client sends `content_type` as its header; the URL cannot enforce it."""
        return self._signed("PUT", key, expires_s)

    def signed_get(self, key: str, expires_s: int) -> str:
        return self._signed("GET", key, expires_s)

    async def head(self, key: str) -> Blob | None:
        url = self._signed("HEAD", key, OWN_EXPIRY_S)
        status, headers, _ = await self._exchange("HEAD", url, headers={"x-amz-checksum-mode": "ENABLED"})
        if status == 404:
            return None
        self._expect(status, 200, f"HEAD of {key}", b"")
        digest = base64.b64decode(headers.get(CHECKSUM, "")).hex()
        return Blob(key, int(headers["Content-Length"]), headers.get("Content-Type", ""), digest)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        headers = {"Content-Type": content_type, CHECKSUM: base64.b64encode(hashlib.sha256(data).digest()).decode()}
        status, _, body = await self._exchange("PUT", self._signed("PUT", key, OWN_EXPIRY_S), data=data, headers=headers)
        self._expect(status, 200, f"PUT of {key}", body)

    async def get(self, key: str) -> bytes:
        status, _, body = await self._exchange("GET", self._signed("GET", key, OWN_EXPIRY_S))
        if status == 404:
            raise NotFound(f"No object stands under {key!r}; it was never uploaded, or was removed.")
        self._expect(status, 200, f"GET of {key}", body)
        return body

    async def clear(self) -> None:
        """Remove all objects of this namespace's bucket. Safe to repeat."""
        def empty() -> None:
            if not self._client.bucket_exists(self._bucket):
                return
            found = self._client.list_objects(self._bucket, recursive=True)
            doomed = [deleteobjects.DeleteObject(item.object_name) for item in found if item.object_name]
            for problem in self._client.remove_objects(self._bucket, doomed):
                raise StoreUnavailable(f"S3 at {self._endpoint} did not remove {problem.name}: {problem.message}.")
        await self._in_thread(empty)

    async def remove(self) -> None:
        """Remove the bucket with all its objects. Safe to repeat."""
        await self.clear()

        def remove() -> None:
            if self._client.bucket_exists(self._bucket):
                self._client.remove_bucket(self._bucket)
        await self._in_thread(remove)

    def _signed(self, method: str, key: str, expires_s: int) -> str:
        return self._client.get_presigned_url(method, self._bucket, key, expires=timedelta(seconds=expires_s))

    async def _exchange(self, method: str, url: str, **options: Any) -> tuple[int, Any, bytes]:
        try:
            # The URL is signed as it stands: yarl must not encode it again.
            async with self._session.request(method, yarl.URL(url, encoded=True), **options) as reply:
                return reply.status, reply.headers, await reply.read()
        except (aiohttp.ClientError, OSError) as problem:
            raise mapped(problem, self._endpoint) from problem

    async def _in_thread(self, work: Any) -> None:
        try:
            await asyncio.to_thread(work)
        except (minio_error.MinioException, urllib3.exceptions.HTTPError) as problem:
            raise mapped(problem, self._endpoint) from problem

    def _expect(self, status: int, wanted: int, what: str, body: bytes) -> None:
        if status != wanted:
            # 4xx and 503 (SlowDown) are refused before anything is stored.
            raise StoreUnavailable(f"S3 at {self._endpoint} answered {status} to {what}: {body[:200]!r}; see the log of minio.",
                                   definite=400 <= status < 500 or status == 503)


def mapped(problem: BaseException, endpoint: str) -> LabError:
    """Return the error of ours for anything that the HTTP clients or minio-py raise."""
    never_sent = isinstance(problem, aiohttp.ClientConnectorError | urllib3.exceptions.NewConnectionError | aiohttp.InvalidURL)
    text = f"S3 at {endpoint}: {problem or type(problem).__name__}; see `tweetlab status` and the log of minio."
    return StoreUnavailable(text, definite=never_sent)
