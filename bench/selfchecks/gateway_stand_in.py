"""A fake gateway to test the load generator: it replies immediately, and freezes, refuses or drops on request.

It implements the API's shapes and keeps its tweets in memory; a run against it measures the generator, not a
system. `python -m bench.selfchecks.gateway_stand_in HOST PORT` with REHEARSAL set to JSON: {"freeze_at_s",
"freeze_s"} (from the first request on), {"refuse_every": n} (each n-th write is refused with 503),
{"drop_every": n} (each n-th write is executed and its connection closed in the middle of the reply).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
import time
from typing import Any

import orjson
import uvicorn
from PIL import Image, ImageOps

PAGE = 20
FIRST_ID = 1_900_000_000_000_000_000
Reply = tuple[int, Any]


class Stage:
    """The fake's state. `answered_ns`: operation -> when its reply was handed to the kernel (monotonic)."""

    def __init__(self, knobs: dict[str, float]) -> None:
        self.knobs = knobs
        self.began_ns = 0
        self.frozen = False
        self.answered_ns: dict[int, int] = {}
        self.tweets: list[tuple[int, int]] = []
        self.deleted: set[int] = set()
        self.keys: dict[str, int] = {}
        self.blobs: dict[str, bytes] = {}
        self.writes = 0
        self.dropping = False

    def maybe_freeze(self) -> None:
        """Block the whole process once, at the configured time."""
        now_ns = time.monotonic_ns()
        self.began_ns = self.began_ns or now_ns
        due_ns = self.began_ns + self.knobs.get("freeze_at_s", 1e9) * 1e9
        if not self.frozen and now_ns >= due_ns:
            self.frozen = True
            time.sleep(self.knobs["freeze_s"])  # blocks the event loop on purpose: that is the freeze

    def answer(self, method: str, path: str, query: str, headers: dict[bytes, bytes], body: bytes, host: str) -> Reply:
        """Return status and JSON (or bytes) of the reply to one request."""
        parts = path.strip("/").split("/")
        if path == "/null":
            return 200, b""
        if path == "/answered":
            return 200, list(self.answered_ns.items())
        if parts[0] == "blob":
            return self._blob(method, parts[1], body)
        if not headers.get(b"authorization", b"").startswith(b"Bearer "):
            return 401, {"title": "Unauthorized", "detail": "no token", "type": "about:blank", "status": 401}
        if method in ("POST", "DELETE"):
            self.writes += 1
            if self._every("refuse_every"):
                return 503, {"title": "Service Unavailable", "detail": "refuse_every", "type": "about:blank", "status": 503}
            self.dropping = self._every("drop_every")
            return self._write(method, parts, headers, body, host)
        return self._read(parts, query, host)

    def _every(self, knob: str) -> bool:
        every = int(self.knobs.get(knob, 0))
        return bool(every) and self.writes % every == 0

    def _blob(self, method: str, name: str, body: bytes) -> Reply:
        if method == "PUT":
            self.blobs[name] = bare(body)
            return 200, b""
        return (200, self.blobs[name]) if name in self.blobs else (404, b"")

    def _write(self, method: str, parts: list[str], headers: dict[bytes, bytes], body: bytes, host: str) -> Reply:
        if method == "POST" and parts[1] == "tweets":
            key = headers.get(b"idempotency-key", b"").decode()
            if key not in self.keys:
                self.keys[key] = FIRST_ID + len(self.tweets)
                self.tweets.append((self.keys[key], 1))
            return 201, {"data": {"id": str(self.keys[key]), "text": orjson.loads(body)["text"]}}
        if parts[1] == "media":
            name = str(self.writes) if parts[-1] == "initialize" else parts[3]
            return 200, {"data": {"id": name, "upload_url": f"http://{host}/blob/{name}?signature=x"}}
        if method == "DELETE" and parts[1] == "tweets":
            self.deleted.add(int(parts[2]))
            return 200, {"data": {"deleted": True}}
        if "likes" in parts:
            return 200, {"data": {"liked": method == "POST"}}
        return 200, {"data": {"following": method == "POST"}}

    def _read(self, parts: list[str], query: str, host: str) -> Reply:
        if parts[1] == "media":
            digest = hashlib.sha256(self.blobs.get(parts[2], b"")).hexdigest()
            return 200, {"data": {"id": parts[2], "url": f"http://{host}/blob/{parts[2]}", "sha256": digest}}
        if parts[-1] in ("reverse_chronological", "tweets", "recent"):
            token = next((int(pair[17:]) for pair in query.split("&") if pair.startswith("pagination_token=")), 1 << 62)
            page = [tweet for tweet in reversed(self.tweets) if tweet[0] < token and tweet[0] not in self.deleted][:PAGE]
            meta = {"result_count": len(page), **({"next_token": str(page[-1][0])} if len(page) == PAGE else {})}
            rows = [{"id": str(tweet_id), "author_id": str(author), "text": "x"} for tweet_id, author in page]
            return 200, {"data": rows, "meta": meta}
        return 200, {"data": {"id": parts[-1], "author_id": "1", "text": "x"}}


def bare(picture: bytes) -> bytes:
    """Return a still picture with the same look, as a PNG without metadata."""
    file = io.BytesIO()
    ImageOps.exif_transpose(Image.open(io.BytesIO(picture))).convert("RGBA").save(file, "PNG", compress_level=0)
    return file.getvalue()


def application(stage: Stage) -> Any:
    """Return the ASGI application around `stage`."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        stage.maybe_freeze()
        headers = dict(scope["headers"])
        status, answer = stage.answer(scope["method"], scope["path"], scope["query_string"].decode(), headers, body,
                                      headers[b"host"].decode())
        if stage.dropping:
            stage.dropping = False
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"99")]})
            raise ConnectionResetError("configured to drop: the connection is closed before the end of the reply")
        content = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        fields = [(b"content-length", str(len(content)).encode()), (b"x-tweetlab-source", b"hit"),
                  (b"x-tweetlab-scanned", b"7"), (b"x-tweetlab-instance", b"rehearsal-1"),
                  (b"server-timing", b"gateway;dur=1.5, timelines;dur=0.8, redis;dur=0.3")]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": content})
        if b"x-request-id" in headers:
            stage.answered_ns.setdefault(int(headers[b"x-request-id"].split(b"-")[1]), time.monotonic_ns())

    return app


def main() -> None:
    """Serve until killed."""
    host, port = sys.argv[1], int(sys.argv[2])
    stage = Stage(json.loads(os.environ.get("REHEARSAL", "{}")))
    config = uvicorn.Config(application(stage), host=host, port=port, log_level="critical", lifespan="off", access_log=False)
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
