"""Presigned URLs of S3 (AWS Signature Version 4), with signed headers.

minio-py signs only the host header; an upload URL must bind more. The algorithm is AWS': "Authenticating
Requests: Using Query Parameters". The payload is not signed; the checksum header binds what is stored.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True)
class Signer:
    """Credentials, and the server that they are for. `endpoint`: host:port."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str


def presigned(signer: Signer, method: str, path: str, expires_s: int, headers: Mapping[str, str]) -> str:
    """Return a URL valid for `expires_s` seconds, for one method and path.

    A request must have exactly these `headers` (lower-case names).
    """
    now = time.gmtime()
    day, at = time.strftime("%Y%m%d", now), time.strftime("%Y%m%dT%H%M%SZ", now)
    scope = f"{day}/{signer.region}/s3/aws4_request"
    signed = {"host": signer.endpoint, **headers}
    names = ";".join(sorted(signed))
    query = "&".join((
        "X-Amz-Algorithm=AWS4-HMAC-SHA256", f"X-Amz-Credential={quote(f'{signer.access_key}/{scope}', safe='')}",
        f"X-Amz-Date={at}", f"X-Amz-Expires={expires_s}", f"X-Amz-SignedHeaders={quote(names, safe='')}",
    ))
    encoded_path = quote(path, safe="/-_.~")
    lines = [method, encoded_path, query, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, "UNSIGNED-PAYLOAD"]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"
    signature = _hmac(_key(signer.secret_key, day, signer.region), text).hex()
    return f"http://{signer.endpoint}{encoded_path}?{query}&X-Amz-Signature={signature}"


@functools.lru_cache(maxsize=4)
def _key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
