"""Detects the layout of an edge list: the separator, and which two columns hold follower and followee.

Decided from the first lines alone. Without a header, the first two columns are follower and followee. A
header that names a known pair (`PAIRS`) says which columns they are, in any position. The separator is a tab,
semicolon or comma if every line has it; otherwise blanks, where lines of plain numbers may also mix
separators.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

SAMPLE_LINES = 1000
COMMENT = r"(?:#|%|//)"
SKIPPED = rf"^[ \t]*(?:[,; \t]*$|{COMMENT})"  # blank lines, those of separators alone, comments
MAX_HEAD_LINES = 10**6
PAIRS = (
    ("source", "target"),
    ("source", "destination"),
    ("src", "dst"),
    ("src", "dest"),
    ("src", "tgt"),
    ("from", "to"),
    ("follower", "followee"),
    ("follower", "followed"),
    ("follower", "user"),
    ("id1", "id2"),
    ("node1", "node2"),
    ("user1", "user2"),
)
"""Column names of (follower, followee), compared without case, punctuation and a final `id` or `node id`."""

NUMBER = r"\d{1,19}"  # an id up to 2^63 - 1; longer ones are names
NUMBERS_BY_BLANK = re.compile(rf"[ \t]*{NUMBER}[ ]+{NUMBER}(?:[ \t,;]|$)")


@dataclass(frozen=True)
class Layout:
    """The layout of an edge list.

    `delimiter`: "\\t", ";" or ","; "" for blanks. `first`, `second`: columns of follower and followee, from
    0. `header`: the names of all columns where the first line names a known pair, otherwise empty.
    """

    delimiter: str = ""
    first: int = 0
    second: int = 1
    header: tuple[str, ...] = ()

    @property
    def separator(self) -> str:
        """The name of the separator, for messages."""
        return {"\t": "tabs", ";": "semicolons", ",": "commas", "": "blanks"}[self.delimiter]

    def cells(self, line: str) -> list[str]:
        """Split one line into its columns, without quotes."""
        if not self.delimiter:
            return [cell.strip('"') for cell in re.findall(r'"[^"]*"|[^ \t]+', line)]
        return [
            cell.strip()
            for cell in next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True), [])
        ]

    def pattern(self, cell: str) -> str:
        """Return the regular expression of a line whose two columns match `cell`, as groups `a` and `b`."""
        blank = " " if self.delimiter == "\t" else "[ \\t]"
        if self.delimiter:
            other, end = f"[^{self.delimiter}]*", f"(?:{self.delimiter}|$|[ \\t]+{COMMENT})"
            gap = f"{blank}*{self.delimiter}{blank}*"
        else:
            other, gap, end = '(?:"[^"]*"|[^ \\t]+)', "[ \\t]+", "(?:[ \\t]|$)"
            if cell == NUMBER and not self.header:
                gap, end = "(?:[ \\t]*[,;][ \\t]*|[ \\t]+)", "(?:[ \\t,;]|$)"
        names = {self.first: f"(?P<a>{cell})", self.second: f"(?P<b>{cell})"}
        columns = [names.get(number, other) for number in range(max(names) + 1)]
        return f"^{blank}*{gap.join(columns)}[ \\t]*{end}"

    @property
    def word(self) -> str:
        """The regular expression of one column that holds a name."""
        if not self.delimiter:
            return '"[^"]*"|[^ \\t]+'
        return f"[^{self.delimiter}]*[^{self.delimiter} \\t]"


def head(data: bytes | bytearray) -> tuple[list[str], list[str], list[int]]:
    """Return the comments before the data, the first lines of data, and the byte offsets of these."""
    comments: list[str] = []
    sample: list[str] = []
    starts: list[int] = []
    for match in itertools.islice(re.finditer(rb"[^\r\n]+", data), MAX_HEAD_LINES):
        line = match[0].decode("utf-8", "replace")
        if not re.match(SKIPPED, line):
            sample.append(line)
            starts.append(match.start())
        elif not sample and len(comments) < SAMPLE_LINES:
            comments.append(line.strip())
        if len(sample) == SAMPLE_LINES:
            break
    return comments, sample, starts


def of(lines: Sequence[str]) -> Layout:
    """Return the layout of a file whose first lines (neither comments nor blank) are `lines`."""
    if not lines:
        return Layout()
    for delimiter in ("\t", ";", ",", ""):
        header = tuple(Layout(delimiter).cells(lines[0]))
        if (pair := named_columns(header)) is not None:
            return Layout(delimiter, *pair, header)
    if all(NUMBERS_BY_BLANK.match(line) for line in lines[1:] or lines):
        return Layout()  # `1 2<tab>5`: the weight is behind a tab, the ids are not
    if all(line.startswith("\t") for line in lines):
        return Layout()  # indented, rather than without a first column
    return Layout(next((mark for mark in ("\t", ";", ",") if all(mark in line for line in lines)), ""))


def named_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """Return the positions of follower and followee in a header; None without a known pair."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        for word in (plain, plain.removesuffix("id"), re.sub(r"(?:node|user)?(?:id)?$", "", plain)):
            places.setdefault(word, place)
    pairs = [(places[first], places[second]) for first, second in PAIRS if first in places and second in places]
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


def says_undirected(comments: Sequence[str]) -> bool:
    """Return whether comments declare an undirected graph: "Undirected graph" (SNAP) or "sym" (KONECT)."""
    for comment in comments:
        if re.match(r"%\s*sym\b", comment):
            return True
        word = re.search(
            r"\b(?P<no>(?:not|non)[- ](?:an? )?)?(?P<un>un)?directed\b(?!\s*[:=]\s*(?:false|no|0))",
            comment.lower(),
        )
        if word is not None and word["un"] and not word["no"]:
            return True
    return False
