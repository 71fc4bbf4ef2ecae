"""The event list, lists of rows, and random numbers of the compiled engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sim import streams
from sim.compiled.jit import inline
from sim.compiled.layout import *

Table = Any
"""A numpy array of whole numbers (int64) or floats (float64), with one row per object."""

GAMMA, FIRST, SECOND = np.uint64(streams.GAMMA), np.uint64(streams.FIRST), np.uint64(streams.SECOND)
ONE, U27, U30, U31 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31)
CONSTANT, EXPONENTIAL, LOGNORMAL = streams.CONSTANT, streams.EXPONENTIAL, streams.LOGNORMAL
LAW_TABLE = 4
"""A law is a row of floats: kind, a, b, length of the table, and from here on the table."""

normal = inline(streams.normal)
between = inline(streams.between)
ns = inline(streams.ns)


# ---- random numbers ---------------------------------------------------------------------------------------

@inline
def mixed(key: int, number: int) -> int:
    """Return `sim.streams.mixed(key, number)`."""
    z = np.uint64(key) + (np.uint64(number) + ONE) * GAMMA
    z = (z ^ (z >> U30)) * FIRST
    z = (z ^ (z >> U27)) * SECOND
    return np.int64((z ^ (z >> U31)) >> ONE)  # type: ignore[return-value]


@inline
def uniform(key: int, number: int) -> float:
    """Return `sim.streams.uniform(key, number)`."""
    return ((mixed(key, number) >> 10) + 0.5) * 1.1102230246251565e-16


@inline
def quantile(laws: Table, law: int, u: float) -> float:
    """Return quantile `u` of a law: sim.streams.Law."""
    kind = int(laws[law, 0])
    if kind == LOGNORMAL:
        return math.exp(laws[law, 1] + laws[law, 2] * normal(u))
    if kind == EXPONENTIAL:
        return -laws[law, 1] * math.log(1.0 - u)
    if kind == CONSTANT:
        return laws[law, 1]
    place = u * (laws[law, 3] - 1)
    number = int(place)
    return between(laws[law, LAW_TABLE + number], laws[law, LAW_TABLE + number + 1], place - number)


# ---- rows and lists of them -------------------------------------------------------------------------------

@inline
def new(rows: Table) -> int:
    """Return an empty row."""
    row = bare(rows)
    for column in range(CLEARED):
        rows[row, column] = 0
    return row


@inline
def bare(rows: Table) -> int:
    """Return a row with something in it, for an object that sets all its columns."""
    row = rows[0, FREE]
    if row:
        rows[0, FREE] = rows[row, NEXT]
        return row
    row = rows[0, USED]
    if row >= rows.shape[0] - 1:
        rows[0, STOP] = OVERFLOW
        return row
    rows[0, USED] = row + 1
    return row


@inline
def free(rows: Table, row: int) -> None:
    """Give a row back."""
    rows[row, NEXT] = rows[0, FREE]
    rows[0, FREE] = row


@inline
def append(rows: Table, owner: int, column: int, row: int) -> None:
    """Add `row` at the end of the list whose head and tail are in `column` of `owner`."""
    rows[row, NEXT] = 0
    if rows[owner, column]:
        rows[rows[owner, column + 1], NEXT] = row
    else:
        rows[owner, column] = row
    rows[owner, column + 1] = row


@inline
def prepend(rows: Table, owner: int, column: int, row: int) -> None:
    """Add `row` at the start of a list."""
    rows[row, NEXT] = rows[owner, column]
    if not rows[owner, column]:
        rows[owner, column + 1] = row
    rows[owner, column] = row


@inline
def take(rows: Table, owner: int, column: int) -> int:
    """Remove the first row of a list and return it; 0 if there is none."""
    row = rows[owner, column]
    if row:
        rows[owner, column] = rows[row, NEXT]
    return row


@inline
def remove(rows: Table, owner: int, column: int, row: int) -> None:
    """Remove `row` from a list."""
    before, one = 0, rows[owner, column]
    while one and one != row:
        before, one = one, rows[one, NEXT]
    if not one:
        return
    if before:
        rows[before, NEXT] = rows[row, NEXT]
    else:
        rows[owner, column] = rows[row, NEXT]
    if rows[owner, column + 1] == row:
        rows[owner, column + 1] = before


# ---- events -----------------------------------------------------------------------------------------------

@inline
def urgent(rows: Table, rings: Table, kind: int, argument: int) -> None:
    """Start something in this instant, before anything else: a new process."""
    tail = rows[0, URGENT_TAIL]
    if tail - rows[0, URGENT_HEAD] >= rings.shape[1]:
        rows[0, STOP] = OVERFLOW
        return
    at = tail & (rings.shape[1] - 1)
    rings[0, at, 0], rings[0, at, 1] = kind, argument
    rows[0, URGENT_TAIL] = tail + 1


@inline
def soon(rows: Table, rings: Table, kind: int, argument: int, turn: int) -> None:
    """Let something happen in this instant, after what is due in it."""
    tail = rows[0, SOON_TAIL]
    if tail - rows[0, SOON_HEAD] >= rings.shape[1]:
        rows[0, STOP] = OVERFLOW
        return
    at = tail & (rings.shape[1] - 1)
    rings[1, at, 0], rings[1, at, 1], rings[1, at, 2] = kind, argument, turn
    rows[0, SOON_TAIL] = tail + 1


@inline
def after(rows: Table, heap: Table, rings: Table, wait_ns: int, kind: int, argument: int, turn: int) -> None:
    """Let something happen after `wait_ns`. The heap has rows (time, sequence, kind, argument, turn)."""
    if wait_ns <= 0:
        soon(rows, rings, kind, argument, turn)
        return
    at = rows[0, HEAP]
    if at >= heap.shape[0]:
        rows[0, STOP] = OVERFLOW
        return
    time = rows[0, NOW] + wait_ns
    while at > 0:
        above = (at - 1) >> 1
        if heap[above, 0] <= time:  # equally early: the older one is first
            break
        heap[at, 0], heap[at, 1], heap[at, 2] = heap[above, 0], heap[above, 1], heap[above, 2]
        heap[at, 3], heap[at, 4] = heap[above, 3], heap[above, 4]
        at = above
    heap[at, 0], heap[at, 1], heap[at, 2], heap[at, 3], heap[at, 4] = time, rows[0, SEQUENCE], kind, argument, turn
    rows[0, SEQUENCE] += 1
    rows[0, HEAP] += 1


@inline
def at_deadline(rows: Table, heap: Table, rings: Table, operation: int, turn: int) -> None:
    """Let an operation meet its deadline, which is the same for all: they wait in a queue of their own, not in the heap."""
    tail = rows[0, DEADLINES_TAIL]
    if tail - rows[0, DEADLINES_HEAD] >= rings.shape[1]:
        after(rows, heap, rings, rows[0, DEADLINE_NS], DEADLINE, operation, turn)
        return
    at = tail & (rings.shape[1] - 1)
    rings[2, at, 0], rings[2, at, 1] = operation, turn
    rings[2, at, 2], rings[2, at, 3] = rows[0, NOW] + rows[0, DEADLINE_NS], rows[0, SEQUENCE]
    rows[0, SEQUENCE] += 1
    rows[0, DEADLINES_TAIL] = tail + 1


@inline
def remove_first(rows: Table, heap: Table) -> None:
    """Remove the earliest event of the heap."""
    last = rows[0, HEAP] - 1
    rows[0, HEAP] = last
    time, sequence = heap[last, 0], heap[last, 1]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= last:
            break
        other = below + 1
        if other < last and (heap[other, 0] < heap[below, 0]
                             or (heap[other, 0] == heap[below, 0] and heap[other, 1] < heap[below, 1])):
            below = other
        if time < heap[below, 0] or (time == heap[below, 0] and sequence < heap[below, 1]):
            break
        heap[at, 0], heap[at, 1], heap[at, 2] = heap[below, 0], heap[below, 1], heap[below, 2]
        heap[at, 3], heap[at, 4] = heap[below, 3], heap[below, 4]
        at = below
    heap[at, 0], heap[at, 1], heap[at, 2] = time, sequence, heap[last, 2]
    heap[at, 3], heap[at, 4] = heap[last, 3], heap[last, 4]
