"""Links to the CDN edge: a path, its expiry in Unix seconds, and a signature that only the lab can make.

    http://127.1.8.1:8080/tweetlab-media/media/7/42?e=1795300000&s=3q2-7w...

nginx checks them with `secure_link` before it reads its cache. That module supports only MD5, over expiry,
path and a key in last position; the holder of a signed link can neither extend it nor recover the key. The
keys, and the password of the edge's own storage user, derive from one secret of the lab, so no two of them
are the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

STORAGE_USER = "tweetlab-edge"  # may read finished media, and nothing else
PURGE_HEADER = "x-edge-key"
PURGE_PREFIX = "/purge"
OBJECTS = "[a-z0-9][a-z0-9.-]*-media/media/[0-9]+/[0-9]+"  # bucket/key of the objects that may be read through the edge


def link_key(secret: str) -> str:
    """Return the key that signs links."""
    return _derived(secret, "link")


def purge_key(secret: str) -> str:
    """Return the key that a purge request carries."""
    return _derived(secret, "purge")


def storage_password(secret: str) -> str:
    """Return the password of the edge's storage user."""
    return _derived(secret, "storage")


def _derived(secret: str, purpose: str) -> str:
    return hmac.new(secret.encode(), f"tweetlab edge {purpose}".encode(), hashlib.sha256).hexdigest()[:40]


def bucket(namespace: str) -> str:
    """Return the bucket that holds a namespace's media."""
    return f"{namespace.lower()}-media"


def object_key(media_id: str) -> str:
    """Return the key of the served object of the medium `<owner>_<number>` in its bucket."""
    return "media/" + media_id.replace("_", "/")


def upload_key(media_id: str) -> str:
    """Return the key that the medium is uploaded to. The edge's storage user may not read it."""
    return "uploads/" + media_id.replace("_", "/")


def link(base_url: str, path: str, key: str, ends_s: int) -> str:
    """Return a URL that the edge serves until `ends_s` (Unix time).

    `path`: starts with a slash, needs no quoting.
    """
    digest = hashlib.md5(f"{ends_s}{path} {key}".encode(), usedforsecurity=False).digest()
    return f"{base_url}{path}?e={ends_s}&s={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
