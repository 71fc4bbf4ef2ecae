"""Rows about media: what the way through the API costs an upload, and how near the edge's cache comes to LRU."""

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
BODY_BYTES, BLOCK = 3_000, 4_096  # with the header that nginx keeps, one block of the file system each
WARM, COUNTED = 8_000, 30_000     # requests; a cache of 1,000 forgets within about 3,000
ZONE_KIB = 136                    # an index of 32 pages of 32 objects: see `_fits`
PNG = b"\x89PNG\r\n\x1a\n"

# ---- signed uploads against plain puts -------------------------------------------------------------------


_ratios: tuple[float, float] | None = None


async def ratios() -> tuple[float, float]:
    """Return (signed PUTs/s, whole uploads/s), each ÷ plain S3 PUTs/s, 1 MiB each, in one run; measured once a process.

    A signed PUT is part of a whole upload, too: it is initialised before the clock runs and must finalize after it. So the first
    compares the way of the bytes, which the API never touches; the second has all three steps inside the clock.
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
                shop = _Uploads(lab, web)
                await shop.warm()
                plain: list[float] = []
                signed: list[float] = []
                for turn in range(ROUNDS):
                    for kind in ("plain", "signed") if turn % 2 else ("signed", "plain"):
                        (plain if kind == "plain" else signed).append(await getattr(shop, kind)())
                whole = await shop.whole()
        finally:
            real: Any = lab.ports
            await asyncio.gather(real.media.clear(), real.blobs.clear())
    rates = float(np.mean(plain)), float(np.mean(signed))
    screen.say(f"1 MiB each, {CLIENTS} clients: plain S3 PUTs {rates[0]:.1f}/s, signed PUTs {rates[1]:.1f}/s, "
               f"signed uploads with initialize and finalize {whole:.1f}/s ({whole / rates[0]:.2f} of plain)")
    return rates[1] / rates[0], whole / rates[0]


def _client() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=4 * CLIENTS, keepalive_timeout=60)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20))


class _Uploads:
    """The ways in which a picture of 1 MiB goes up. Rates are per second of CLIENTS clients, each sending one after the other."""

    def __init__(self, lab: session.Session, web: aiohttp.ClientSession) -> None:
        stores = lab.settings.stores
        self._web, self._bucket = web, cdn_links.bucket(lab.settings.namespace)
        self._signer = s3_signing.Signer(stores.minio, stores.minio_access_key, stores.minio_secret_key, minio_blobs.REGION)
        self._tokens = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, CLIENTS + 1)]
        self._upload = f"{lab.base_url}/2/media/upload"
        self._pictures = [PNG + random.Random(n).randbytes(MIB - len(PNG)) for n in range(16)]
        self._sums = [hashlib.sha256(picture).hexdigest() for picture in self._pictures]

    async def warm(self) -> None:
        """Use every way once, so that connections and code are warm."""
        await _rate(self._plain_put, 4 * CLIENTS)
        await _rate(self._journey, 4 * CLIENTS)

    async def plain(self) -> float:
        """PUTs with the bucket's own credentials and a checksum that storage verifies, as an S3 client sends them."""
        return await _rate(self._plain_put, UPLOADS)

    async def signed(self) -> float:
        """PUTs by the URLs of initialize, which bind type, size, digest and that nothing stands there; each is then finalised."""
        places: list[dict[str, Any]] = [{}] * UPLOADS

        async def initialize(n: int) -> None:
            places[n] = await self._initialize(n)

        async def finalize(n: int) -> None:
            await self._finalize(n, places[n])

        await _rate(initialize, UPLOADS)
        rate = await _rate(lambda n: self._signed_put(n, places[n]), UPLOADS)
        await _rate(finalize, UPLOADS)
        return rate

    async def whole(self) -> float:
        """Whole uploads: initialize, PUT, finalize."""
        return await _rate(self._journey, UPLOADS)

    async def _journey(self, n: int) -> None:
        place = await self._initialize(n)
        await self._signed_put(n, place)
        await self._finalize(n, place)

    async def _plain_put(self, n: int) -> None:
        digest = base64.b64encode(bytes.fromhex(self._sums[n % 16])).decode()
        headers = {"content-type": "image/png", minio_blobs.CHECKSUM: digest}
        url = s3_signing.presigned(self._signer, "PUT", f"/{self._bucket}/plain/{secrets.token_hex(8)}", 60, headers)
        await self._put(n, url, headers)

    async def _signed_put(self, n: int, place: Mapping[str, Any]) -> None:
        await self._put(n, place["upload_url"], place["upload_headers"])

    async def _put(self, n: int, url: str, headers: Mapping[str, str]) -> None:
        async with self._web.put(yarl.URL(url, encoded=True), data=self._pictures[n % 16], headers=headers) as answer:
            await answer.read() if answer.status == 200 else _refuse("PUT", answer)

    async def _initialize(self, n: int) -> dict[str, Any]:
        wish = {"media_type": "image/png", "total_bytes": MIB, "sha256": self._sums[n % 16]}
        async with self._web.post(f"{self._upload}/initialize", json=wish, headers=self._tokens[n % CLIENTS]) as answer:
            return dict((await answer.json())["data"]) if answer.status == 201 else _refuse("initialize", answer)

    async def _finalize(self, n: int, place: Mapping[str, Any]) -> None:
        async with self._web.post(f"{self._upload}/{place['id']}/finalize", headers=self._tokens[n % CLIENTS]) as answer:
            await answer.read() if answer.status == 200 else _refuse("finalize", answer)


