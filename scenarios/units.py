"""Quantities with units, as written in scenario files, parsed into SI values.

    duration   20 s, 250ms, 5m, 1h30m, 1.5 h, 40 us -> seconds; m and min are minutes
    rate       100/s, 30/min                        -> operations per second
    ramp       100/s..400/s (or one rate)           -> (from, to), operations per second
    share      10 %                                 -> fraction, 0.10
    cores      0.2 core                             -> CPU cores
    memory     512 MiB, 2 GiB                       -> MiB
    count      20 tweets (the key fixes the noun)   -> whole number

A number without its unit is refused: `for: 20` could be seconds or minutes. Only zero needs no unit. NaN,
infinity and values that no float can hold are refused like any other text that is not a quantity.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from system.kernel import numbers

GREEK_US = "\u03bcs"  # looks like \u00b5s; Go takes both
DURATIONS = {  # exact, so that a bound stays as it is written
    "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "\u00b5s": Fraction(1, 10**6),
    GREEK_US: Fraction(1, 10**6), "ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60),
    "min": Fraction(60), "h": Fraction(3600), "d": Fraction(86_400), "w": Fraction(604_800),
}  # fmt: skip
"""Unit -> seconds, as in Go, k6 and Prometheus: `m` is minutes."""
SPELLED_OUT = {"sec": "s", "second": "s", "minute": "min", "hour": "h", "hr": "h", "day": "d", "week": "w",
               "millisecond": "ms", "microsecond": "us", "msec": "ms", "usec": "us"}
"""Spelled-out unit in the singular -> the unit to write."""
MAX_DURATION_S = 9_223_372_036  # 292 years: the range of a clock in nanoseconds with 63 bits
RATES = {"/s": Fraction(1), "/m": Fraction(1, 60), "/min": Fraction(1, 60), "/h": Fraction(1, 3600)}
SHARES = {"%": Fraction(1, 100)}
CORES = {"core": 1.0, "cores": 1.0}
MEMORIES = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}

_NUMBER = r"(\d+(?:[_ ]\d{3})*(?:\.\d+)?|\d*\.\d+|\d+)"
_QUANTITY = re.compile(rf"^\s*{_NUMBER}\s*(\D\S*)?\s*$", re.ASCII)
_PART = re.compile(rf"{_NUMBER}\s*([^\d\s.]+)\s*", re.ASCII)


class UnitError(ValueError):
    """A quantity that cannot be parsed. `allowed`: what is valid here; `hint`: the nearest valid word."""

    def __init__(self, value: object, allowed: str, hint: str = "") -> None:
        super().__init__(f"{numbers.short_repr(value)}; {allowed}{hint}")
        self.value = value
        self.allowed = allowed
        self.hint = hint


def nearest(word: object, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` for the nearest of `known`, or an empty text where none is close."""
    matches = difflib.get_close_matches(str(word), sorted(known), n=1, cutoff=0.5)
    return f' Did you mean "{matches[0]}"?' if matches else ""


def quantity(value: object, table: Mapping[str, float | Fraction], what: str, example: str) -> float:
    """Return `value` in the base unit of `table`, rounded once. Raises UnitError, naming the units."""
    return float(exact(value, table, what, example))


def exact(value: object, table: Mapping[str, float | Fraction], what: str, example: str) -> Fraction:
    """Return `value` in the base unit of `table`, without rounding. Raises UnitError, naming the units."""
    known = ", ".join(unit for unit in table if unit != GREEK_US)
    allowed = f"it must be a {what} such as `{example}` (units: {known})."
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value == 0:
            return Fraction(0)
        with_unit = f"{numbers.short_repr(value)} {next(iter(_likely(table)))}"
        hint = f" Write the unit: `{with_unit}`." if numbers.is_number(value) else ""
        raise UnitError(value, allowed, hint)
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        raise UnitError(value, allowed)
    number, unit = match.groups()
    try:
        amount = Fraction(number.replace("_", "").replace(" ", ""))
        if unit is None and amount == 0:
            return Fraction(0)
        if unit not in table:
            raise UnitError(value, allowed, _nearest_unit(unit, table) if unit else " The unit is missing.")
        amount *= Fraction(table[unit])
        float(amount)  # raises OverflowError where no float holds it
        return amount
    except UnitError:
        raise
    except (ValueError, OverflowError):
        raise UnitError(value, allowed, " The number is too large.") from None


