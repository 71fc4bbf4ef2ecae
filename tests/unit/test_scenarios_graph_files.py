"""Graph files in common formats: every notation yields the same follows; other files are refused."""

import bz2
import gzip
import lzma
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.world import graph_files, graph_layout, graph_text
from system.kernel.errors import WrongInput
from tests.helpers.graph_file import written

REED = Path(__file__).resolve().parents[3] / "shared" / "data" / "socfb-Reed98.edges"
MOST = 2**63 - 1


def follows(content, tmp_path, **options):
    """Return the follows of a file as a set of pairs of its own ids."""
    read = graph_files.read(written(content, tmp_path), **options)
    return {
        (str(read.labels[one]), str(read.labels[other])) for one, other in zip(read.follower, read.followee)
    }


def summary(content, tmp_path, **options):
    return graph_files.read(written(content, tmp_path), **options).summary


SAME = {
    "spaces": "1 2\n2 3\n",
    "tabs": "1\t2\n2\t3\n",
    "commas": "1,2\n2,3\n",
    "semicolons": "1;2\n2;3\n",
    "commas and blanks": " 1 , 2\n2,  3 \n",
    "aligned columns": "   1    2\n   2    3   \n",
    "separators that change from line to line": "1 2\n2,3\n",
    "comments of all kinds": "# a\n% b\n// c\n1 2\n  # d\n2 3\n%e",
    "a comment behind the ids": "1 2 # a\n2 3 // b\n",
    "a comment behind comma-separated ids": "1,2 # a\n2,3\n",
    "a header of unknown names": "user friend\n1 2\n2 3\n",
    "a weight": "1 2 0.5\n2 3 1e3\n",
    "a weight here and there": "1 2\n2 3 7\n",
    "a weight and a time behind a tab (KONECT)": "% asym weighted\n1 2\t1\t1082\n2 3\t1\t1083\n",
    "decimal commas behind semicolons": "1;2;0,5\n2;3;1,5\n",
    "lines of Windows": "1 2\r\n2 3\r\n",
    "lines of old Macs": "1 2\r2 3\r",
    "blank lines and no last line end": "\n1 2\n\n \n2 3",
    "a byte order mark": "\ufeff1 2\n2 3\n",
    "a byte order mark before a comment": "\ufeff# x\n1 2\n2 3\n",
    "zeros in front": "01 002\n2 3\n",
    "source and target": "source,target\n1,2\n2,3\n",
    "named columns in any position": "weight,Target,x,Source\n9,2,7,1\n9,3,7,2\n",
    "src and dst by semicolons": "src;dst\n1;2\n2;3\n",
    "from and to by tabs": "time\tFrom\tTo\n9\t1\t2\n9\t2\t3\n",
    "follower and followee the other way round": "followee,follower\n2,1\n3,2\n",
    "id_1 and id_2": "id_1,id_2\n1,2\n2,3\n",
    "from_node_id and to_node_id by blanks": "from_node_id to_node_id\n1 2\n2 3\n",
    "user_id and follower_id": "user_id\tfollower_id\n2\t1\n3\t2\n",
    "quoted cells": '"source","target"\n"1","2"\n"2","3"\n',
    "a quoted text with commas and line ends": 'source,text,target\n1,"a, b\n7,8,9",2\n2,"say ""hi""",3\n',
    "quoted cells and rows of different width": 'a,b\n1,"2"\n2,3,"x"\n',
    "a quote that is a letter": 'source,target,size\n1,2,5" disk\n2,3,"x\n',
    "a quote in a comment": '# a "list\nsource,target,x\n1,2,"a\nb"\n2,3,c\n',
    "indented lines": "\t1\t2\n\t2\t3\n",
    "the end of a file of DOS": "1 2\r\n2 3\r\n\x1a",
    "rows of empty cells, as spreadsheets append": "source,target\n1,2\n2,3\n,\n,\n",
    "a matrix": "%%MatrixMarket matrix coordinate pattern general\n% c\n3 3 2\n1 2\n2 3\n",
    "a matrix with weights": "%%MatrixMarket matrix coordinate real general\n3 3 2\n1 2 0.5\n2 3 -1e9\n",
    "a matrix in small letters": "%%matrixmarket MATRIX coordinate integer General\n3 3 2\n1 2 1\n2 3 1\n",
    "a matrix of Windows": "%%MatrixMarket matrix coordinate pattern general\r\n3 3 2\r\n1 2\r\n2 3\r\n",
}


