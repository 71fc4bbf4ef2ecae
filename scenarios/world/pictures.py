"""Pictures that a run uploads: JPEG, PNG, WebP and GIF of random pixels, each with a canary position in its metadata.

Nobody but the uploader may receive the canary: whoever downloads a picture looks for it (`canaries_in`). What a
viewer sees must not change: `look` is a digest of that. It is compared with the upload's, because the bytes
differ.
"""

from __future__ import annotations

import hashlib
import io
import random
import struct
from dataclasses import dataclass

from PIL import Image, ImageOps, ImageSequence, PngImagePlugin, TiffImagePlugin

TYPES = ("image/gif", "image/jpeg", "image/png", "image/webp")
SIDES = (28, 112)  # pixels: some 2 to 40 kB, so that a run measures the journey, not the disk
LEAKED = "with its canary position"  # part of the error of an upload whose canary was returned

WORDS = b"CANARY 37.77499N 122.41942W"
"""The position as text, for comments and XMP."""
MINUTES = ((37, 46), (122, 25))   # degrees and minutes of latitude and longitude
SECONDS, SCALE = (2_996_401, 990_803), 100_000  # seconds, as fractions that cannot be reduced: so EXIF stores them
_SIGNS = (WORDS, *(struct.pack(f"{order}II", value, SCALE) for order in "<>" for value in SECONDS))


@dataclass(frozen=True)
class Picture:
    """One picture. `data`: the file, with metadata."""

    media_type: str
    data: bytes


def draw(seed: int, number: int) -> Picture:
    """Return picture `number` of a run; its type follows from the number."""
    rng = random.Random(seed << 32 | number)
    media_type = TYPES[number % len(TYPES)]
    width, height = rng.randint(*SIDES), rng.randint(*SIDES)
    image = Image.frombytes("RGB", (width, height), rng.randbytes(3 * width * height))
    return Picture(media_type, encode(image, media_type))


def encode(image: Image.Image, media_type: str) -> bytes:
    """Return an image as a file of this type with the canary in every kind of metadata that the type has."""
    file = io.BytesIO()
    if media_type == "image/jpeg":
        image.save(file, "JPEG", exif=_exif(), xmp=_xmp(), comment=WORDS)
        return _with_iptc(file.getvalue())
    if media_type == "image/png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", WORDS.decode())
        texts.add_itxt("XML:com.adobe.xmp", _xmp().decode())
        image.save(file, "PNG", compress_level=1, exif=_exif(), pnginfo=texts)
    elif media_type == "image/webp":
        image.save(file, "WEBP", method=0, exif=_exif(), xmp=_xmp())
    else:
        image.quantize(256, Image.Quantize.FASTOCTREE).save(file, "GIF", comment=WORDS)
    return file.getvalue()


def canaries_in(data: bytes) -> int:
    """Return how many signs of the canary position a file contains. 0: none."""
    return sum(data.count(sign) for sign in _SIGNS)


def look(data: bytes) -> str:
    """Return the first 16 hex digits of a digest of what a viewer sees; "" if the file cannot be decoded.

    It covers the pixels of all frames, turned by their orientation, and the color profile.
    """
    digest = hashlib.sha256()
    try:
        with Image.open(io.BytesIO(data)) as image:
            digest.update(image.info.get("icc_profile") or b"")
            for frame in ImageSequence.Iterator(image):
                pixels = ImageOps.exif_transpose(frame).convert("RGBA")
                digest.update(struct.pack("<II", *pixels.size) + pixels.tobytes())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return digest.hexdigest()[:16]


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6                       # Orientation: turned by 90 degrees
    exif[0x010E] = WORDS.decode()          # ImageDescription
    exif[0x010F] = "Lab Camera"            # Make
    gps = exif.get_ifd(0x8825)
    gps[1], gps[3] = "N", "W"
    for tag, minutes, seconds in zip((2, 4), MINUTES, SECONDS, strict=True):
        gps[tag] = (*minutes, TiffImagePlugin.IFDRational(seconds, SCALE))
    return exif.tobytes()


def _xmp() -> bytes:
    return (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="' + WORDS +
            b'"/></rdf:RDF></x:xmpmeta>')


def _with_iptc(jpeg: bytes) -> bytes:
    """Insert an IPTC record, in a Photoshop segment, after the first marker of a JPEG."""
    record = b"\x1c\x02\x78" + struct.pack(">H", len(WORDS)) + WORDS  # 2:120 Caption
    record += b"\0" * (len(record) % 2)
    body = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
