"""Rows about media: the cost of the API for an upload, and how close the edge's cache comes to LRU."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import yarl
from PIL import Image

from scenarios.world import pictures
from system.kernel import cdn_links
from system.kernel.errors import CouldNotRun
from system.platform import paths
from system.platform.servers import nginx
from system.stores.nginx_edge import NginxEdge
from system.stores.s3 import blobs as minio_blobs
from system.stores.s3 import signing as s3_signing
from tweetlab.lab import session
from tweetlab.terminal import Screen

MIB = 2**20
CLIENTS, ROUNDS, UPLOADS = 8, 4, 400
OBJECTS, EXPONENT, SHARE = 10_000, 0.8, 0.1
BODY_BYTES, BLOCK = 3_000, 4_096  # with the header that nginx stores, one block of the file system each
WARM, COUNTED = 8_000, 30_000     # requests; a cache of 1,000 forgets within about 3,000
ZONE_KIB = 136                    # an index of 32 pages of 32 objects: see `_check_size`
SIDE = 590                        # pixels: random ones cannot be compressed, so a PNG of them has about 1 MiB

_ratios: tuple[float, float] | None = None


async def ratios() -> tuple[float, float]:
    """Return (signed PUTs/s, complete uploads/s), each ÷ plain S3 PUTs/s, 1 MiB each, in one run; measured once per process.

    A signed PUT is part of a complete upload: it is initialized before the clock starts and must finalize
    after it stops. So the first ratio compares the path of the bytes, which the API never touches; the second
    times all three steps.
    """
    global _ratios
    if _ratios is None:
        _ratios = await _measured()
    return _ratios


async def _measured() -> tuple[float, float]:
    screen = Screen()
    async with session.opened(screen, "small") as lab:
        try:
            async with _client() as web:
                uploads = _Uploads(lab, web)
                await uploads.warm()
                plain: list[float] = []
                signed: list[float] = []
                for turn in range(ROUNDS):
                    for kind in ("plain", "signed") if turn % 2 else ("signed", "plain"):
                        (plain if kind == "plain" else signed).append(await getattr(uploads, kind)())
                complete = await uploads.complete()
        finally:
            real: Any = lab.ports
            await asyncio.gather(real.media.clear(), real.blobs.clear())
    rates = float(np.mean(plain)), float(np.mean(signed))
    screen.say(f"1 MiB each, {CLIENTS} clients: plain S3 PUTs {rates[0]:.1f}/s, signed PUTs {rates[1]:.1f}/s, "
               f"signed uploads with initialize and finalize {complete:.1f}/s ({complete / rates[0]:.2f} of plain)")
    return rates[1] / rates[0], complete / rates[0]


def _picture(number: int) -> bytes:
    pixels = random.Random(number).randbytes(3 * SIDE * SIDE)
    return pictures.encode(Image.frombytes("RGB", (SIDE, SIDE), pixels), "image/png")


def _client() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=4 * CLIENTS, keepalive_timeout=60)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20))


class _Uploads:
    """The ways to upload a picture of 1 MiB.

    Rates are per second of CLIENTS clients, each sending sequentially.
    """

    def __init__(self, lab: session.Session, web: aiohttp.ClientSession) -> None:
        stores = lab.settings.stores
        self._web, self._bucket = web, cdn_links.bucket(lab.settings.namespace)
        self._signer = s3_signing.Signer(stores.minio, stores.minio_access_key, stores.minio_secret_key, minio_blobs.REGION)
        self._tokens = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, CLIENTS + 1)]
        self._upload = f"{lab.base_url}/2/media/upload"
        self._pictures = [_picture(n) for n in range(16)]
        self._sums = [hashlib.sha256(picture).hexdigest() for picture in self._pictures]

    async def warm(self) -> None:
        """Use every way once to warm up connections and code."""
        await _rate(self._plain_put, 4 * CLIENTS)
        await _rate(self._journey, 4 * CLIENTS)

    async def plain(self) -> float:
        """Return the rate of PUTs with the bucket's credentials and a checksum that storage verifies, as an S3 client sends."""
        return await _rate(self._plain_put, UPLOADS)

    async def signed(self) -> float:
        """Return the rate of PUTs to the URLs of initialize (bound to type, size, digest, a new key); each is then finalized."""
        uploads: list[dict[str, Any]] = [{}] * UPLOADS

        async def initialize(n: int) -> None:
            uploads[n] = await self._initialize(n)

        async def finalize(n: int) -> None:
            await self._finalize(n, uploads[n])

        await _rate(initialize, UPLOADS)
        rate = await _rate(lambda n: self._signed_put(n, uploads[n]), UPLOADS)
        await _rate(finalize, UPLOADS)
        return rate

    async def complete(self) -> float:
        """Return the rate of complete uploads: initialize, PUT, finalize."""
        return await _rate(self._journey, UPLOADS)

    async def _journey(self, n: int) -> None:
        upload = await self._initialize(n)
        await self._signed_put(n, upload)
        await self._finalize(n, upload)

    async def _plain_put(self, n: int) -> None:
        digest = base64.b64encode(bytes.fromhex(self._sums[n % 16])).decode()
        headers = {"content-type": "image/png", minio_blobs.CHECKSUM: digest}
        url = s3_signing.presigned(self._signer, "PUT", f"/{self._bucket}/plain/{secrets.token_hex(8)}", 60, headers)
        await self._put(n, url, headers)

    async def _signed_put(self, n: int, upload: Mapping[str, Any]) -> None:
        await self._put(n, upload["upload_url"], upload["upload_headers"])

    async def _put(self, n: int, url: str, headers: Mapping[str, str]) -> None:
        async with self._web.put(yarl.URL(url, encoded=True), data=self._pictures[n % 16], headers=headers) as reply:
            await reply.read() if reply.status == 200 else _fail("PUT", reply)

    async def _initialize(self, n: int) -> dict[str, Any]:
        body = {"media_type": "image/png", "total_bytes": len(self._pictures[n % 16]), "sha256": self._sums[n % 16]}
        async with self._web.post(f"{self._upload}/initialize", json=body, headers=self._tokens[n % CLIENTS]) as reply:
            return dict((await reply.json())["data"]) if reply.status == 201 else _fail("initialize", reply)

    async def _finalize(self, n: int, upload: Mapping[str, Any]) -> None:
        async with self._web.post(f"{self._upload}/{upload['id']}/finalize", headers=self._tokens[n % CLIENTS]) as reply:
            await reply.read() if reply.status == 200 else _fail("finalize", reply)


