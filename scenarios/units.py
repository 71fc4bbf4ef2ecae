"""Quantities with their units, as scenario files write them, turned into SI numbers.

    duration   20 s, 250 ms, 2 min, 40 us, 1 h      -> seconds
    rate       100/s, 30/min                        -> operations a second
    ramp       100/s..400/s (or one rate)           -> (from, to), operations a second
    share      10 %                                 -> fraction, 0.10
    cores      0.2 core                             -> CPU cores
    memory     512 MiB, 2 GiB                       -> MiB
    count      20 tweets (the noun is fixed by the key) -> whole number

A bare number where a unit belongs is refused: `for: 20` could be seconds or minutes. Only a zero may
stand alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

DURATIONS = {  # exact, so that bounds stay as they are written
    "us": Fraction(1, 1_000_000), "µs": Fraction(1, 1_000_000), "ms": Fraction(1, 1000), "s": Fraction(1),
    "min": Fraction(60), "h": Fraction(3600), "d": Fraction(86400),
}  # fmt: skip
RATES = {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}
SHARES = {"%": Fraction(1, 100)}
CORES = {"core": 1.0, "cores": 1.0}
MEMORIES = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}

_NUMBER = r"(\d+(?:[_ ]\d{3})*(?:\.\d+)?|\d*\.\d+|\d+)"
_QUANTITY = re.compile(rf"^\s*{_NUMBER}\s*(\D\S*)?\s*$")


class UnitError(ValueError):
    """A quantity that cannot be read. `allowed` says what the place takes, `hint` the nearest good word."""

    def __init__(self, value: object, allowed: str, hint: str = "") -> None:
        super().__init__(f"{value!r}; {allowed}{hint}")
        self.value = value
        self.allowed = allowed
        self.hint = hint


def nearest(word: object, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for the nearest of `known`, or an empty text where nothing is near."""
    found = difflib.get_close_matches(str(word), sorted(known), n=1, cutoff=0.5)
    return f' Did you mean "{found[0]}"?' if found else ""


def quantity(value: object, table: Mapping[str, float | Fraction], what: str, example: str) -> float:
    """Return `value` in the base unit of `table`, as the nearest float. Raises UnitError, naming the units of
    `table`.
    """
    return float(exact(value, table, what, example))


def exact(value: object, table: Mapping[str, float | Fraction], what: str, example: str) -> Fraction:
    """Return `value` in the base unit of `table`, without rounding. Raises UnitError, naming the units of
    `table`.
    """
    allowed = f"it must be a {what} such as `{example}` (units: {', '.join(sorted(table))})."
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value == 0:
            return Fraction(0)
        raise UnitError(value, allowed, f" Write the unit: `{value} {next(iter(_likely(table)))}`.")
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        raise UnitError(value, allowed)
    number, unit = match.groups()
    amount = Fraction(number.replace("_", "").replace(" ", ""))
    if unit is None and amount == 0:
        return Fraction(0)
    if unit not in table:
        raise UnitError(value, allowed, nearest(unit, table) if unit else " The unit is missing.")
    return amount * Fraction(table[unit])


def _likely(table: Mapping[str, float | Fraction]) -> Iterable[str]:
    """Return the unit a newcomer most likely means: the one of size 1, else the first."""
    return [unit for unit, size in table.items() if size == 1.0] or list(table)


def duration_s(value: object) -> float:
    """Return seconds. Raises UnitError."""
    return float(exact_s(value))


def exact_s(value: object) -> Fraction:
    """Return seconds as they are written, for a bound. Raises UnitError."""
    return exact(value, DURATIONS, "duration", "20 s")


def rate_per_s(value: object) -> float:
    """Return operations a second. Raises UnitError."""
    return quantity(value, RATES, "rate", "100/s")


def share(value: object) -> float:
    """Return a fraction from 0 to 1. Raises UnitError outside 0 % to 100 %."""
    return float(exact_share(value))


def exact_share(value: object) -> Fraction:
    """Return a fraction from 0 to 1 as it is written, for a bound. Raises UnitError outside 0 % to 100 %."""
    fraction = exact(value, SHARES, "share", "10 %")
    if fraction > 1:
        raise UnitError(value, "it must be a share from `0 %` to `100 %`.")
    return fraction


def cores(value: object) -> float:
    """Return CPU cores. Raises UnitError."""
    return quantity(value, CORES, "share of CPU", "0.2 core")


def memory_mib(value: object) -> float:
    """Return MiB. Raises UnitError."""
    return quantity(value, MEMORIES, "memory size", "512 MiB")


def ramp_per_s(value: object) -> tuple[float, float]:
    """Return the rates at the start and the end of a stage; both equal for a single rate. Raises UnitError."""
    if isinstance(value, str) and ".." in value:
        first, _, last = value.partition("..")
        return rate_per_s(first), rate_per_s(last)
    rate = rate_per_s(value)
    return rate, rate


def counting(noun: str) -> Callable[[object], int]:
    """Return a reader of whole numbers that may be followed by `noun`, as in `20 tweets`."""

    def read(value: object) -> int:
        allowed = f"it must be a whole number of {noun}, such as `20 {noun}`."
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        match = _QUANTITY.match(value) if isinstance(value, str) else None
        if match is None or "." in match.group(1):
            raise UnitError(value, allowed)
        if match.group(2) not in (None, noun, noun.removesuffix("s")):
            raise UnitError(value, allowed, nearest(match.group(2), [noun]))
        return int(match.group(1).replace("_", "").replace(" ", ""))

    return read


def tell_duration(seconds: float) -> str:
    """Return `seconds` as a scenario would write it: `250 ms`, `20 s`."""
    return f"{seconds * 1e3:g} ms" if 0 < seconds < 1 else f"{seconds:g} s"


def tell_share(fraction: float) -> str:
    """Return `fraction` as a scenario would write it: `0.5 %`."""
    return f"{fraction * 100:g} %"
