"""Write a measured value with as many digits as tell it from its bound: 250.0004 ms is not 250 ms."""

from __future__ import annotations

from collections.abc import Callable

DOUBLE = 17  # significant digits that tell any two floats apart


def apart(value: float, bound: float | None, brief: Callable[[float], str], scale: float, unit: str) -> str:
    """Return `brief(value)`; where `brief(bound)` reads the same although the two differ, write more digits.

    `scale`: factor from the value to `unit`. None as `bound`: there is none.
    """
    text = brief(value)
    if bound is None or value == bound or text != brief(bound):
        return text
    for digits in range(3, DOUBLE + 1):
        one, other = f"{value * scale:.{digits}g}", f"{bound * scale:.{digits}g}"
        if one != other:
            return f"{one}{unit}"
    return text
