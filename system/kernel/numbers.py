"""Parse numbers that people and other programs write.

NaN, infinity and values that are too large are rejected.

    is_number(value)         whether a value that a parser returned may be used as a number
    shown(value)             any value, shortened for an error message
    decimal(text)            a decimal number with an optional exponent, from a text
    whole(text, low, high)   a whole number within its bounds, from a text
    parse_json(text)         a JSON value in which every number is finite
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

MAX_INT = 2**63 - 1  # the largest whole number that the stores, Lua scripts and arrays of int64 hold
MAX_DIGITS = 19  # of MAX_INT
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def is_number(value: object) -> bool:
    """Return whether `value` is a finite float, or an int of at most 63 bits. A bool is not a number."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= MAX_INT
    return isinstance(value, float) and math.isfinite(value)


def short_repr(value: object) -> str:
    """Return the repr of `value` in at most 80 characters.

    Python refuses to write an int of more than 4,300 digits.
    """
    if isinstance(value, int) and not is_number(value) and not isinstance(value, bool):
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def parse_decimal(text: str) -> float:
    """Return the number in `text`, in ASCII. Raises ValueError for NaN, infinity and anything else."""
    value = float(text) if _DECIMAL.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite decimal number")
    return value


def parse_int(text: str, low: int, high: int) -> int:
    """Return the whole number in `text`, in ASCII, from `low` (0 or more) to `high`. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and low <= int(text) <= high):
        raise ValueError(f"{text[:40]!r} is not a whole number from {low} to {high}")
    return int(text)


class NotFinite(ValueError):
    """A JSON text contains a number that no float can hold; the message names key, value and bound."""


def parse_json(text: str | bytes) -> Any:
    """Return the JSON value in `text`. Raises NotFinite if a number is the reason, else ValueError."""
    import orjson  # here, because the platform imports this module in an environment with only PyYAML

    try:
        return orjson.loads(text)
    except ValueError as problem:
        if message := _not_finite(text):
            raise NotFinite(message) from None
        raise ValueError(f"it is not JSON: {problem}.") from None


def _not_finite(text: str | bytes) -> str:
    """Return a message about the first number of a JSON text that is not finite.

    "" if there is none, or no JSON.
    """
    try:
        lenient = json.loads(text, parse_float=_Written, parse_int=_Written, parse_constant=_Written)
        written = list(_numbers(lenient, ""))
    except (ValueError, RecursionError):
        return ""
    for path, number in written:
        try:
            parse_decimal(number.text)
        except ValueError:
            return f"`{path[:80] or 'the value'}` is {number.text[:40]}; it must be a finite number."
    return ""


class _Written:
    """A number of a JSON text as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text


def _numbers(value: Any, path: str) -> Iterator[tuple[str, _Written]]:
    if isinstance(value, _Written):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _numbers(item, f"{path}.{key}" if path else str(key))
