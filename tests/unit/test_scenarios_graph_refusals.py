"""A file that is not a graph is refused, with its format or the line that cannot be parsed."""


import gzip
import io
import pickle
import struct
import zipfile

import pytest

from scenarios.world import graph_files
from system.kernel.errors import WrongInput
from tests.helpers.graph_file import written


def zipped():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.edges", "1 2\n")
    return target.getvalue()


REFUSED = {
    "UTF-16": "1 2\n3 4\n".encode("utf-16"),
    "UTF-16 file": "1 2\n3 4\n".encode("utf-16-le"),
    "a UTF-16": "1 2\n3 4\n".encode("utf-16-be"),
    "UTF-32": "1 2\n3 4\n".encode("utf-32"),
    "a UTF-32": "1 2\n3 4\n".encode("utf-32-le"),
    "zip archive": zipped(),
    "Parquet": b"PAR1\x15\x04\x15\x10" + bytes(40),
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(40),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "PDF": b"%PDF-1.7\n1 2\n",
    "SQLite": b"SQLite format 3\0" + bytes(40),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "NumPy": b"\x93NUMPY\x01\x00" + bytes(40),
    "pickle": pickle.dumps([(1, 2)]),
    "gzip file inside gzip": gzip.compress(gzip.compress(b"1 2\n")),
    "tar archive inside gzip": gzip.compress(b"a.edges".ljust(257, b"\0") + b"ustar\x0000" + bytes(100)),
    "HTML": "\n<!DOCTYPE html><html>404</html>",
    "XML": '<?xml version="1.0"?><graphml/>',
    "JSON": '{"source": 1, "target": 2}\n',
    "a DOT graph": "digraph G {\n a -> b\n}\n",
    "GML": "graph [\n  directed 1\n]\n",
    "Pajek": '*Vertices 2\n1 "a"\n',
    "Git LFS": "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 12\n",
    "zero byte": b"1 2\n3 4\n5 \x00 6\n",
    "control character 0x02": struct.pack("<4B", 49, 2, 50, 10),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_format_is_refused_with_its_format(name, tmp_path):
    """The message names the format, so that users know how to convert the file."""
    with pytest.raises(WrongInput, match=name):
        graph_files.read(written(REFUSED[name], tmp_path))


WITHOUT = {
    "nothing": "",
    "blank lines": "\n \n",
    "comments": "# a\n% b\n",
    "a header": "source,target\n",
    "follows of oneself": "1 1\n2 2\n",
    "an empty matrix": "%%MatrixMarket matrix coordinate pattern general\n3 3 0\n",
    "an empty gzip": gzip.compress(b""),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_file_without_a_valid_follow_is_refused(name, tmp_path):
    """A population needs at least one."""
    with pytest.raises(WrongInput, match="holds no follow"):
        graph_files.read(written(WITHOUT[name], tmp_path))


MALFORMED = {
    "one column": ("1 2\n# fine\n7\n3 4\n", "line 3: '7' is not `follower followee`"),
    "one column in the first line": ("7\n3 4\n", "line 1: '7' is not `follower followee`"),
    "one name": ("ann bob\n\ncem\n", "line 3: 'cem' is not"),
    "one column of old Macs": ("1 2\r3\r", "line 2: '3' is not"),
    "an empty second column": ("1,2\n3,,9\n", "line 2: '3,,9' is not"),
    "an empty first column": ("1\t2\n\t3\n", "line 2: .*3' is not"),
    "a row that ends early": ("w,source,target\n1,2,3\n4,5\n", "line 3: '4,5' is not"),
    "an id that a quote tears over lines": ('ann,"bob\ncem",dan\n', "line 1: .* holds an id of several lines"),
    "a quoted row that ends early": ('source,text,target\n1,"a\nb",2\n\n3,x\n', "line 5: '3,x' is not"),
    "a quoted row without followee": ('source,text,target\n1,"a\nb",2\n# c\n3,x,\n', "line 5: '3,x,' is not"),
    "a row that begins with a tab": ("1\t2\n\t3\t4\n", "line 2: .*3.*4' is not"),
    "signs in the first line": ("-1 -4\n1 2\n", "line 1: '-1 -4' holds -1, which is neither"),
    "a sign": ("1 2\n-1 4\n", "line 2: '-1 4' holds -1, which is neither"),
    "a point": ("1 2\n1.5 2\n", "line 2: '1.5 2' holds 1.5, which is neither"),
    "an id that went through a float": (
        "source,target\n1.2345678901234568e+18,2\n",
        r"line 2: .* holds 1.2345678901234568e\+18",
    ),
    "a quoted float": ('source,target\n"1","2"\n"1.0","2"\n', "line 3: '1.0,2' holds 1.0"),
    "another encoding": (b"1 2\n" + "Jos\u00e9 2\n".encode("latin-1"), "line 2: .* is not UTF-8"),
    "a line without end": ("1 2\n" + "x" * 3_000_000, "cannot be split into lines .* 3,000,000 bytes"),
    "a bipartite network": ("% bip unweighted\n1 1\n1 2\n", "bipartite"),
    "a matrix that ends early": (
        "%%MatrixMarket matrix coordinate pattern general\n3 3 2\n1 2\n",
        "Truncated",
    ),
    "a matrix that promises the world": (
        "%%MatrixMarket matrix coordinate real general\n9 9 99999999999\n1 2 1\n",
        "more than the file",
    ),
    "an index from 0": (
        "%%MatrixMarket matrix coordinate pattern general\n3 3 1\n0 2\n",
        "line 3: '0 2': .* out of bounds",
    ),
    "an index beyond the size": (
        "%%MatrixMarket matrix coordinate pattern general\n3 3 1\n1 4\n",
        "line 3: '1 4': .* out of bounds",
    ),
    "a matrix that is not square": (
        "%%MatrixMarket matrix coordinate pattern general\n3 4 1\n1 4\n",
        "3 rows and 4 columns",
    ),
    "a dense matrix": ("%%MatrixMarket matrix array real general\n1 2\n0\n1\n", "coordinate"),
    "a banner alone": ("%%MatrixMarket matrix\n", "line 1: '%%MatrixMarket matrix': is not readable"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_line_that_cannot_be_parsed_is_refused_with_its_number(name, tmp_path):
    """Number and text of the line, counted as in an editor."""
    content, message = MALFORMED[name]

    with pytest.raises(WrongInput, match=message):
        graph_files.read(written(content, tmp_path))