def _nearest_unit(unit: str, table: Mapping[str, float | Fraction]) -> str:
    """Return ` Did you mean "s"?` for a spelled-out or misspelled unit, or an empty text.

    Nothing is suggested for `M` and `mo`, which are as close to months as to minutes.
    """
    short = SPELLED_OUT.get(unit.lower().removesuffix("s"))
    if table is DURATIONS:
        return f' Did you mean "{short}"?' if short else ""
    return nearest(unit, table)


def _likely(table: Mapping[str, float | Fraction]) -> Iterable[str]:
    """Return the unit that was most likely meant: the one of size 1, else the first."""
    return [unit for unit, size in table.items() if size == 1.0] or list(table)


def duration_s(value: object) -> float:
    """Return the seconds of `90 s` or of `1h30m`: each unit once, largest first. Raises UnitError."""
    return float(exact_s(value))


def exact_s(value: object) -> Fraction:
    """Return seconds exactly as written, for a bound; parsed as by `duration_s`. Raises UnitError."""
    parts = _PART.findall(value) if isinstance(value, str) else []
    if len(parts) < 2 or _PART.sub("", str(value)).strip():
        seconds = exact(value, DURATIONS, "duration", "20 s")
    else:
        sizes = [DURATIONS[unit] for _, unit in parts if unit in DURATIONS]
        if sorted(set(sizes), reverse=True) != sizes:
            raise UnitError(value, "the parts of a duration must go from the largest unit to the smallest, "
                                   "each unit once, such as `1h30m`.")
        try:
            read = (exact(f"{number} {unit}", DURATIONS, "duration", "20 s") for number, unit in parts)
            seconds = sum(read, start=Fraction(0))
        except UnitError as error:
            raise UnitError(value, error.allowed, error.hint) from None
    if seconds > MAX_DURATION_S:
        raise UnitError(value, f"it must be a duration of at most {MAX_DURATION_S} s, which is 292 years.")
    return seconds


def rate_per_s(value: object) -> float:
    """Return operations per second. Raises UnitError."""
    return quantity(value, RATES, "rate", "100/s")


def share(value: object) -> float:
    """Return a fraction from 0 to 1. Raises UnitError outside 0 % to 100 %."""
    return float(exact_share(value))


def exact_share(value: object) -> Fraction:
    """Return a fraction exactly as written, for a bound. Raises UnitError outside 0 % to 100 %."""
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
    """Return the rates at start and end of a stage; equal for a single rate. Raises UnitError."""
    if isinstance(value, str) and ".." in value:
        first, _, last = value.partition("..")
        return rate_per_s(first), rate_per_s(last)
    rate = rate_per_s(value)
    return rate, rate


def counting(noun: str) -> Callable[[object], int]:
    """Return a reader of whole numbers that may be followed by `noun`, as in `20 tweets`."""

    def read(value: object) -> int:
        allowed = f"it must be a whole number of {noun}, such as `20 {noun}`."
        if isinstance(value, int) and numbers.is_number(value) and value >= 0:
            return value
        match = _QUANTITY.match(value) if isinstance(value, str) else None
        if match is None or "." in match.group(1):
            raise UnitError(value, allowed)
        if match.group(2) not in (None, noun, noun.removesuffix("s")):
            raise UnitError(value, allowed, nearest(match.group(2), [noun]))
        try:
            return numbers.parse_int(match.group(1).replace("_", "").replace(" ", ""), 0, numbers.MAX_INT)
        except ValueError:
            raise UnitError(value, f"{allowed[:-1]}, at most {numbers.MAX_INT}.") from None

    return read


def format_duration(seconds: float) -> str:
    """Return `seconds` as written in a scenario: `250 ms`, `20 s`."""
    return f"{seconds * 1e3:g} ms" if 0 < seconds < 1 else f"{seconds:g} s"


def format_share(fraction: float) -> str:
    """Return `fraction` as written in a scenario: `0.5 %`."""
    return f"{fraction * 100:g} %"
