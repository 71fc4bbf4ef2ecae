"""Keeps only the parts of a picture file that a decoder needs. Pure; copies bytes, decodes nothing.

ExifTool removes the metadata that it knows. This is the second line: an allow-list, so that a part that nobody
knows (a private chunk, an application block, bytes after the end) is dropped too.

| file | kept |
|---|---|
| JPEG | coding segments, scans, JFIF, EXIF (by now the orientation alone), ICC profile, Adobe's color transform |
| PNG | critical chunks, transparency, colors, physical size, EXIF (as above), animation |
| WebP | image, alpha, animation, ICC profile, EXIF (as above) |
| GIF | images and their timing, loop count, ICC profile |
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from system.services.media import policy

_PNG_KEPT = frozenset((
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"sBIT", b"cICP", b"mDCV", b"cLLI",
    b"bKGD", b"hIST", b"pHYs", b"eXIf", b"acTL", b"fcTL", b"fdAT"))
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset((b"IDAT", b"fdAT", b"fcTL"))
_NO_PIXELS = b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF"))
_GIF_KEPT = frozenset((b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"))
_APP_KEPT = {0xE0: b"JFIF\0", 0xE1: b"Exif\0\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""Marker of a JPEG's application segment -> start of its content."""
_COM, _SOS, _EOI = 0xFE, 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan: FF 00 is data, FF D0 to FF D7 are restarts
_ANMF_HEADER = 16  # bytes of a WebP frame before its own chunks


def essential(data: bytes) -> bytes:
    """Return the file without the parts that are not listed above. Raises WrongInput if its structure is broken."""
    for start, parts in _WALKS.items():
        if data.startswith(start):
            try:
                return b"".join(parts(data))
            except (IndexError, struct.error):
                break
    raise policy.unreadable("its structure is broken")


def without_pixels(data: bytes) -> tuple[bytes, bytes]:
    """Return a PNG with one empty chunk in place of its pixels, and the pixels' chunks; (data, b"") for another file.

    ExifTool checks the sums of all chunks, in Perl: 0.25 s for each MiB, which no other type costs. It does not
    decode pixels, so it gets a PNG without them. Raises WrongInput if the structure is broken.
    """
    if not data.startswith(_PNG_START):
        return data, b""
    others, pixels = [data[:8]], list[bytes]()
    for kind, chunk in _checked_chunks(data):
        if kind not in _PNG_PIXELS:
            others.append(chunk)
            continue
        if not pixels:
            others.append(_NO_PIXELS)
        pixels.append(chunk)
    return b"".join(others), b"".join(pixels)


def with_pixels(data: bytes, pixels: bytes) -> bytes:
    """Return a PNG from `without_pixels` with its pixels again; `data` if there are none."""
    return data.replace(_NO_PIXELS, pixels, 1) if pixels else data


def _checked_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, chunk) of a PNG, and the bytes after it, as a chunk without a kind, last."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = _unpacked(">I4s", data, at)
        chunk = data[at:at + 12 + length]
        if len(chunk) < 12 + length or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise policy.unreadable(f"its {kind.decode('latin-1')} chunk is damaged")
        yield kind, chunk
        at += len(chunk)
    yield b"", data[at:]


def _unpacked(layout: str, data: bytes, at: int) -> Any:
    try:
        return struct.unpack_from(layout, data, at)
    except struct.error:
        raise policy.unreadable("it ends early") from None


def _jpeg(data: bytes) -> Iterator[bytes]:
    yield data[:2]
    at = 2
    while True:
        if data[at] != 0xFF:
            raise IndexError
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _EOI:
            yield data[at:at + 2]
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if marker == _SOS:
            following = _MARKER.search(data, end)
            if following is None:
                raise IndexError
            end = following.start()
        application = 0xE0 <= marker <= 0xEF
        if not (marker == _COM or (application and not data.startswith(_APP_KEPT.get(marker, b"\0none"), at + 4))):
            yield data[at:end]
        at = end


def _png(data: bytes) -> Iterator[bytes]:
    yield data[:8]
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise IndexError
        if kind in _PNG_KEPT:
            yield data[at:end]
        if kind == b"IEND":
            return
        at = end


def _webp(data: bytes) -> Iterator[bytes]:
    chunks = b"".join(_riff_chunks(data, 12, 8 + int.from_bytes(data[4:8], "little")))
    yield b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _riff_chunks(data: bytes, at: int, end: int) -> Iterator[bytes]:
    if end > len(data):
        raise IndexError
    while at < end:
        kind, size = struct.unpack_from("<4sI", data, at)
        following = at + 8 + size + size % 2
        if following > end:
            raise IndexError
        if kind == b"ANMF":
            frame = data[at + 8:at + 8 + _ANMF_HEADER] + b"".join(_riff_chunks(data, at + 8 + _ANMF_HEADER, following))
            yield struct.pack("<4sI", kind, len(frame)) + frame
        elif kind in _WEBP_KEPT:
            yield data[at:following]
        at = following


def _gif(data: bytes) -> Iterator[bytes]:
    at = 13 + _color_table(data[10])
    yield data[:at]
    control = b""  # the graphic control of the next block
    while True:
        start, kind = at, data[at]
        if kind == 0x3B:
            yield data[at:at + 1]
            return
        if kind == 0x2C:
            at = _after_blocks(data, at + 10 + _color_table(data[at + 9]) + 1)
            yield control + data[start:at]
            control = b""
        elif kind == 0x21:
            label = data[at + 1]
            at = _after_blocks(data, at + 2)
            if label == 0xF9:
                control = data[start:at]
            elif label == 0xFF and data[start + 3:start + 14] in _GIF_KEPT:
                yield data[start:at]
            elif label == 0x01:  # plain text, which no decoder shows; the control before it belongs to it
                control = b""
        else:
            raise IndexError


def _color_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


_WALKS = {b"\xff\xd8": _jpeg, _PNG_START: _png, b"RIFF": _webp, b"GIF8": _gif}
"""First bytes -> the kept parts of such a file."""
