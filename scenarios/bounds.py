"""Compares measured values with bounds exactly as they are written, without binary rounding.

Binary floating point cannot represent most decimal bounds: 1 - 99 / 100 is 0.010000000000000009, which is
above 1 %. Bounds are therefore rational numbers parsed from their decimal text; counts and whole nanoseconds
are compared with them as integers. A measured float is compared as the shortest decimal that identifies it,
which record.json shows.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

Number = int | float | Decimal | Fraction

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip


def exact(value: Number) -> Fraction:
    """Return `value` as a rational number; a float as the shortest decimal that identifies it.

    Raises ValueError for NaN and infinity.
    """
    if isinstance(value, numbers.Integral):
        return Fraction(int(value))  # also of numpy, whose integers overflow
    return Fraction(value) if isinstance(value, Decimal | Fraction) else Fraction(repr(float(value)))


def holds(value: Number, op: str, bound: Number) -> bool:
    """Return whether `value` `op` `bound` is true, both in the same unit.

    `op`: a key of OPERATORS. False for NaN.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return OPERATORS[op](value, float(bound))
    return OPERATORS[op](exact(value), exact(bound))