@pytest.mark.parametrize("name", SAME)
def test_every_notation_yields_the_same_follows(name, tmp_path):
    """1 follows 2 and 2 follows 3, however it is written."""
    assert follows(SAME[name], tmp_path) == {("1", "2"), ("2", "3")}


NAMES = {
    "names": ("ann bob\nbob cem\n", {("ann", "bob"), ("bob", "cem")}),
    "names and numbers": ("ann 7\n7 8\n8 bob\n", {("ann", "7"), ("7", "8"), ("8", "bob")}),
    "names with blanks": (
        "Ann Lee,Bob Ray\nBob Ray,Ann Lee\n",
        {("Ann Lee", "Bob Ray"), ("Bob Ray", "Ann Lee")},
    ),
    "names with blanks, by tabs": ("Ann Lee\tBob\nBob\tCem\n", {("Ann Lee", "Bob"), ("Bob", "Cem")}),
    "quoted names by blanks": ('"Ann Lee" bob\nbob "Ann Lee"\n', {("Ann Lee", "bob"), ("bob", "Ann Lee")}),
    "quoted names by commas": (
        '"Lee, Ann",bob\nbob,"Lee, Ann"\n',
        {("Lee, Ann", "bob"), ("bob", "Lee, Ann")},
    ),
    "words that other tools take for missing": ("NA null\nnan None\n", {("NA", "null"), ("nan", "None")}),
    "words that other tools take for booleans": ("True False\n", {("True", "False")}),
    "words that other tools take for hexadecimal": ("0x10 16\n16 0x11\n", {("0x10", "16"), ("16", "0x11")}),
    "names that begin with a number": (
        "12,7 Eleven\n7 Eleven,12\n",
        {("12", "7 Eleven"), ("7 Eleven", "12")},
    ),
    "names with signs inside": ("user#1 a/b\na/b 10.0.0.1\n", {("user#1", "a/b"), ("a/b", "10.0.0.1")}),
    "letters of any alphabet": ("žluť 東京\n", {("žluť", "東京")}),
    "blanks around names": ("ann , bob\nbob,ann\n", {("ann", "bob"), ("bob", "ann")}),
    "the largest number": (
        f"{MOST} {MOST - 1}\n{MOST - 1} 1\n",
        {(str(MOST), str(MOST - 1)), (str(MOST - 1), "1")},
    ),
    "numbers beyond the largest": (
        f"{MOST + 1} {MOST}\n{10**30} {MOST}\n",
        {(str(MOST + 1), str(MOST)), (str(10**30), str(MOST))},
    ),
    "numbers that are one as floats": (
        "1234567890123456789 1234567890123456788\n",
        {("1234567890123456789", "1234567890123456788")},
    ),
    "a name and the same number twice": ("007 ann\n7 bob\n", {("7", "ann"), ("7", "bob")}),
    "a header before numbers beyond the largest": (f"one other\n{10**20} 2\n", {(str(10**20), "2")}),
}


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_kept_as_they_are_written(name, tmp_path):
    """Numbers up to 2^63 - 1 remain exact, everything else is a name; a file may contain both."""
    content, expected = NAMES[name]

    assert follows(content, tmp_path) == expected


def test_ids_beyond_the_largest_and_names_are_counted_as_names(tmp_path):
    """All users are numbered 1 to N by audience; the summary counts the ids that are not numbers."""
    read = graph_files.read(written(f"ann {MOST}\n{MOST + 1} {MOST}\n", tmp_path))

    assert (read.summary.names, read.summary.renumbered, read.summary.largest_audience_id) == (
        2,
        True,
        str(MOST),
    )
    assert read.labels.tolist() == ["", str(MOST), str(MOST + 1), "ann"]


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_file_is_recognized_by_its_content(name, tmp_path):
    """The name has no suffix; concatenated compressed parts are one file."""
    content = PACKED[name](b"1 2\n") + PACKED[name](b"2 3\n")

    assert follows(content, tmp_path) == {("1", "2"), ("2", "3")}
    assert summary(content, tmp_path).compression == name


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_file_is_not_read_past_the_limit(name, tmp_path):
    """A decompression bomb costs neither memory nor time beyond the limit."""
    path = written(PACKED[name](b"1 2\n" * 2**20), tmp_path)

    with pytest.raises(WrongInput, match=rf"more than 2 MiB of text inside {name}"):
        graph_text.read(path, max_bytes=2**21)
    with pytest.raises(WrongInput, match="holds a zero byte inside"):
        graph_text.read(written(PACKED[name](bytes(2**20)), tmp_path))


