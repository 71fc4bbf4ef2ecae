"""Reads files of follows (edge lists, CSV with named columns, Matrix Market) into users 1..N.

Every id of the file becomes a user; the most followed is user 1. Duplicate follows and self follows are
dropped and counted. `Summary` describes what was read; its hints name other possible interpretations of the
file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios import vocabulary
from scenarios.world import graph_matrix, graph_rows, graph_text
from scenarios.world.graph_rows import Int64s, Rows
from system.kernel.errors import WrongInput


@dataclass(frozen=True)
class Summary:
    """The contents of a graph file. Counts are of users, follows or lines.

    `format`: edge list, CSV or Matrix Market. `compression`: "" for none. `header`: column names, empty
    without a header line. `lines`: lines with a follow, before duplicates (`duplicates`) and self follows
    (`self_loops`) were dropped. `follows`: edges of the graph: two per pair where `undirected`.
    `reciprocal_pairs`: pairs that follow each other. `renumbered`: whether any user has another number than
    in the file. `names`: ids that are not numbers up to 2^63 - 1. `largest_audience`: followers of the most
    followed user, `largest_audience_id` that user's id in the file.
    """

    file: str
    format: str
    compression: str
    header: tuple[str, ...]
    lines: int
    users: int
    follows: int
    undirected: bool
    direction: str
    duplicates: int
    self_loops: int
    reciprocal_pairs: int
    renumbered: bool
    names: int
    largest_audience: int
    largest_audience_id: str
    hints: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """One line of text for the console."""
        packed = f", {self.compression}" if self.compression else ""
        header = f" with header {', '.join(self.header)[:60]!r}" if self.header else ""
        made = (
            "undirected (both directions made)"
            if self.undirected
            else f"directed ({self.direction.replace('_', ', ')})"
        )
        ids = f"ids renumbered 1 to {self.users:,}" if self.renumbered else "ids kept"
        names = f" ({self.names:,} names)" if self.names else ""
        return (
            f"{self.file} ({self.format}{packed}{header}): {self.users:,} users, {self.follows:,} follows, "
            f"{made}, duplicates dropped: {self.duplicates:,}, self loops dropped: {self.self_loops:,}, "
            f"{ids}{names}, "
            f"largest audience {self.largest_audience:,} (id {self.largest_audience_id})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return dataclasses.asdict(self) | {"header": list(self.header), "hints": list(self.hints)}


@dataclass(frozen=True)
class EdgeList:
    """The follows of a file. `follower`, `followee`: int64, shape (follows,), users 1..N, without duplicates.

    `labels`: shape (N + 1,), the id of each user in the file: int64 where all are numbers, otherwise str;
    index 0 is unused.
    """

    follower: Int64s
    followee: Int64s
    labels: NDArray[Any]
    summary: Summary

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.labels) - 1


def read(path: Path, undirected: bool | None = None, direction: str | None = None) -> EdgeList:
    """Read a file of follows.

    `undirected`: whether each line is a mutual follow; None: as the file declares (a SNAP header, a symmetric
    matrix), otherwise no. `direction`: a key of vocabulary.GRAPH_DIRECTIONS; None: follower first, with a
    hint where nothing confirms it. Raises WrongInput for anything but a list of follows, with line number and
    text where the problem is in a line.
    """
    text = graph_text.read(path)
    notation = graph_matrix if graph_matrix.is_one(text.data) else graph_rows
    rows = notation.read(text.data, path)
    compression = text.compression
    del text  # hundreds of MiB that are no longer needed
    codes, labels, names = _numbered(rows)
    if direction == vocabulary.FOLLOWEE_FIRST:
        codes = codes[::-1]
    lines, users = codes.shape[1], len(labels)
    loops = codes[0] == codes[1]
    if not lines or loops.all():
        raise WrongInput(
            f"{path}: holds no follow"
            + (f" but {lines:,} of users who follow themselves" if lines else "")
            + "; write `follower followee` on a line, two different ids."
        )
    both = rows.undirected if undirected is None else undirected
    follower, followee = codes[:, ~loops]
    low, high = np.minimum(follower, followee), np.maximum(follower, followee)
    pairs = _distinct(low * users + high)
    follows = _distinct(follower * users + followee) if not both else pairs
    follower, followee = follows // users, follows % users
    if both:
        follower, followee = np.concatenate([follower, followee]), np.concatenate([followee, follower])
    self_loops = int(loops.sum())
    rank, labels, largest = _by_audience(followee, labels)
    reciprocal = len(pairs) if both else len(follows) - len(pairs)
    summary = Summary(
        file=path.name, format=rows.kind, compression=compression, header=rows.header,
        lines=lines, users=users, follows=len(follower),
        undirected=both, direction=direction or vocabulary.FOLLOWER_FIRST,
        duplicates=lines - self_loops - len(follows), self_loops=self_loops, reciprocal_pairs=reciprocal,
        renumbered=bool(names or (labels[1:] != np.arange(1, users + 1)).any()), names=names,
        largest_audience=largest, largest_audience_id=str(labels[1]),
        hints=_hints(reciprocal, undirected, direction),
    )  # fmt: skip
    return EdgeList(rank[follower], rank[followee], labels, summary)


def _by_audience(followee: Int64s, labels: NDArray[Any]) -> tuple[Int64s, NDArray[Any], int]:
    """Number the users from 1, the most followed first.

    `followee`: index of the followed user of each follow; `labels`: shape (N,), each user's id in the file.
    Returns (number of each index, labels in that order with index 0 unused, largest audience).
    """
    users = len(labels)
    audience = np.bincount(followee, minlength=users)
    order = np.argsort(-audience, kind="stable")
    rank = np.empty(users, np.int64)
    rank[order] = np.arange(1, users + 1)
    unused = np.array([0 if labels.dtype != np.object_ else ""], labels.dtype)
    return rank, np.concatenate([unused, labels[order]]), int(audience[order[0]])


def _hints(reciprocal: int, undirected: bool | None, direction: str | None) -> tuple[str, ...]:
    if reciprocal or undirected is not None or direction is not None:
        return ()
    return (
        "no two users follow each other: if the file lists each friendship once, read both directions "
        "(--undirected, or population.undirected: true); if its first column is the followee, swap the columns "
        "(--direction followee_follower); "
        "if it is correct as it is, state it with --direction follower_followee",
    )


def _numbered(rows: Rows) -> tuple[Int64s, NDArray[Any], int]:
    """Replace the ids of both columns by codes.

    Returns the codes from 0 (int64, shape (2, lines)), the id of each code, and the number of ids that are
    names. Codes follow the order of the ids: numbers ascending, then names alphabetically.
    """
    spelled = np.fromiter((_number(word) for word in rows.words), np.int64, len(rows.words))
    is_number = spelled >= 0
    used = np.zeros(len(spelled), np.bool_)
    used[rows.word_rows] = True  # not the words of a header
    values = np.concatenate([rows.numbers[:, 0], rows.numbers[:, 1], spelled[is_number & used]])
    codes, numbers = pd.factorize(values, sort=True)
    codes, count = codes.astype(np.int64, copy=False), len(rows.numbers)
    pairs = codes[: 2 * count].reshape(2, count)
    if not len(rows.word_rows):
        return pairs, numbers, 0
    words = [word.lstrip("0") if graph_rows.is_digits(word) else word for word in rows.words]
    names = sorted({word for word, named in zip(words, used & ~is_number) if named})
    place = {name: len(numbers) + n for n, name in enumerate(names)}
    of_word = np.fromiter((place.get(word, -1) for word in words), np.int64, len(words))
    of_word[is_number & used] = codes[2 * count :]
    both = np.concatenate([pairs, of_word[rows.word_rows].T], axis=1)
    if not names:
        return both, numbers, 0
    return both, np.array([*map(str, numbers.tolist()), *names], np.object_), len(names)


def _number(word: str) -> int:
    """Return the id that a word spells; -1 for a name or a number above 2^63 - 1."""
    if not graph_rows.is_digits(word) or len(digits := word.lstrip("0")) > 19:
        return -1
    return number if (number := int(digits or "0")) < 2**63 else -1


def _distinct(keys: Int64s) -> Int64s:
    """Return the distinct keys, ascending.

    By sorting: `numpy.unique` hashes integers, which takes ten times as long for millions.
    """
    ordered = np.sort(keys)
    kept: Int64s = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return kept
