"""The `next_token` of a search: where it stands, sealed. Only who knows the lab's key can make one or look into it.

It is encrypted because the place where a page ended may be a tweet that the caller must not see, and bound to the search it was
given for: a token of another query, order or bound is refused. Any process of the service can open it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import astuple, dataclass

import orjson
from Crypto.Cipher import AES
from Crypto.Cipher._mode_gcm import GcmMode

from system.kernel.errors import WrongInput

NONCE_BYTES, MAC_BYTES = 12, 16  # NIST SP 800-38D for GCM
MAX_TOKEN = 4_096  # characters; a token has about 400
REVISION = 1


@dataclass(frozen=True)
class Cursor:
    """Where a page ended. `last_id`: of the last tweet looked at; None: the next one begins a band.

    A ranked search also has `score` of that tweet, `origin_ms` of all its ages, the `view` it reads, and the band it ranks:
    ids below `before` (None: the newest) and above `since` (None: no bound but that of the query).
    """

    last_id: int | None
    score: float = 0.0
    origin_ms: int = 0
    view: str = ""
    before: int | None = None
    since: int | None = None


class Seal:
    """Makes and opens tokens with a key derived from `secret`; an empty one: a key of this process alone."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"tweetlab search cursor " + (secret.encode() or secrets.token_bytes(32))).digest()

    def close(self, cursor: Cursor, about: str) -> str:
        """Return the token of `cursor`. `about`: the search it belongs to, in any fixed spelling."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed, mac = self._cipher(nonce, about).encrypt_and_digest(orjson.dumps(astuple(cursor)))
        return base64.urlsafe_b64encode(nonce + sealed + mac).rstrip(b"=").decode()

    def open(self, token: str, about: str) -> Cursor:
        """Return what a token holds. Raises WrongInput where it is not one of ours, or of another search."""
        try:
            if len(token) > MAX_TOKEN:
                raise ValueError(f"{len(token)} characters")
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
            nonce, sealed, mac = raw[:NONCE_BYTES], raw[NONCE_BYTES:-MAC_BYTES], raw[-MAC_BYTES:]
            return Cursor(*orjson.loads(self._cipher(nonce, about).decrypt_and_verify(sealed, mac)))
        except (ValueError, TypeError, binascii.Error):
            raise WrongInput(f"`next_token` {token[:24]!r} was not given for this search; send it with the very query, order and "
                             "bounds of the page before, or leave it out to begin anew.") from None

    def _cipher(self, nonce: bytes, about: str) -> GcmMode:
        cipher = AES.new(self._key, AES.MODE_GCM, nonce=nonce, mac_len=MAC_BYTES)
        cipher.update(b"%d " % REVISION + about.encode())
        return cipher
