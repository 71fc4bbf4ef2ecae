"""Formatting of a measured value with enough digits to distinguish it from its bound: 250.0004 ms is not 250 ms."""

from __future__ import annotations

from collections.abc import Callable

DOUBLE = 17  # significant digits that distinguish any two floats


def distinct_text(value: float, bound: float | None, brief: Callable[[float], str], scale: float, unit: str) -> str:
    """Return `brief(value)`, or more digits if `brief(bound)` is the same text although the two differ.

    `scale`: factor from the value to `unit`. `bound`: None if there is none.
    """
    text = brief(value)
    if bound is None or value == bound or text != brief(bound):
        return text
    for digits in range(3, DOUBLE + 1):
        value_text, bound_text = f"{value * scale:.{digits}g}", f"{bound * scale:.{digits}g}"
        if value_text != bound_text:
            return f"{value_text}{unit}"
    return text
