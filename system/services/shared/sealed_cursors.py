"""Cursors that tell nothing: sealed, so that only who knows the lab's key can make one or look into it.

For lists whose pages may end at an entry that the caller must not see. A token is bound to what it was given for; of another list
it is refused. It is deterministic (SIV, RFC 5297): the same page has the same token, whichever process gives it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

from Crypto.Cipher import AES
from Crypto.Cipher._mode_siv import SivMode

MAC_BYTES = 16
MAX_TOKEN = 4_096  # characters


class Seal:
    """Makes and opens tokens with a key derived from `secret` for one `purpose`; an empty secret: a key of this process alone."""

    def __init__(self, secret: str, purpose: str) -> None:
        self._key = hashlib.sha512(f"tweetlab {purpose} ".encode() + (secret.encode() or secrets.token_bytes(32))).digest()

    def close(self, text: str, about: str) -> str:
        """Return the token of `text`. `about`: the list it belongs to, in any fixed spelling."""
        sealed, mac = self._cipher(about).encrypt_and_digest(text.encode())
        return base64.urlsafe_b64encode(mac + sealed).rstrip(b"=").decode()

    def open(self, token: str, about: str) -> str | None:
        """Return what a token holds; None where it is not one of ours, or of another list."""
        try:
            if len(token) > MAX_TOKEN:
                return None
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
            return self._cipher(about).decrypt_and_verify(raw[MAC_BYTES:], raw[:MAC_BYTES]).decode()
        except (ValueError, binascii.Error):
            return None

    def _cipher(self, about: str) -> SivMode:
        cipher = AES.new(self._key, AES.MODE_SIV)
        cipher.update(about.encode())
        return cipher
