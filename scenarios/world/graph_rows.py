"""The follows of an edge list as columns; pyarrow splits the text into lines and each line into two ids.

An id is a whole number up to 2^63 - 1, kept as an integer throughout, or else a name. Floats and signs are
refused: ids that went through floats have lost digits. Every refusal names the line and its text.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from scenarios.world import graph_layout
from scenarios.world.graph_layout import NUMBER, Layout
from system.kernel.errors import WrongInput

Int64s = NDArray[np.int64]
NUMERIC, DIGITS = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$", r"^\d+$"
COMMENT_LINE = rb"(^|[\r\n])[ \t]*(?:#|%|//)[^\r\n]*"


@dataclass(frozen=True)
class Rows:
    """The follows of a file, one per row, in no particular order.

    `numbers`: int64, shape (n, 2), rows of two numbers. `words`: the distinct ids of all other rows, as text;
    `word_rows`: int64, shape (m, 2), those rows as indexes into `words`. `kind`: the detected format.
    `undirected`: whether the file declares so. `header`: names of all columns, if any.
    """

    numbers: Int64s
    words: list[str]
    word_rows: Int64s
    kind: str
    undirected: bool
    header: tuple[str, ...] = ()


def read(data: bytes | bytearray, path: Path) -> Rows:
    """Return the rows of a text. Raises WrongInput with number and text of a line that holds no follow."""
    comments, sample, starts = graph_layout.head(data)
    if any(re.match(r"%\s*bip\b", comment) for comment in comments):
        raise WrongInput(
            f"{path}: is a bipartite network ({comments[0][:60]!r}): its columns are two kinds of user. "
            "Use a network of one kind."
        )
    layout = graph_layout.of(sample)
    reader = _Reader(data, path, layout, sample)
    if reader.quotes:
        reader.read_quoted()
    elif b'"' in data or not reader.read_numbers(starts):
        reader.read_plain()
    return reader.rows(graph_layout.says_undirected(comments))


class _Reader:
    """Collects the rows of one edge list. `quotes`: its cells may contain separators and line ends."""

    def __init__(self, data: bytes | bytearray, path: Path, layout: Layout, sample: list[str]) -> None:
        self.data, self.path, self.layout = data, path, layout
        self.sample, self.first_line = sample, sample[0] if sample else ""
        self.header = layout.header
        self.quotes = bool(layout.delimiter) and b'"' in data
        if self.quotes and re.search(COMMENT_LINE, data):
            self.data = re.sub(COMMENT_LINE, rb"\1", data)
        self.quotes = (
            self.quotes and self.data.count(b'"') % 2 == 0
        )  # an odd number: one of them is an ordinary character
        self.header_left = bool(layout.header)  # the first line of data has yet to be skipped
        self.numbers: list[Int64s] = []
        self.words: tuple[list[pa.Array], list[pa.Array]] = ([], [])

    def read_numbers(self, starts: list[int]) -> bool:
        """Read a file of numbers only, in columns with one separator, many times faster than `read_plain`.

        Returns False, with nothing read, where any line is different. Arrow refuses floats, but accepts signs
        and hexadecimal numbers.
        """
        cells = self.layout.cells(self.first_line)
        named = len(cells) > 1 and not any(re.match(NUMERIC, cell) for cell in cells[:2])
        skipped = bool(self.header) or named
        rows = self.sample[skipped:]
        numbers_alone = rows and all(re.match(self.layout.pattern(NUMBER), row) for row in rows)
        if not numbers_alone or b"0x" in self.data or b"0X" in self.data:
            return False
        delimiter = self.layout.delimiter or " "
        names = [str(number) for number in range(rows[0].count(delimiter) + 1)]
        wanted = [str(self.layout.first), str(self.layout.second)]
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(pa.py_buffer(memoryview(self.data)[starts[skipped] :])),
                pa_csv.ReadOptions(column_names=names),
                pa_csv.ParseOptions(delimiter=delimiter, quote_char=False),
                pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.int64()), include_columns=wanted, null_values=[]
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            return False
        pair = np.stack([column.to_numpy() for column in table.columns], axis=1)
        if pair.min() < 0:
            return False
        self.numbers.append(pair)
        self.header = self.header or (tuple(cells) if skipped else ())
        return True

    def read_plain(self) -> None:
        """Read rows that are lines: each is split by one regular expression."""
        number = self.layout.pattern(NUMBER)
        numeric = any(re.match(number, line) for line in self.sample)
        line = 1
        for batch in self._batches(["line"], ["line"], "\x01"):
            lines = batch.column(0)
            cut = pc.extract_regex(lines, number if numeric else "^(?P<a>-)(?P<b>-)$")
            if cut.null_count:
                self._others(lines, pc.indices_nonzero(cut.is_null()), line)
                cut = cut.drop_null()
            self._keep_numbers(*_pair(cut))
            line += len(lines)

    def _others(self, lines: pa.Array, places: pa.Array, first: int) -> None:
        """Keep the rows with names among the lines at `places`; skip comments, blanks and the header."""
        places = places.filter(pc.invert(pc.match_substring_regex(lines.take(places), graph_layout.SKIPPED)))
        if self.header_left and len(places):
            self.header_left, places = False, places[1:]
        rest = lines.take(places)
        cut = pc.extract_regex(rest, self.layout.pattern(self.layout.word))
        if cut.null_count:
            bad = pc.index(cut.is_null(), True).as_py()
            self._refuse(first + places[bad].as_py(), rest[bad].as_py())
        self._keep_words(*_pair(cut))

    def read_quoted(self) -> None:
        """Read a CSV file with quotes: rows as wide as the first line in batches, other rows one by one."""
        names = [str(number) for number in range(max(2, len(self.layout.cells(self.first_line))))]
        wanted = [str(self.layout.first), str(self.layout.second)]
        odd: list[Any] = []

        def keep(row: Any) -> str:
            odd.append(row)
            return "skip"

        for batch in self._batches(names, wanted, self.layout.delimiter, keep):
            columns = batch.slice(1) if self.header_left else batch
            self.header_left = False
            self._keep_cells(columns.column(0), columns.column(1))
        for row in odd:
            cells = self.layout.cells(row.text)
            if len(cells) > max(self.layout.first, self.layout.second):
                pair = [
                    pa.array([cells[place].encode()], pa.binary())
                    for place in (self.layout.first, self.layout.second)
                ]
                self._keep_cells(*pair)
            elif not re.match(graph_layout.SKIPPED, row.text):
                self._refuse(*self._locate(functools.partial(_is_row, row.number)))

    def _keep_cells(self, first: pa.Array, second: pa.Array) -> None:
        """Keep the rows of two columns of a CSV file; skip those that hold neither id."""
        cut = [
            pc.struct_field(pc.extract_regex(column, rf"^\s*(?P<n>{NUMBER})\s*$"), "n")
            for column in (first, second)
        ]
        both = pc.and_(pc.is_valid(cut[0]), pc.is_valid(cut[1]))
        self._keep_numbers(cut[0].filter(both), cut[1].filter(both))
        empty = [pc.match_substring_regex(column, r"^\s*$") for column in (first, second)]
        if pc.any(half := pc.xor(*empty)).as_py():
            row = pc.index(half, True).as_py()
            wanted = [column[row].as_py().decode("utf-8", "replace").strip() for column in (first, second)]
            self._refuse(*self._locate(lambda _, cells: cells == wanted))
        others = pc.invert(pc.or_(both, empty[0]))
        self._keep_words(first.filter(others), second.filter(others))

    def _keep_numbers(self, first: pa.Array, second: pa.Array) -> None:
        try:
            pair = [column.cast(pa.string()).cast(pa.int64()).to_numpy() for column in (first, second)]
        except pa.ArrowInvalid:  # some of 19 digits are above 2^63 - 1
            self._keep_words(first, second)
        else:
            self.numbers.append(np.stack(pair, axis=1))

    def _keep_words(self, first: pa.Array, second: pa.Array) -> None:
        if len(first):
            self.words[0].append(first)
            self.words[1].append(second)

    def rows(self, undirected: bool) -> Rows:
        """Return the rows. A single line without any number, before numbers only, was a header."""
        numbers = np.concatenate(self.numbers) if self.numbers else np.empty((0, 2), np.int64)
        header = self.header
        both = (
            pa.concat_arrays([*self.words[0], *self.words[1]]) if self.words[0] else pa.array([], pa.binary())
        )
        encoded = both.dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64).reshape(2, -1).T
        words = self._checked(encoded.dictionary)
        cells = self.layout.cells(self.first_line)
        first = [words[code] for code in codes[0]] if len(codes) else []
        if (
            not header
            and first == cells[:2]
            and len(numbers) + len(codes) > 1
            and not any(map(is_digits, first))
        ):
            digits = np.array([is_digits(word) for word in words])
            if int((~digits[codes]).any(axis=1).sum()) == 1:
                header, codes = tuple(cells), codes[1:]
        kind = "CSV" if self.layout.header else "edge list"
        return Rows(numbers, words, codes, kind, undirected, header)

    def _checked(self, words: pa.Array) -> list[str]:
        """Return the distinct ids as text, without quotes.

        Raises WrongInput for numbers that are no ids, and for what is not UTF-8.
        """
        try:
            texts = words.cast(pa.string())
        except pa.ArrowInvalid:
            read = ((word.as_py(), word.as_py().decode("utf-8", "replace")) for word in words)
            bad = next(word for raw, word in read if word.encode() != raw).strip(' "')
            number, text = self._locate(lambda _, cells: bad in cells)
            raise WrongInput(
                f"{self.path}, line {number}: {shown(text)} is not UTF-8; save the file as UTF-8."
            ) from None
        multiline = pc.match_substring_regex(texts, r"[\r\n]")
        if pc.any(multiline).as_py():
            word = texts[pc.index(multiline, True).as_py()].as_py().strip()
            number, text = self._locate(lambda _, cells: word in cells)
            raise WrongInput(
                f"{self.path}, line {number}: {shown(text)} holds an id of several lines; close the "
                "quote before it."
            )
        wrong = pc.and_(
            pc.match_substring_regex(texts, NUMERIC), pc.invert(pc.match_substring_regex(texts, DIGITS))
        )
        if pc.any(wrong).as_py():
            word = texts[pc.index(wrong, True).as_py()].as_py().strip(' "')
            number, text = self._locate(lambda _, cells: word in cells)
            raise WrongInput(
                f"{self.path}, line {number}: {shown(text)} holds {word}, which is neither a whole "
                "number from 0 up nor a name; write ids without sign, point or exponent."
            )
        return [_unquoted(word) for word in pc.utf8_trim_whitespace(texts).to_pylist()]

    def _batches(
        self, names: list[str], wanted: list[str], delimiter: str, odd: Any = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the columns `wanted` as bytes. Without quotes every line is a row, blank ones too.

        `odd` is called with each row of another width, and returns whether to skip it.
        """
        if not self.data:
            return
        parse = pa_csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if self.quotes else False,
            newlines_in_values=self.quotes,
            ignore_empty_lines=self.quotes,
            invalid_row_handler=odd,
        )
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.binary()), include_columns=wanted, strings_can_be_null=False
        )
        options = pa_csv.ReadOptions(column_names=names, use_threads=False)
        try:
            yield from pa_csv.open_csv(pa.BufferReader(pa.py_buffer(self.data)), options, parse, convert)
        except pa.ArrowInvalid as problem:
            longest = max(
                (line[0] for line in itertools.islice(re.finditer(rb"[^\r\n]+", self.data), 10**6)), key=len
            )
            raise WrongInput(
                f"{self.path}: cannot be split into lines ({problem}); the longest has {len(longest):,} bytes: "
                f"{shown(longest)}. Write one follow per line, and close every quote."
            ) from None

    def _locate(self, wanted: Callable[[int, list[str]], bool]) -> tuple[int, bytes]:
        """Return number and text of the first line whose row is `wanted`.

        `wanted`: a function of the row's number from 1 and its two ids. Only for messages: it parses the text
        again, row by row. A row with quotes may span many lines.
        """
        text = io.StringIO(self.data.decode("utf-8", "replace"), newline="")
        if self.quotes:
            reader = csv.reader(text, delimiter=self.layout.delimiter, skipinitialspace=True)
            lines = ((reader.line_num, cells, self.layout.delimiter.join(cells)) for cells in reader)
        else:
            plain = enumerate(io.StringIO(text.getvalue(), newline=None), start=1)
            lines = ((number, self.layout.cells(line.rstrip("\n")), line) for number, line in plain)
        row, ended = 0, 0
        for number, cells, line in lines:
            started, ended, row = ended + 1, number, row + bool(cells)
            complete = [*cells, *([""] * (max(self.layout.first, self.layout.second) + 1))]
            if cells and wanted(
                row, [complete[place].strip() for place in (self.layout.first, self.layout.second)]
            ):
                return started, line.encode()
        return ended, b""

    def _refuse(self, number: int, text: bytes) -> NoReturn:
        raise WrongInput(
            f"{self.path}, line {number}: {shown(text)} is not `follower followee`; write two ids, whole "
            f"numbers or names, in columns {self.layout.first + 1} and {self.layout.second + 1} "
            f"(separated by {self.layout.separator}), or start the line with # for a comment."
        )


def shown(text: bytes) -> str:
    """Return the start of a line, for a message."""
    return repr(text[:240].decode("utf-8", "replace").strip()[:60])


def _pair(cut: pa.StructArray) -> tuple[pa.Array, pa.Array]:
    return pc.struct_field(cut, "a"), pc.struct_field(cut, "b")


def _is_row(wanted: int, number: int, _: list[str]) -> bool:
    return number == wanted


def is_digits(word: str) -> bool:
    """Return whether a word is a whole number as written in a graph file: ASCII digits only."""
    return word.isascii() and word.isdigit()


def _unquoted(word: str) -> str:
    return word[1:-1].replace('""', '"') if len(word) > 1 and word[0] == word[-1] == '"' else word