async def _rate(send: Callable[[int], Awaitable[None]], count: int) -> float:
    """Return the rate per second at which CLIENTS clients complete `send(0)` to `send(count - 1)`."""
    numbers = iter(range(count))

    async def client() -> None:
        for n in numbers:
            await send(n)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return count / (time.monotonic() - began)


def _fail(what: str, reply: aiohttp.ClientResponse) -> Any:
    raise CouldNotRun(f"{what} answered {reply.status}; the lab cannot be measured.")


@dataclass(frozen=True)
class CacheResult:
    """`hits` of `lookups`; `cached`: objects in the cache at the end; `cached_bytes`: their blocks on disk."""

    hits: int
    lookups: int
    cached: int
    cached_bytes: int


async def hit_vs_lru() -> float:
    """Return the edge's hit ratio ÷ Che's approximation for LRU: Zipf requests, a cache for a tenth of the bytes."""
    screen = Screen()
    async with session.opened(screen, "small") as lab:
        config = replace(lab.settings, namespace=f"bench{secrets.token_hex(3)}", cdn=f"http://127.{lab.settings.range}.8.9:8080")
        blobs = await minio_blobs.MinioBlobs.open(config)
        try:
            await blobs.prepare()
            with screen.step(f"putting {OBJECTS:,} objects"):
                await _fill(blobs)
            async with _running(config) as folder:
                links = await NginxEdge.open(config)
                try:
                    result = await _request(links, folder)
                finally:
                    await links.close()
        finally:
            await blobs.drop()
            await blobs.close()
    _check_size(result)
    theory = che(zipf(OBJECTS, EXPONENT), OBJECTS * SHARE)
    screen.say(f"hit ratio {result.hits / result.lookups:.4f}, Che's for LRU {theory:.4f}; {result.cached:,} objects, "
               f"{result.cached_bytes / (OBJECTS * BLOCK):.1%} of the bytes were cached at the end")
    return result.hits / result.lookups / theory


