"""Metadata is removed from pictures without a change of what a viewer sees, by the real ExifTool."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from scenarios.world import pictures
from system.kernel.errors import Overloaded, TooLarge, WrongInput
from system.platform.install import packages
from system.services.media import containers, policy, stripping
from system.services.media.stripping import ExifTool
from tests.helpers.pictures import plain_png
from tests.helpers.requirements import requires

pytestmark = requires(packages.EXIFTOOL)

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"37.77499N 122.41942W"
IMAGE = Image.radial_gradient("L").resize((60, 40)).convert("RGB")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
TURNED = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
          b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
          b'</x:xmpmeta>')


def saved(kind: str, image: Image.Image = IMAGE, **more) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def animated(kind: str, **more) -> bytes:
    return saved(kind, save_all=True, append_images=[IMAGE.rotate(40), IMAGE.rotate(80)], **more)


def jpeg(*segments: tuple[int, bytes], end: bytes = b"") -> bytes:
    data = saved("JPEG", icc_profile=ICC)
    added = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return data[:2] + added + data[2:] + end


def png(*chunks: tuple[bytes, bytes], late: bool = False, end: bytes = b"") -> bytes:
    data = saved("PNG", icc_profile=ICC)
    at = len(data) - 12 if late else 33
    added = b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
                     for kind, body in chunks)
    return data[:at] + added + data[at:] + end


def gif(block: bytes = b"", data: bytes = b"", end: bytes = b"") -> bytes:
    data = data or saved("GIF", IMAGE.quantize(64))
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:at] + block + data[at:] + end


def blocks(data: bytes) -> bytes:
    return b"".join(bytes([len(data[at:at + 255])]) + data[at:at + 255] for at in range(0, len(data), 255)) + b"\0"


def webp(kind: bytes, body: bytes, data: bytes = b"") -> bytes:
    data = (data or saved("WEBP", icc_profile=ICC)) + kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


EMPTY_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
WITH_SECRET = {
    "a jpeg's comment": jpeg((0xFE, SECRET)),
    "a jpeg's EXIF, twice": jpeg((0xE1, EMPTY_EXIF + SECRET), (0xE1, EMPTY_EXIF + SECRET)),
    "a jpeg's damaged EXIF": jpeg((0xE1, b"Exif\0\0walrus" + SECRET)),
    "a jpeg's XMP": jpeg((0xE1, XMP_HEAD + b"<x:xmpmeta " + SECRET)),
    "a jpeg's extended XMP": jpeg((0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40 + SECRET)),
    "a jpeg's IPTC": jpeg((0xED, b"Photoshop 3.0\0" b"8BIM\x04\x04\0\0" + struct.pack(">I", 5 + len(SECRET)) + b"\x1c\x02\x78"
                           + struct.pack(">H", len(SECRET)) + SECRET)),
    "a jpeg's thumbnail": jpeg((0xE0, b"JFXX\0\x10" + SECRET)),
    "a jpeg's further pictures": jpeg((0xE2, b"MPF\0MM\0*\0\0\0\x08\0\0" + SECRET)),
    "a jpeg's content credentials": jpeg((0xEB, b"JP\0\1\0\0\0\1" + SECRET)),
    "a jpeg's unknown segment": jpeg((0xEF, SECRET)),
    "bytes after a jpeg": jpeg(end=SECRET),
    "a png's text": png((b"tEXt", b"Comment\0" + SECRET)),
    "a png's text after the pixels": png((b"tEXt", b"Comment\0" + SECRET), late=True),
    "a png's XMP": png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET)),
    "a png's raw profile": png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(SECRET, 0))),
    "a png's EXIF": png((b"eXIf", EMPTY_EXIF[6:] + SECRET)),
    "a png's private chunk": png((b"prVt", SECRET)),
    "a png's content credentials": png((b"caBX", SECRET)),
    "bytes after a png": png(end=SECRET),
    "a gif's comment": gif(b"!\xfe" + blocks(SECRET)),
    "a gif's comment at its end": saved("GIF", IMAGE.quantize(64))[:-1] + b"!\xfe" + blocks(SECRET) + b";",
    "an animation's comment": gif(b"!\xfe" + blocks(SECRET), animated("GIF", loop=0, duration=80)),
    "a gif's XMP": gif(b"!\xff\x0bXMP DataXMP<x:xmpmeta>" + SECRET + b"</x:xmpmeta><?xpacket end='w'?>\1"
                       + bytes(range(255, -1, -1)) + b"\0"),
    "a gif's unknown block": gif(b"!\xff\x0bWALRUS  1.0" + blocks(SECRET)),
    "a gif's plain text": gif(b"!\x01\x0c" + bytes(12) + blocks(SECRET)),
    "bytes after a gif": gif(end=SECRET),
    "a webp's EXIF": saved("WEBP", icc_profile=ICC, exif=EMPTY_EXIF + SECRET),
    "a webp's XMP": saved("WEBP", icc_profile=ICC, xmp=SECRET),
    "a webp's unknown chunk": webp(b"UNKN", SECRET),
    "an animated webp's XMP": animated("WEBP", xmp=SECRET),
    "a lossless webp's XMP": saved("WEBP", lossless=True, xmp=SECRET),
}


@pytest.fixture
async def tool():
    tool = ExifTool()
    yield tool
    await tool.close()


@pytest.mark.parametrize("where", WITH_SECRET)
async def test_metadata_are_removed_and_the_look_stays(tool, where):
    """Whatever the file hides them in; the pixels of all frames, the orientation and the color profile are the same."""
    data = WITH_SECRET[where]
    assert SECRET in data
    stripped = await tool.strip(data)

    assert SECRET not in stripped
    assert pictures.look(stripped) == pictures.look(data) != ""
    assert await tool.strip(stripped) == stripped


@pytest.mark.parametrize("number", range(8))
async def test_the_canary_of_every_picture_of_a_run_is_removed(tool, number):
    """EXIF with GPS, XMP, IPTC and comments at the same time; the orientation stays."""
    picture = pictures.draw(3, number)
    stripped = await tool.strip(picture.data)

    assert pictures.canaries_in(picture.data) >= 1 and pictures.canaries_in(stripped) == 0
    assert pictures.look(stripped) == pictures.look(picture.data)
    if picture.media_type != "image/gif":
        exif = Image.open(io.BytesIO(stripped)).getexif()
        assert exif[0x0112] == 6 and not exif.get_ifd(0x8825) and 0x010F not in exif


@pytest.mark.parametrize("data", [
    saved("JPEG", progressive=True), saved("JPEG", IMAGE.convert("CMYK")), saved("JPEG", IMAGE.convert("L")),
    jpeg((0xEE, b"Adobe\0d\0\0\0\0\x01")), saved("PNG", IMAGE.quantize(16)), saved("PNG", IMAGE.convert("RGBA")), animated("PNG"),
    saved("GIF", IMAGE.quantize(64)), animated("GIF", loop=0, duration=80), saved("WEBP"), saved("WEBP", lossless=True),
    animated("WEBP"), plain_png(200_000),
])
async def test_a_picture_without_metadata_stays_byte_for_byte(tool, data):
    """Nothing is re-encoded."""
    assert await tool.strip(data) == data


async def test_an_orientation_in_xmp_is_kept_as_exif(tool):
    """Without it the picture would be shown on its side."""
    stripped = await tool.strip(jpeg((0xE1, XMP_HEAD + TURNED)))

    assert Image.open(io.BytesIO(stripped)).getexif()[0x0112] == 6 and b"xmpmeta" not in stripped


@pytest.mark.parametrize("data", [
    b"", b"\x89PNG\r\n\x1a\n" + b"walrus", b"GIF89a", b"\xff\xd8\xff\xe0 a jpeg", b"<html>", plain_png()[:-400],
    saved("JPEG")[:-200], saved("GIF", IMAGE.quantize(64))[:-100], saved("WEBP")[:-50],
])
async def test_a_broken_picture_is_refused_and_the_next_one_is_not(tool, data):
    """Nothing of it is served; the process is in order for the next picture."""
    with pytest.raises(WrongInput, match="no readable picture"):
        await tool.strip(data)

    good = plain_png()
    assert await tool.strip(good) == good


@pytest.mark.parametrize(("described", "error"), [
    ({"ImageWidth": 8_000, "ImageHeight": 8_000}, None), ({"ImageWidth": 65_535, "ImageHeight": 65_535}, TooLarge),
    ({"ImageWidth": 1_000, "ImageHeight": 1_000, "FrameCount": 300}, None),
    ({"ImageWidth": 1_000, "ImageHeight": 1_000, "FrameCount": 301}, TooLarge),
    ({"ImageWidth": 1_000, "ImageHeight": 1_000, "AnimationFrames": 301}, TooLarge),
    ({"ImageWidth": 0, "ImageHeight": 5}, WrongInput), ({}, WrongInput), ({"Error": "Unknown file type"}, WrongInput),
])
def test_the_limit_is_in_pixels_of_all_frames(described, error):
    """A decompression bomb is small as a file."""
    if error is None:
        policy.check_pixels(described)
    else:
        with pytest.raises(error):
            policy.check_pixels(described)


async def test_a_decompression_bomb_is_refused_by_its_header(tool):
    """1 GiB of pixels in some kilobytes."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")))

    with pytest.raises(TooLarge, match="30000 x 30000 pixels"):
        await tool.strip(bomb)


