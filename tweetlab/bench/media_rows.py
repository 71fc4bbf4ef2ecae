"""Rows about media: what the way through the API costs an upload, and how near the edge's cache comes to LRU."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
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

from system.kernel import edge
from system.kernel.errors import CouldNotRun
from system.platform import places
from system.platform.servers import nginx
from system.stores import minio_blobs, s3_signing
from system.stores.nginx_edge import NginxEdge
from tweetlab import session
from tweetlab.screen import Screen

MIB = 2**20
CLIENTS, ROUNDS, ROUND_S = 8, 4, 5.0
OBJECTS, EXPONENT, SHARE = 10_000, 0.8, 0.1
BODY_BYTES, BLOCK = 3_000, 4_096  # with the header that nginx keeps, one block of the file system each
WARM, COUNTED = 8_000, 30_000     # requests; a cache of 1,000 forgets within about 3,000
ZONE_KIB = 136                    # an index of 32 pages of 32 objects: see `_fits`
PNG = b"\x89PNG\r\n\x1a\n"

Send = Callable[[aiohttp.ClientSession, int], Awaitable[None]]


# ---- signed uploads against plain puts -------------------------------------------------------------------


async def put_ratio() -> float:
    """Return uploads/s of whole signed journeys (initialize, PUT, finalize) ÷ plain S3 puts/s; 1 MiB each, in turns, one run."""
    screen = Screen()
    async with session.opened(screen, "small") as lab:
        pictures = [PNG + random.Random(n).randbytes(MIB - len(PNG)) for n in range(16)]
        sums = [hashlib.sha256(picture).hexdigest() for picture in pictures]
        ways = {"plain": _plain(lab, pictures, sums), "signed": _signed(lab, pictures, sums)}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        connector = aiohttp.TCPConnector(limit=4 * CLIENTS, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as web:
            for send in ways.values():
                await _rate(web, send, 2.0)  # warms connections and code
            for turn in range(ROUNDS):
                for name in sorted(ways, reverse=bool(turn % 2)):
                    rates[name].append(await _rate(web, ways[name], ROUND_S))
        real: Any = lab.ports
        await asyncio.gather(real.media.clear(), real.blobs.clear())
    plain, signed = float(np.mean(rates["plain"])), float(np.mean(rates["signed"]))
    screen.say(f"1 MiB each, {CLIENTS} clients: plain S3 puts {plain:.1f}/s, signed uploads {signed:.1f}/s")
    return signed / plain


async def _rate(web: aiohttp.ClientSession, send: Send, for_s: float) -> float:
    """Return uploads a second of CLIENTS clients, each sending one after the other."""
    began = time.monotonic()
    done = 0
    last = began

    async def client(n: int) -> None:
        nonlocal done, last
        for k in itertools.count(n, CLIENTS):
            if time.monotonic() - began >= for_s:
                return
            await send(web, k)
            done += 1
            last = time.monotonic()

    await asyncio.gather(*(client(n) for n in range(CLIENTS)))
    return done / (last - began)


def _plain(lab: session.Session, pictures: list[bytes], sums: list[str]) -> Send:
    """A PUT with the bucket's own credentials and a checksum that storage verifies, as an S3 client sends it."""
    stores = lab.settings.stores
    signer = s3_signing.Signer(stores.minio, stores.minio_access_key, stores.minio_secret_key, minio_blobs.REGION)
    bucket, run = edge.bucket(lab.settings.namespace), secrets.token_hex(4)

    async def send(web: aiohttp.ClientSession, n: int) -> None:
        picture = n % len(pictures)
        headers = {"content-type": "image/png", minio_blobs.CHECKSUM: _base64(sums[picture])}
        url = s3_signing.presigned(signer, "PUT", f"/{bucket}/plain/{run}/{n}-{secrets.token_hex(4)}", 60, headers)
        await _put(web, url, pictures[picture], headers)

    return send


def _signed(lab: session.Session, pictures: list[bytes], sums: list[str]) -> Send:
    """The whole journey of an upload through the API."""
    tokens = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, CLIENTS + 1)]
    upload = f"{lab.base_url}/2/media/upload"

    async def send(web: aiohttp.ClientSession, n: int) -> None:
        picture, token = n % len(pictures), tokens[n % CLIENTS]
        wish = {"media_type": "image/png", "total_bytes": MIB, "sha256": sums[picture]}
        async with web.post(f"{upload}/initialize", json=wish, headers=token) as answer:
            place = (await answer.json())["data"] if answer.status == 201 else _refuse("initialize", answer)
        await _put(web, place["upload_url"], pictures[picture], place["upload_headers"])
        async with web.post(f"{upload}/{place['id']}/finalize", headers=token) as answer:
            await answer.read() if answer.status == 200 else _refuse("finalize", answer)

    return send


async def _put(web: aiohttp.ClientSession, url: str, data: bytes, headers: Mapping[str, str]) -> None:
    async with web.put(yarl.URL(url, encoded=True), data=data, headers=headers) as answer:
        await answer.read() if answer.status == 200 else _refuse("PUT", answer)


def _refuse(what: str, answer: aiohttp.ClientResponse) -> Any:
    raise CouldNotRun(f"{what} answered {answer.status}; the lab is not fit to measure.")


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


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
    folder = Path(tempfile.mkdtemp(prefix="tweetlab-edge-", dir=places.lairs()))
    cache_bytes = int(OBJECTS * SHARE * BLOCK)
    one = nginx.Edge(config.cdn.removeprefix("http://"), config.stores.minio, folder, config.edge_secret,
                     cache_bytes=cache_bytes, zone_kib=ZONE_KIB)
    drop = places.unprivileged()
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