def zipf(count: int, exponent: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the shares of requests of `count` objects, shape (count,), the most popular first."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def che(shares: np.ndarray[Any, np.dtype[np.float64]], capacity: float) -> float:
    """Return the hit ratio of an LRU cache of `capacity` objects, by Che's approximation.

    An object is in the cache if it was requested within the last t requests; t is such that `capacity`
    objects are.
    """
    low, high = 0.0, float(len(shares)) * 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - np.exp(-shares * middle)).sum() < capacity else (low, middle)
    return float((shares * (1 - np.exp(-shares * low))).sum())


async def _fill(blobs: minio_blobs.MinioBlobs) -> None:
    body = random.Random(1).randbytes(BODY_BYTES)
    numbers = iter(range(OBJECTS))

    async def client() -> None:
        for n in numbers:
            await blobs.put(_key(n), body, "image/png")

    await asyncio.gather(*(client() for _ in range(16)))


def _key(number: int) -> str:
    return f"media/1/{number}"


@contextlib.asynccontextmanager
async def _running(config: Any) -> AsyncIterator[Path]:
    """Run a second edge like the lab's, with a cache of a tenth of the bytes; yield its folder."""
    folder = Path(tempfile.mkdtemp(prefix="tweetlab-edge-", dir=paths.data_dirs()))
    cache_bytes = int(OBJECTS * SHARE * BLOCK)
    edge = nginx.Edge(config.cdn.removeprefix("http://"), config.stores.minio, folder, config.edge_secret,
                      cache_bytes=cache_bytes, zone_kib=ZONE_KIB)
    drop = paths.unprivileged()
    for made in (folder, *nginx.folders(edge)):
        made.mkdir(parents=True, exist_ok=True)
    for path, text in edge.files.items():
        path.write_text(text)
    for path in (folder, *folder.rglob("*")):
        if drop:
            shutil.chown(path, *drop)
    user = {"user": drop[0], "group": drop[1], "extra_groups": []} if drop else {}
    process = subprocess.Popen(edge.argv, cwd="/", **user)  # type: ignore[call-overload]  # noqa: ASYNC220 - a fork, 1 ms
    try:
        await asyncio.sleep(0.5)
        if process.poll() is not None:
            raise CouldNotRun(f"nginx exited with {process.returncode}; its output is above.")
        yield folder
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        shutil.rmtree(folder, ignore_errors=True)


async def _request(links: NginxEdge, folder: Path) -> CacheResult:
    """Request WARM + COUNTED objects, CLIENTS concurrently; count the hits among the last COUNTED."""
    drawn = np.random.default_rng(7).choice(OBJECTS, WARM + COUNTED, p=zipf(OBJECTS, EXPONENT)).tolist()
    object_of = np.random.default_rng(8).permutation(OBJECTS).tolist()  # rank -> object: ranks are not neighbours
    hits = 0
    numbers: Iterator[tuple[int, int]] = iter(enumerate(drawn))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as web:
        async def client() -> None:
            nonlocal hits
            for at, rank in numbers:
                url = yarl.URL(links.link(_key(object_of[rank]), 60), encoded=True)
                async with web.get(url) as reply:
                    body = await reply.read()
                    if reply.status != 200 or len(body) != BODY_BYTES:
                        _fail("the edge", reply)
                    hits += at >= WARM and reply.headers.get("X-Cache") == "HIT"

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    files = [path.stat() for path in (folder / "cache").rglob("*") if path.is_file()]
    return CacheResult(hits, COUNTED, len(files), sum(file.st_blocks * 512 for file in files))


def _check_size(result: CacheResult) -> None:
    """Raise CouldNotRun unless the cache held a tenth of the bytes: a larger one would beat LRU, a smaller one lose to it.

    nginx enforces `max_size` every 10 s at most, by its cache manager; it enforces the bound on objects
    immediately, when an object exceeds the capacity of the index. At hundreds of misses per second the index
    determines the size.
    """
    share = result.cached_bytes / (OBJECTS * BLOCK)
    if not 0.9 * SHARE <= share <= 1.1 * SHARE:
        raise CouldNotRun(f"The cache held {share:.1%} of the bytes ({result.cached} objects); the row requires {SHARE:.0%}.")
