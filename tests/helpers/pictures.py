"""Pictures to upload."""

from __future__ import annotations

import io
import secrets

from PIL import Image


def plain_png(size: int = 3_000) -> bytes:
    """Return a PNG of random pixels, `size` bytes or a little more. It has no metadata, so it is served as it is."""
    side = int((size / 3) ** 0.5) + 1
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), secrets.token_bytes(3 * side * side)).save(file, "PNG")
    return file.getvalue()


class PlainStripper:
    """A `Stripper` for pictures without metadata: it returns what it gets."""

    async def strip(self, data: bytes) -> bytes:
        return data
