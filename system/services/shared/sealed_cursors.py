"""Sealed cursors: encrypted and authenticated, so that only a holder of the lab's key can make or read one.

For lists whose pages may end at an entry that the caller must not see. A token is bound to the list it was
issued for and is refused for any other. It is deterministic (SIV, RFC 5297): the same page has the same token
in every process.
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
    """Makes and opens tokens with a key derived from `secret` for one `purpose`.

    An empty secret: a random key, valid in this process only.
    """

    def __init__(self, secret: str, purpose: str) -> None:
        self._key = hashlib.sha512(f"tweetlab {purpose} ".encode() + (secret.encode() or secrets.token_bytes(32))).digest()

    def close(self, text: str, about: str) -> str:
        """Return the token of `text`. `about`: the list it belongs to, in any fixed spelling."""
        sealed, mac = self._cipher(about).encrypt_and_digest(text.encode())
        return base64.urlsafe_b64encode(mac + sealed).rstrip(b"=").decode()

    def open(self, token: str, about: str) -> str | None:
        """Return the content of a token; None if it was not issued here, or was issued for another list."""
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
