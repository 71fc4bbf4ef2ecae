"""The text of a graph file: decompressed, bounded in size, and refused where it is not text.

The file name is ignored. gzip, bzip2, xz and zstd are recognized by their first bytes and decompressed block
by block, so that a decompression bomb is refused at `MAX_TEXT_BYTES`, and a file that decompresses to
something else than text at its first block. Binary files and texts of another kind (JSON, XML, a web page)
are refused with the name of their format.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from system.kernel.errors import WrongInput

MAX_TEXT_BYTES = (
    2**30
)  # about 25 million follows with ids of 19 digits; a lab seeds 4 million in a few minutes
BLOCK_BYTES = 2**20
HEAD_BYTES = 64 * 1024  # enough to recognize a format

COMPRESSIONS: tuple[tuple[str, bytes, Callable[[Path], Any]], ...] = (
    ("gzip", rb"\x1f\x8b\x08", gzip.open),
    ("bzip2", rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)", bz2.open),
    ("xz", rb"\xfd7zXZ\x00", lzma.open),
    (
        "zstd",
        rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
        lambda path: pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"),
    ),
)
"""Name, pattern of the first bytes, and how to open: an object whose `read(n)` returns b"" at the end."""

NOT_TEXT: tuple[tuple[str, bytes], ...] = (
    (
        "a UTF-32 file",
        rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff|(?:[^\x00]\x00\x00\x00){2}|(?:\x00\x00\x00[^\x00]){2}",
    ),
    ("a UTF-16 file", rb"\xff\xfe|\xfe\xff|(?:[^\x00]\x00){3}|(?:\x00[^\x00]){3}"),
    ("a zip archive (also xlsx, ods, npz)", rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"),
    ("a Parquet file", rb"PAR1[^\t\n\r\x20-\x7e]"),
    ("an Arrow or Feather file", rb"ARROW1\x00|FEA1\x00"),
    ("an ELF program", rb"\x7fELF"),
    ("a PNG picture", rb"\x89PNG"),
    ("a JPEG picture", rb"\xff\xd8\xff"),
    ("a GIF picture", rb"GIF8[79]a"),
    ("a PDF document", rb"%PDF-"),
    ("an SQLite database", rb"SQLite format 3\x00"),
    ("an HDF5 file", rb"\x89HDF\r\n\x1a\n"),
    ("a NumPy array (npy)", rb"\x93NUMPY"),
    ("a Python pickle", rb"\x80[\x02-\x05]"),
    ("an Avro file", rb"Obj\x01"),
    ("an ORC file", rb"ORC[^\t\n\r\x20-\x7e]"),
    ("a MATLAB file", rb"MATLAB 5\.0 MAT-file"),
    ("a 7-Zip archive", rb"7z\xbc\xaf\x27\x1c"),
    ("a RAR archive", rb"Rar!\x1a\x07"),
    ("an LZ4 file", rb"\x04\x22\x4d\x18"),
    ("a compress (.Z) file", rb"\x1f\x9d"),
    ("a Snappy file", rb"\xff\x06\x00\x00sNaPpY"),
    ("an old Excel or Word file", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("a Java class file", rb"\xca\xfe\xba\xbe"),
    ("a Mach-O program", rb"[\xcf\xce]\xfa\xed\xfe"),
    ("a Windows program", rb"MZ[\x00-\xff]{10,}\x00"),
    ("a tar archive", rb"[\x00-\xff]{257}ustar"),
)
"""Name and pattern of the first bytes of formats that are not UTF-8 text."""

NOT_EDGES: tuple[tuple[str, bytes], ...] = (
    ("a web page (HTML)", rb"\s*<(?:!doctype html|html)"),
    ("XML (such as GraphML or GEXF)", rb"\s*<(?:\?xml|graphml|gexf|!--)"),
    ("JSON", rb'\s*(?:\{\s*["}]|\[\s*[\[{"\d\]])'),
    ("GML", rb"(?:\s*(?:#[^\n]*|creator[^\n]*|version \d+)\n)*\s*graph\s*\[\s"),
    ("a DOT graph", rb"\s*(?:strict\s+)?(?:di)?graph\b[^\n{]*\{"),
    ("a Pajek network", rb"\s*\*(?:vertices|network)\b"),
    ("a Git LFS pointer, not the file itself,", rb"version https://git-lfs"),
)
"""Name and pattern (any case) of the start of texts that hold graphs or pages in another notation."""


@dataclass(frozen=True)
class Text:
    """`data`: the text without byte order marks, with line ends as in the file.

    `compression`: "" for none.
    """

    data: bytes | bytearray
    compression: str


def read(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> Text:
    """Return the decompressed text of `path`. Raises WrongInput for other formats, damage, or size."""
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    packed = ((name, opener) for name, magic, opener in COMPRESSIONS if re.match(magic, head, re.DOTALL))
    name, opener = next(packed, ("", lambda at: at.open("rb")))
    inside = f" inside {name}" if name else ""
    if not name and path.stat().st_size > max_bytes:
        raise _too_long(path, max_bytes, inside)
    data = bytearray()
    try:
        with opener(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                if not data:
                    _refuse_other_formats(path, block, inside)
                data += block
                if b"\0" in block:
                    raise WrongInput(
                        f"{path}: holds a zero byte{inside} (at byte {data.index(0)}): it is a binary file, "
                        "not text; export the follows as text, `follower followee` per line."
                    )
                if len(data) > max_bytes:
                    raise _too_long(path, max_bytes, inside)
    except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as problem:
        if not name:
            raise
        raise WrongInput(f"{path}: is damaged {name} ({problem}); fetch or compress it again.") from None
    if b"\xef\xbb\xbf" in data:  # byte order marks; concatenated files contain them inside, too
        data = data.replace(b"\xef\xbb\xbf", b"")
    if data.endswith(b"\x1a"):  # end-of-file mark of DOS
        del data[-1:]
    return Text(data, name)


def _too_long(path: Path, max_bytes: int, inside: str) -> WrongInput:
    return WrongInput(
        f"{path}: holds more than {max_bytes / 2**20:,.0f} MiB of text{inside}, the most that is read; "
        "use a part of its lines, such as the first 10 million."
    )


def _refuse_other_formats(path: Path, block: bytes, inside: str) -> None:
    head = bytes(block[:HEAD_BYTES])
    packed = tuple((f"a {name} file", magic) for name, magic, _ in COMPRESSIONS)
    for name, magic in (*packed, *NOT_TEXT):
        if re.match(magic, head, re.DOTALL):
            raise WrongInput(
                f"{path}: is {name}{inside}, not text in UTF-8; unpack it, or export its follows as text: "
                "`follower followee` per line."
            )
    text = head.removeprefix(b"\xef\xbb\xbf")
    for name, start in NOT_EDGES:
        if re.match(start, text, re.IGNORECASE):
            raise WrongInput(
                f"{path}: is {name}{inside}, not an edge list; convert it to `follower followee` per line "
                "(NetworkX: read it, then `write_edgelist(graph, path, data=False)`)."
            )
    if control := re.search(rb"[\x01-\x08\x0e-\x1f\x7f](?!\Z)", head):
        raise WrongInput(
            f"{path}: holds the control character 0x{control[0][0]:02x}{inside} (at byte {control.start()}): "
            "it is a binary file, not text; export the follows as text."
        )
