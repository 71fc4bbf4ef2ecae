"""Reads a Matrix Market file with SciPy: entry (row, column) is a follow, whatever its value."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from scenarios.world import graph_rows
from scenarios.world.graph_rows import Rows
from system.kernel.errors import WrongInput

BANNER = b"%%matrixmarket"


def is_one(data: bytes | bytearray) -> bool:
    """Return whether a text starts as a Matrix Market file does."""
    return bytes(data[: len(BANNER)]).lower() == BANNER


def read(data: bytes | bytearray, path: Path) -> Rows:
    """Return the entries of a matrix as rows; those of a symmetric one once, as written.

    Raises WrongInput where it is not a square matrix of coordinates, with the line where SciPy reports one.
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = b"%%MatrixMarket" + data[len(BANNER) :]
    try:
        rows, columns, entries, form, _, symmetry = scipy.io.mminfo(io.BytesIO(data))
        if form != "coordinate":
            raise WrongInput(
                f"{path}: is a Matrix Market {form}, which lists every cell; write it as `coordinate`."
            )
        if rows != columns:
            raise WrongInput(
                f"{path}: is a matrix of {rows:,} rows and {columns:,} columns; follows need a square one, "
                "whose rows "
                "and columns are the same users."
            )
        if (
            entries > len(data) // 4
        ):  # an entry takes at least 4 bytes; allocate nothing for entries that do not exist
            raise ValueError(f"the size line says {entries:,} entries, more than the file has room for")
        matrix: Any = scipy.io.mmread(io.BytesIO(data))
    except (ValueError, OverflowError, MemoryError) as problem:
        match = re.match(r"Line (\d+): (.*)", str(problem))
        where = f", line {match[1]}: {graph_rows.shown(_line(data, int(match[1])))}" if match else ""
        raise WrongInput(
            f"{path}{where}: is not readable as Matrix Market: {match[2] if match else problem}"
        ) from None
    pairs = np.stack([matrix.row, matrix.col], axis=1).astype(np.int64) + 1
    if symmetry != "general":  # SciPy adds the mirrored entries; those below the diagonal are the file's own
        pairs = pairs[pairs[:, 0] >= pairs[:, 1]]
    return Rows(pairs, [], np.empty((0, 2), np.int64), "Matrix Market", symmetry != "general")


def _line(data: bytes | bytearray, number: int) -> bytes:
    lines = data.split(b"\n", number)
    return bytes(lines[number - 1]) if 0 < number <= len(lines) else b""