async def test_concurrent_pictures_do_not_mix(tool):
    """One process, one picture at a time."""
    given = [plain_png() for _ in range(20)]

    assert await asyncio.gather(*map(tool.strip, given)) == given


async def test_a_process_that_takes_too_long_is_replaced(tool):
    """503: the upload stays, and finalize can be repeated."""
    await tool.strip(plain_png())
    tool._timeout_s, before = 0.2, tool._process.pid
    os.kill(before, 19)  # SIGSTOP
    began = time.monotonic()
    with pytest.raises(Overloaded) as refused:
        await tool.strip(plain_png())
    assert time.monotonic() - began < 2.0 and refused.value.definite

    tool._timeout_s = 5.0
    good = plain_png()
    assert await tool.strip(good) == good and tool._process.pid != before


async def test_a_killed_process_is_replaced_and_the_picture_tried_again(tool):
    """It may have been killed by a fault of the run, not by the picture."""
    await tool.strip(plain_png())
    os.kill(tool._process.pid, 9)
    good = plain_png()

    assert await tool.strip(good) == good


def test_the_process_dies_with_the_service():
    """A killed service leaves nothing behind: ExifTool itself would wait for input for ever."""
    program = ("import asyncio, time\nfrom system.services.media.stripping import ExifTool\n"
               "async def main():\n    tool = ExifTool()\n    process = await tool._start()\n"
               "    print(process.pid, flush=True)\n    time.sleep(60)\nasyncio.run(main())")
    service = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(service.stdout.readline())
    deadline_s = time.monotonic() + 5.0
    while b"perl" not in Path(f"/proc/{child}/cmdline").read_bytes():  # before, setpriv has not asked to die with the service
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    service.kill()
    service.wait()

    deadline_s = time.monotonic() + 5.0
    while _runs(child) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Return whether the process runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_process_without_memory_refuses_the_picture():
    """The limit is the process' address space, so the service's own memory is not affected."""
    tool = ExifTool(memory_bytes=60 * 2**20)
    try:
        bomb = png((b"zTXt", b"Comment\0\0" + zlib.compress(bytes(400 * 2**20))))
        with pytest.raises(WrongInput):
            await tool.strip(bomb)
        good = plain_png()
        assert await tool.strip(good) == good
    finally:
        await tool.close()


