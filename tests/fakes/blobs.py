"""In-memory BlobStore, held to the same contract tests as the S3 adapter.

As an async context manager it serves its signed URLs (a small HTTP server on a free port of 127.0.0.1).
Otherwise the URLs are well-formed, but no server answers them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import urllib.parse
from typing import Self

from aiohttp import web

from system.kernel.errors import NotFound
from system.ports import Blob, SignedPut

CHECKSUM = "x-amz-checksum-sha256"


class MemoryBlobs:
    """Objects in memory."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[Blob, bytes]] = {}
        self._secret = secrets.token_bytes(16)
        self._base = "http://127.0.0.1:9"  # the discard port
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{key:.+}", self._serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._base = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop serving URLs; the objects stay. Safe to repeat."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def ready(self) -> None:
        """Return: memory always answers."""

    async def prepare(self) -> None:
        """Do nothing: there is no bucket."""

    async def clear(self) -> None:
        """Remove all objects."""
        self._objects.clear()

    def signed_put(self, key: str, content_type: str, size: int, sha256: str, expires_s: int) -> SignedPut:
        headers = {"content-type": content_type, "if-none-match": "*"}
        if sha256:
            headers[CHECKSUM] = base64.b64encode(bytes.fromhex(sha256)).decode()
        return SignedPut(self._signed("PUT", key, expires_s, f"{size} {headers}"), headers)

    def signed_get(self, key: str, expires_s: int) -> str:
        return self._signed("GET", key, expires_s, "")

    async def head(self, key: str) -> Blob | None:
        return self._objects[key][0] if key in self._objects else None

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        self._store(key, data, content_type, hashlib.sha256(data).hexdigest())

    async def get(self, key: str) -> bytes:
        if key not in self._objects:
            raise NotFound(f"There is no object {key!r}; it was never uploaded, or was removed.")
        return self._objects[key][1]

    async def remove(self, key: str) -> None:
        self._objects.pop(key, None)

    def _store(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        self._objects[key] = (Blob(key, len(data), content_type, sha256), data)

    def _signed(self, method: str, key: str, expires_s: int, more: str) -> str:
        ends_s = int(time.time()) + expires_s
        query = urllib.parse.urlencode({"ends": ends_s, "signature": self._signature(method, key, ends_s, more)})
        return f"{self._base}/{urllib.parse.quote(key)}?{query}"

    def _signature(self, method: str, key: str, ends_s: int, more: str) -> str:
        return hmac.new(self._secret, f"{method}\n{key}\n{ends_s}\n{more}".encode(), hashlib.sha256).hexdigest()

    async def _serve(self, request: web.Request) -> web.Response:
        key, ends_s = request.match_info["key"], int(request.query.get("ends", "0"))
        if request.method == "PUT":
            return await self._accept_put(request, key, ends_s)
        valid = hmac.compare_digest(request.query.get("signature", ""), self._signature(request.method, key, ends_s, ""))
        if not valid or time.time() >= ends_s:
            return web.Response(status=403)
        if key not in self._objects:
            return web.Response(status=404)
        blob, data = self._objects[key]
        return web.Response(body=data, headers={"Content-Type": blob.content_type})

    async def _accept_put(self, request: web.Request, key: str, ends_s: int) -> web.Response:
        headers = {name: request.headers[name] for name in ("content-type", "if-none-match", CHECKSUM) if name in request.headers}
        data = await request.read()
        signature = self._signature("PUT", key, ends_s, f"{len(data)} {headers}")
        if not hmac.compare_digest(request.query.get("signature", ""), signature) or time.time() >= ends_s:
            return web.Response(status=403)
        if key in self._objects:
            return web.Response(status=412)
        declared = base64.b64decode(headers.get(CHECKSUM, "")).hex()
        if declared not in ("", hashlib.sha256(data).hexdigest()):
            return web.Response(status=400)
        self._store(key, data, headers.get("content-type", ""), declared)
        return web.Response()