def test_a_plain_file_has_the_same_limit(tmp_path):
    """Refused by its size, before it is read."""
    with pytest.raises(WrongInput, match="more than 1 MiB of text, the most"):
        graph_text.read(written(b"1 2\n" * 2**20, tmp_path), max_bytes=2**20)


@pytest.mark.parametrize("name", PACKED)
def test_a_damaged_compressed_file_is_refused(name, tmp_path):
    """Truncated, as after an interrupted download."""
    packed = PACKED[name](str(list(range(5000))).encode())

    with pytest.raises(WrongInput, match=f"is damaged {name}"):
        graph_text.read(written(packed[: len(packed) // 2], tmp_path))


BOTH = {("1", "2"), ("2", "1")}
UNDIRECTED = {
    "asked for": ("1 2\n", {"undirected": True}, BOTH),
    "not asked for": ("1 2\n", {}, {("1", "2")}),
    "a header of SNAP": (
        "# Undirected graph: ../../data/output/x.ungraph.txt\n# Nodes: 2 Edges: 1\n1\t2\n",
        {},
        BOTH,
    ),
    "a directed header of SNAP": (
        "# Directed graph (each unordered pair of nodes is saved once): x.txt\n1\t2\n",
        {},
        {("1", "2")},
    ),
    "a header of KONECT": ("% sym unweighted\n1 2\n", {}, BOTH),
    "a symmetric matrix": ("%%MatrixMarket matrix coordinate pattern symmetric\n2 2 1\n2 1\n", {}, BOTH),
    "a header that is overruled": ("# Undirected graph\n1 2\n", {"undirected": False}, {("1", "2")}),
    "followees first": ("1 2\n", {"direction": "followee_follower"}, {("2", "1")}),
    "named followees first": ("source,target\n1,2\n", {"direction": "followee_follower"}, {("2", "1")}),
    "followers first": ("1 2\n", {"direction": "follower_followee"}, {("1", "2")}),
    "undirected, in whatever direction": (
        "1 2\n",
        {"undirected": True, "direction": "followee_follower"},
        BOTH,
    ),
}


@pytest.mark.parametrize("name", UNDIRECTED)
def test_the_direction_is_that_of_the_options_or_else_of_the_file(name, tmp_path):
    """`undirected` creates both directions, `direction` swaps the columns; otherwise the header decides."""
    content, options, expected = UNDIRECTED[name]

    assert follows(content, tmp_path, **options) == expected


@pytest.mark.parametrize(
    ("comment", "undirected"),
    [
        ("# Undirected graph: a", True),
        ("# Directed graph: undirected.txt", False),
        ("# This is an undirected network", True),
        ("# not undirected", False),
        ("# undirected: false", False),
        ("# undirected: true", True),
        ("% asym positive", False),
        ("# symbols", False),
        ("# Nodes: 5 Edges: 4 Undirected", True),
        ("// directed", False),
    ],
)
def test_a_comment_may_declare_an_undirected_graph(comment, undirected):
    """The first mention decides."""
    assert graph_layout.says_undirected([comment]) is undirected


@pytest.mark.parametrize(
    ("content", "options", "hinted"),
    [
        ("1 2\n2 3\n", {}, True),
        ("1 2\n2 1\n", {}, False),
        ("1 2\n", {"undirected": True}, False),
        ("1 2\n", {"direction": "follower_followee"}, False),
        ("# Undirected graph\n1 2\n", {}, False),
    ],
)
def test_a_graph_without_mutual_follows_causes_a_hint(content, options, hinted, tmp_path):
    """A list of friendships looks like that; an explicit option suppresses the hint."""
    hints = summary(content, tmp_path, **options).hints

    assert any("--undirected" in hint and "followee_follower" in hint for hint in hints) is hinted


def test_the_summary_is_one_line(tmp_path):
    """Users, follows, direction, dropped lines, numbering and the largest audience."""
    assert summary("# x\n10 99\n11 99\n10 11 5\n10 99\n99 99\n", tmp_path).line == (
        "a.graph (edge list): 3 users, 3 follows, directed (follower, followee), "
        "duplicates dropped: 1, self loops dropped: 1, "
        "ids renumbered 1 to 3, largest audience 2 (id 99)"
    )


def test_a_pair_listed_both_ways_is_one_duplicate_of_an_undirected_graph(tmp_path):
    """Each line counts once: two pairs, one of them repeated."""
    read = summary("1 2\n2 1\n2 3\n", tmp_path, undirected=True)

    assert (read.follows, read.duplicates, read.reciprocal_pairs) == (4, 1, 2)


def test_a_symmetric_matrix_counts_its_entries_as_written(tmp_path):
    """An entry below the diagonal counts once; one on it is a self follow."""
    read = summary(
        "%%MatrixMarket matrix coordinate pattern symmetric\n3 3 4\n2 1\n3 1\n3 1\n2 2\n", tmp_path
    )

    assert (read.lines, read.follows, read.duplicates, read.self_loops) == (4, 4, 1, 1)


def test_ids_that_already_are_the_user_numbers_are_kept(tmp_path):
    """1 is the most followed, 2 the next."""
    assert not summary("2 1\n3 1\n1 2\n", tmp_path).renumbered
    assert summary("1 2\n3 2\n2 1\n", tmp_path).renumbered


@pytest.mark.skipif(
    not REED.exists(), reason="the Reed98 edge list is not beside this checkout (../shared/data)"
)
@pytest.mark.parametrize(("undirected", "count"), [(True, 37_624), (None, 18_812)])
def test_the_friendships_of_reed98_are_follows_in_both_directions(undirected, count):
    """962 students, 18,812 friendships, each listed once."""
    read = graph_files.read(REED, undirected)

    assert (read.users, read.summary.follows, len(read.follower)) == (962, count, count)


IDS = st.one_of(
    st.integers(0, 9), st.integers(MOST - 2, MOST + 3), st.sampled_from(["ann", "Bob-7", "é", "x.y", "1st"])
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(IDS, IDS), min_size=1),
    st.sampled_from(["\t", ",", ";", " "]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_the_follows_that_were_written_are_read_in_every_notation(
    tmp_path_factory, pairs, delimiter, line_end, quoted, packed
):
    """Any ids, separators and line ends, quoted or not: the same set of follows."""
    pairs = [(str(one), str(other)) for one, other in pairs]
    expected = {pair for pair in pairs if pair[0] != pair[1]}
    mark = '"' if quoted else ""
    rows = [
        f"{mark}source{mark}{delimiter}{mark}target{mark}",
        *(f"{mark}{a}{mark}{delimiter}{mark}{b}{mark}" for a, b in pairs),
    ]
    content = line_end.join(rows).encode()
    folder = tmp_path_factory.mktemp("drawn")

    if expected:
        assert follows(gzip.compress(content) if packed else content, folder) == expected
    else:
        with pytest.raises(WrongInput, match="holds no follow"):
            follows(content, folder)


SAMPLES = ["1 2", "3\t4", "5,6", "7;8 9", "1 x", "-1 2", "1.0 2", "0x10 3", "2 0x10", "+1 2", "", "a b", "9",
           "a,b", f"{MOST} 1", f"{MOST + 1} 1"]  # fmt: skip
LINES = st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=4)


@settings(deadline=None)
@given(LINES)
def test_a_comment_does_not_change_what_is_read(tmp_path_factory, lines):
    """A comment at the end disables the fast path of plain numbers: both paths must agree."""
    folder = tmp_path_factory.mktemp("drawn")

    def outcome(content):
        try:
            return follows(content, folder)
        except WrongInput as problem:
            return str(problem)

    assert outcome("\n".join(lines)) == outcome("\n".join([*lines, "# c"]))


def test_a_large_file_is_read_across_the_blocks_of_the_parser(tmp_path):
    """Of 400,000 lines with comments, names and numbers none is lost; an invalid last one has its number."""
    lines = [f"{n} {n + 1}" for n in range(200_000)] + ["# c"] + [f"u{n} u{n + 1}" for n in range(200_000)]

    read = graph_files.read(written("\n".join(lines), tmp_path))

    assert (read.summary.follows, read.users) == (400_000, 400_002)
    assert np.unique(read.follower * (read.users + 1) + read.followee).size == 400_000
    with pytest.raises(WrongInput, match="line 400002: 'bad'"):
        graph_files.read(written("\n".join([*lines, "bad"]), tmp_path))