async def test_the_event_loop_runs_while_a_picture_is_processed(tool):
    """The longest pause is far below the time for a picture of the largest size."""
    big = plain_png(policy.MAX_BYTES - 20_000)
    await tool.strip(plain_png())
    pauses, done = [], False

    async def tick():
        while not done:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            pauses.append(time.monotonic() - began)

    ticker = asyncio.create_task(tick())
    assert await tool.strip(big) == big
    done = True
    await ticker

    assert max(pauses) < 0.1


def test_a_missing_exiftool_is_named_with_its_package(monkeypatch):
    """The service does not start without it."""
    monkeypatch.setattr(stripping.shutil, "which", lambda name: None)

    with pytest.raises(Exception, match="apt-get install libimage-exiftool-perl"):
        stripping.require()


def test_a_png_with_a_damaged_chunk_is_refused():
    """Readers' decoders would refuse it; and nothing else checks the sums of its pixels."""
    data = plain_png()
    damaged = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]

    with pytest.raises(WrongInput, match="its IDAT chunk is damaged"):
        containers.without_pixels(damaged)


async def test_a_large_picture_takes_a_fraction_of_the_time_limit(tool):
    """A PNG of 4 MiB took 1.3 s while ExifTool checked its sums; any type takes less than 0.1 s now."""
    big = plain_png(4 * 2**20)
    await tool.strip(plain_png())
    began = time.monotonic()

    assert await tool.strip(big) == big
    assert time.monotonic() - began < stripping.TIMEOUT_S / 5


@pytest.mark.parametrize("data", [
    b"", b"GIF8", b"\xff\xd8", b"\xff\xd8\xff", b"RIFF", b"RIFF\xff\xff\0\0WEBP", b"\x89PNG\r\n\x1a\n\0\0",
    saved("GIF", IMAGE.quantize(8))[:-5], saved("PNG")[:-13], saved("JPEG")[:-2],
])
def test_a_file_that_ends_early_is_refused(data):
    """The walk over its parts never leaves the file."""
    with pytest.raises(WrongInput):
        containers.essential(data)
