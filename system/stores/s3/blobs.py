"""BlobStore on plain S3 (here MinIO): objects by presigned URLs, for clients and for ourselves alike.

Presigned by `s3_signing` (no I/O), carried by aiohttp; minio-py makes and empties buckets. A URL for an upload signs not only
method, key and expiry, but every header that decides what is stored: content-type, content-length, `if-none-match: *` (S3's
conditional write: the first PUT wins, each later one is refused with 412) and, where the uploader declared the digest,
`x-amz-checksum-sha256`, which the server verifies while it stores. Another `x-amz-*` header is refused, as it is not signed.

Of several nodes (`Stores.minio_spares`) the first that lives is used, and named in URLs. Who holds a URL cannot turn to another
node, so they are looked at each WATCH_S. A call whose connection breaks is tried at the next: all of ours may be repeated.
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

REGION = "us-east-1"  # MinIO's default; given, so that signing needs no look-up
WATCH_S = 1.0  # between two looks at several nodes, and longest wait for one
OWN_EXPIRY_S = 60  # life of the URLs that we use ourselves, at once
CHECKSUM = "x-amz-checksum-sha256"
READ_MEDIA = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::*-media/media/*"]}]}
"""All that the edge's user may do: read objects that are media, list nothing."""


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
        self._signers = [s3_signing.Signer(each, stores.minio_access_key, stores.minio_secret_key, REGION)
                         for each in (stores.minio, *stores.minio_spares)]
        self._at = 0  # the one in use
        self._watch = asyncio.ensure_future(background.keep(self._look, "storage")) if stores.minio_spares else None

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Make the clients; the first call connects. Bucket and user are made at the first node, which retries nothing."""
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
        """Return if the bucket stands. Raises StoreUnavailable."""
        status, _, body = await self._exchange("GET", "no-such-object")
        if status != 200 and b"NoSuchKey" not in body:
            raise StoreUnavailable(f"S3 at {self._endpoint} has no bucket {self._bucket} ({status}); seeding makes it.",
                                   definite=True)

    async def prepare(self) -> None:
        """Create the bucket where it does not stand, and the user that the edge reads with. Safe to repeat."""
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
        from minio import minioadmin  # needed once in the life of a lab
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
        return SignedPut(url, headers)  # content-length is set by every HTTP client from the body

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
            raise NotFound(f"No object stands under {key!r}; it was never uploaded, or was removed.")
        self._expect(status, 200, f"GET of {key}", body)
        return body

    async def start(self, key: str, count: int) -> bytes:
        status, _, body = await self._exchange("GET", key, headers={"range": f"bytes=0-{count - 1}"})
        if status == 404:
            raise NotFound(f"No object stands under {key!r}; it was never uploaded, or was removed.")
        if status == 416:  # an empty object has no first byte
            return b""
        self._expect(status, 206, f"GET of the start of {key}", body)
        return body

    async def remove(self, key: str) -> None:
        status, _, body = await self._exchange("DELETE", key)
        self._expect(status, 204, f"DELETE of {key}", body)

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

    async def keys(self) -> list[str]:
        """Return the keys of all objects of this namespace's bucket. For the probe after a reset."""
        keys: list[str] = []

        def look() -> None:
            found = self._client.list_objects(self._bucket, recursive=True)
            keys.extend(item.object_name for item in found if item.object_name)
        await self._in_thread(look)
        return keys

    async def drop(self) -> None:
        """Remove the bucket with all its objects. Safe to repeat."""
        await self.clear()

        def remove() -> None:
            if self._client.bucket_exists(self._bucket):
                self._client.remove_bucket(self._bucket)
        await self._in_thread(remove)

    def _signed(self, method: str, key: str, expires_s: int, headers: Mapping[str, str] | None = None,
                at: int | None = None) -> str:
        signer = self._signers[self._at if at is None else at]
        return s3_signing.presigned(signer, method, f"/{self._bucket}/{key}", expires_s, headers or {})

    @property
    def _endpoint(self) -> str:
        return self._signers[self._at].endpoint

    async def _exchange(self, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        return await self._guard.run(lambda: self._found(method, key, **options))

    async def _found(self, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        """Send it; an object that one node does not find is looked for at the others.

        A node that comes back knows its peers' drives some seconds later, and denies until then what was written without it.
        """
        answer = await self._send(method, key, **options)
        if answer[0] == 404 and method in ("GET", "HEAD"):
            at = self._at
            for other in (other for other in range(len(self._signers)) if other != at):
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    told = await self._ask(other, method, key, **options)
                    if told[0] in (200, 206, 416):
                        return told
        return answer

    async def _ask(self, at: int, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        # The URL is signed as it stands: yarl must not encode it again.
        url = yarl.URL(self._signed(method, key, OWN_EXPIRY_S, at=at), encoded=True)
        async with self._session.request(method, url, **options) as reply:
            return reply.status, reply.headers, await reply.read()

    async def _send(self, method: str, key: str, **options: Any) -> tuple[int, Any, bytes]:
        may_have_happened = False
        for left in reversed(range(len(self._signers))):
            at = self._at
            try:
                return await self._ask(at, method, key, **options)
            except (aiohttp.ClientError, OSError) as problem:
                may_have_happened |= not isinstance(problem, NEVER_SENT)
                broke = isinstance(problem, aiohttp.ClientConnectionError) and not isinstance(problem, TimeoutError)
                if not broke or not left:
                    raise mapped(problem, self._endpoint, may_have_happened) from problem
                if at == self._at:  # nobody else has turned to the next one
                    self._at = (at + 1) % len(self._signers)
        raise AssertionError("unreachable")

    async def _look(self) -> None:
        """Keep to the first node that lives; where none does, to the one in use."""
        patience = aiohttp.ClientTimeout(total=WATCH_S)
        while True:
            for at, signer in enumerate(self._signers):
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    async with self._session.get(f"http://{signer.endpoint}{ALIVE}", timeout=patience) as reply:
                        if reply.status == 200:
                            self._at = at
                            break
            await asyncio.sleep(WATCH_S)

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


def mapped(problem: BaseException, endpoint: str, may_have_happened: bool = False) -> LabError:
    """Return the error of ours for anything that the HTTP clients or minio-py raise. `may_have_happened`: earlier."""
    never_sent = isinstance(problem, NEVER_SENT) and not may_have_happened
    text = f"S3 at {endpoint}: {problem or type(problem).__name__}; see `tweetlab status` and the log of minio."
    return StoreUnavailable(text, definite=never_sent)