async def _rate(send: Callable[[int], Awaitable[None]], count: int) -> float:
    """Return how many of `send(0)` to `send(count - 1)` were done a second by CLIENTS clients."""
    numbers = iter(range(count))

    async def client() -> None:
        for n in numbers:
            await send(n)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return count / (time.monotonic() - began)


def _refuse(what: str, answer: aiohttp.ClientResponse) -> Any:
    raise CouldNotRun(f"{what} answered {answer.status}; the lab is not fit to measure.")


# ---- the edge's cache against LRU ------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """`hits` of `asked` look-ups; `kept`: objects in the cache at the end; `kept_bytes`: their blocks on disk."""

    hits: int
    asked: int
    kept: int
    kept_bytes: int


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
                    seen = await _ask(links, folder)
                finally:
                    await links.close()
        finally:
            await blobs.drop()
            await blobs.close()
    _fits(seen)
    theory = che(zipf(OBJECTS, EXPONENT), OBJECTS * SHARE)
    screen.say(f"hit ratio {seen.hits / seen.asked:.4f}, Che's for LRU {theory:.4f}; {seen.kept:,} objects, "
               f"{seen.kept_bytes / (OBJECTS * BLOCK):.1%} of the bytes were cached at the end")
    return seen.hits / seen.asked / theory


def zipf(count: int, exponent: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the shares of requests of `count` objects, shape (count,), the most wanted first."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def che(shares: np.ndarray[Any, np.dtype[np.float64]], room: float) -> float:
    """Return the hit ratio of an LRU cache with `room` objects, by Che's approximation.

    An object is in the cache if it was asked for within the last t requests; t is such that `room` objects are.
    """
    low, high = 0.0, float(len(shares)) * 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - np.exp(-shares * middle)).sum() < room else (low, middle)
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
    """Run an edge like the lab's, with a cache of a tenth of the bytes, beside it; yield its folder."""
    folder = Path(tempfile.mkdtemp(prefix="tweetlab-edge-", dir=paths.data_dirs()))
    cache_bytes = int(OBJECTS * SHARE * BLOCK)
    one = nginx.Edge(config.cdn.removeprefix("http://"), config.stores.minio, folder, config.edge_secret,
                     cache_bytes=cache_bytes, zone_kib=ZONE_KIB)
    drop = paths.unprivileged()
    for made in (folder, *nginx.folders(one)):
        made.mkdir(parents=True, exist_ok=True)
    for path, text in one.files.items():
        path.write_text(text)
    for path in (folder, *folder.rglob("*")):
        if drop:
            shutil.chown(path, *drop)
    user = {"user": drop[0], "group": drop[1], "extra_groups": []} if drop else {}
    process = subprocess.Popen(one.argv, cwd="/", **user)  # type: ignore[call-overload]  # noqa: ASYNC220 - a fork, 1 ms
    try:
        await asyncio.sleep(0.5)
        if process.poll() is not None:
            raise CouldNotRun(f"nginx ended with {process.returncode}; its words stand above.")
        yield folder
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        shutil.rmtree(folder, ignore_errors=True)


async def _ask(links: NginxEdge, folder: Path) -> Seen:
    """Ask for WARM + COUNTED objects, CLIENTS at a time; count the hits among the last COUNTED."""
    drawn = np.random.default_rng(7).choice(OBJECTS, WARM + COUNTED, p=zipf(OBJECTS, EXPONENT)).tolist()
    places_of = np.random.default_rng(8).permutation(OBJECTS).tolist()  # rank -> object: ranks are not neighbours
    hits = 0
    numbers: Iterator[tuple[int, int]] = iter(enumerate(drawn))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as web:
        async def client() -> None:
            nonlocal hits
            for at, rank in numbers:
                url = yarl.URL(links.link(_key(places_of[rank]), 60), encoded=True)
                async with web.get(url) as answer:
                    body = await answer.read()
                    if answer.status != 200 or len(body) != BODY_BYTES:
                        _refuse("the edge", answer)
                    hits += at >= WARM and answer.headers.get("X-Cache") == "HIT"

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    files = [path.stat() for path in (folder / "cache").rglob("*") if path.is_file()]
    return Seen(hits, COUNTED, len(files), sum(file.st_blocks * 512 for file in files))


def _fits(seen: Seen) -> None:
    """Raise CouldNotRun unless the cache held a tenth of the bytes: a larger one would beat LRU, a smaller one lose to it.

    nginx holds `max_size` at intervals of up to 10 s, by its manager; the bound on objects holds at once, by whoever brings
    one more than the index has room for. At hundreds of misses a second it is the index that makes the cache this large.
    """
    share = seen.kept_bytes / (OBJECTS * BLOCK)
    if not 0.9 * SHARE <= share <= 1.1 * SHARE:
        raise CouldNotRun(f"The cache held {share:.1%} of the bytes ({seen.kept} objects); the row is about {SHARE:.0%}.")
