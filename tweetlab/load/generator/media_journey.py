"""The journey of a picture: initialize an upload, PUT to the signed URL, finalize, look up its URL, GET it from the edge twice.

The first GET fills the edge's cache, the second is served from it; both must return the bytes whose SHA-256 the
look-up states. They must look like the upload, and must not contain the canary position of its metadata.

One operation of the mix is one row: due, first send, end of the last step. Its outcome is that of the first
step that was not ok; a picture that is returned differently is `info`, with that error. Runs in Locust's
process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import orjson

from scenarios.world import pictures
from tweetlab.load.generator import wire
from tweetlab.load.generator.journeys import Op, Row
from tweetlab.load.generator.tokens import Tokens

INITIALIZE = "/2/media/upload/initialize"
FINALIZE = "/2/media/upload/{id}/finalize"
SHOW = "/2/media/{id}"
CONNECTIONS = 64
TIMEOUT_S = 10.0


class Uploads:
    """Runs journeys over the API and over the addresses of signed URLs."""

    def __init__(self, api: wire.Wire, tokens: Tokens) -> None:
        self._api, self._tokens = api, tokens
        self._others: dict[str, wire.Wire] = {}

    def journey(self, op: Op, before_send: Callable[[int], None]) -> tuple[wire.Answer, Row]:
        """Run all steps; return one reply for the journey, with the send time of the first step, and columns of its row.

        `target`: number of the picture, `body_sha`: digest of its look; a check compares it with storage after
        the run.
        """
        picture = pictures.draw(op.seed, op.number)
        look = pictures.look(picture.data)
        walk = _Walk(self, op.user, before_send)
        wanted = {"media_type": picture.media_type, "total_bytes": len(picture.data),
                  "sha256": hashlib.sha256(picture.data).hexdigest()}
        upload = walk.api("initialize", "POST", INITIALIZE, wanted)
        if upload is not None:
            walk.signed("put", "PUT", str(upload.get("upload_url", "")), picture.data, upload.get("upload_headers"))
            name = str(upload.get("id", ""))
            walk.api("finalize", "POST", FINALIZE.format(id=name), None)
            shown = walk.api("show", "GET", SHOW.format(id=name), None) or {}
            for step in ("get", "get again"):
                received = walk.signed(step, "GET", str(shown.get("url", "")), b"")
                if received is not None and (problem := _flaw(received, str(shown.get("sha256", "")), look)):
                    walk.fail(f"{step}: the picture was returned {problem}")
        _, _, number = str((upload or {}).get("id", "")).partition("_")
        known = {"target": int(number), "body_sha": look} if number.isdecimal() else {}
        return walk.reply(), known

    def wire_to(self, address: str) -> wire.Wire:
        """Return the connections to the address of a signed URL."""
        if address == self._api.address:
            return self._api
        if address not in self._others:
            self._others[address] = wire.Wire(address, CONNECTIONS, TIMEOUT_S, errors=self._api.errors)
        return self._others[address]

    def headers(self, user: int) -> str:
        """Return the header lines of an API call by `user`."""
        return self._tokens.headers(user)

    @property
    def api(self) -> wire.Wire:
        """The connections to the gateway."""
        return self._api


class _Walk:
    """One journey in progress: continues while every step is ok."""

    def __init__(self, uploads: Uploads, user: int, before_send: Callable[[int], None]) -> None:
        self._uploads, self._user, self._before_send = uploads, user, before_send
        self._answer: wire.Answer | None = None
        self._sent_ns = 0

    def api(self, step: str, method: str, path: str, body: object) -> dict[str, object] | None:
        """Call the API; return `data` of its reply, None if the journey has ended."""
        raw = orjson.dumps(body) if body is not None else b""
        headers = self._uploads.headers(self._user) + ("content-type: application/json\r\n" if raw else "")
        answer = self._step(step, self._uploads.api, method, path, headers, raw)
        if answer is None or not answer.body:
            return None
        try:
            data = orjson.loads(answer.body)["data"]
            return data if isinstance(data, dict) else None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.fail(f"{step}: unreadable reply")
            return None

    def signed(self, step: str, method: str, url: str, body: bytes, headers: object = None) -> bytes | None:
        """PUT or GET a signed URL with the `headers` that it requires; return the body, None if the journey has ended."""
        if self._ended():
            return None
        split = urlsplit(url)
        if not split.netloc:
            self.fail(f"{step}: no signed URL in the previous reply")
            return None
        path = split.path + (f"?{split.query}" if split.query else "")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) if isinstance(headers, dict) else ""
        answer = self._step(step, self._uploads.wire_to(split.netloc), method, path, lines, body)
        return answer.body if answer is not None else None

    def _step(self, step: str, over: wire.Wire, method: str, path: str, headers: str, body: bytes) -> wire.Answer | None:
        if self._ended():
            return None
        answer = over.exchange(method, path, headers, body, self._before_send)
        self._sent_ns = self._sent_ns or answer.sent_ns
        error = answer.error or (f"HTTP {answer.status}" if answer.outcome != wire.OK else "")
        later = "" if step == "initialize" else wire.INFO  # after the first step the upload exists
        outcome = answer.outcome if answer.outcome == wire.OK else later or answer.outcome
        self._answer = dataclasses.replace(answer, outcome=outcome, error=f"{step}: {error}" if error else "")
        return answer if answer.outcome == wire.OK else None

    def _ended(self) -> bool:
        return self._answer is not None and self._answer.outcome != wire.OK

    def fail(self, error: str) -> None:
        """End the journey as `info`: a reply broke the API's contract."""
        if self._answer is not None and not self._ended():
            self._answer = dataclasses.replace(self._answer, outcome=wire.INFO, error=error)

    def reply(self) -> wire.Answer:
        """Return the journey as one reply, without the body."""
        last = self._answer or wire.Answer(wire.FAIL, 0, 0, time.monotonic_ns(), error="no step was taken")
        return dataclasses.replace(last, sent_ns=self._sent_ns, body=b"")


def _flaw(received: bytes, sha256: str, look: str) -> str:
    """Return how a picture from the edge differs from what was promised; "" if it does not."""
    if pictures.canaries_in(received):
        return pictures.LEAKED
    if hashlib.sha256(received).hexdigest() != sha256:
        return "with other bytes than its SHA-256 states"
    return "" if pictures.look(received) == look else "with another look"
