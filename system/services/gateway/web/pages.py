"""Serves the files of the web client: read once, with an ETag, under a strict Content-Security-Policy.

The page may connect only to its own origin and to the two media origins (signed uploads, signed reads).
Scripts are loaded only from files; `require-trusted-types-for` makes the browser refuse to turn text into
HTML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from system.kernel.settings import Settings
from system.kernel.text import rules

HERE = Path(__file__).parent
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".svg": "image/svg+xml", ".json": "application/json"}
TEXT_RULES = "/web/text-rules.json"  # the tables by which a text is counted


@dataclass(frozen=True)
class File:
    """One file as sent. `etag`: of its bytes, quoted."""

    body: bytes
    media_type: str
    etag: str


def files() -> dict[str, File]:
    """Return path -> file: `index.html` at /, the rest below /web/."""
    by_path = {TEXT_RULES: _file(rules.PATH)}
    for path in sorted(HERE.iterdir()):
        if path.suffix in TYPES:
            by_path["/" if path.name == "index.html" else f"/web/{path.name}"] = _file(path)
    return by_path


def _file(path: Path) -> File:
    body = path.read_bytes()
    return File(body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def media_origins(config: Settings) -> list[str]:
    """Return the origins of signed URLs, of all zones: storage for uploads, the edge cache for reads."""
    return list(config.media_origins) or [f"http://{config.stores.minio}", *([config.cdn] if config.cdn else [])]


def policy(media_origins: Iterable[str]) -> str:
    """Return the Content-Security-Policy.

    `media_origins`: `scheme://host:port` of the uploads and of the reads.
    """
    media = " ".join(sorted(set(media_origins)))
    return "; ".join((
        "default-src 'none'", "script-src 'self'", "style-src 'self'", f"img-src 'self' blob: {media}".rstrip(),
        f"connect-src 'self' {media}".rstrip(), "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ))


def routes(media_origins: Iterable[str]) -> list[Route]:
    """Return a GET route for each file; HEAD comes with it. None needs a token or calls a service."""
    headers = {
        "content-security-policy": policy(media_origins), "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin", "cache-control": "no-cache",
    }
    return [Route(path, _endpoint(file, headers), methods=["GET"], include_in_schema=False) for path, file in files().items()]


def _endpoint(file: File, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    headers_with_etag = {**headers, "etag": file.etag}

    async def send(request: Request) -> Response:
        if_none_match = request.headers.get("if-none-match", "")
        if file.etag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(",")):
            return Response(status_code=304, headers=headers_with_etag)
        return Response(file.body, media_type=file.media_type, headers=headers_with_etag)

    return send
