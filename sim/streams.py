"""Random numbers by name instead of by turn: every draw is a function of (seed, operation, step).

A job has a key; its n-th draw is a hash of (key, n), and the jobs and events that it starts get keys of their own
from it. So no draw depends on what other operations do: two engines, or two scenarios that differ in one policy,
draw the same numbers for everything else (common random numbers).

The hash is SplitMix64 (Steele, Lea, Flood 2014). A `Law` turns a uniform number into a value by the inverse of its
distribution function. Functions on floats and whole numbers alone are also what the compiled engine compiles.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MASK = (1 << 64) - 1
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
NS = 1_000_000_000
"""Nanoseconds in a second: simulated time is a whole number of nanoseconds in both engines."""

CONSTANT, EXPONENTIAL, LOGNORMAL, TABLE = 0, 1, 2, 3
"""Kinds of law."""


def key_of(seed: int, name: str) -> int:
    """Return the key of the stream `name`."""
    return mixed(mixed(0, seed), zlib.crc32(name.encode()))


def mixed(key: int, number: int) -> int:
    """Return the hash of (key, number), 63 bits. `number`: 0 or more."""
    z = (key + (number + 1) * GAMMA) & MASK
    z = ((z ^ (z >> 30)) * FIRST) & MASK
    z = ((z ^ (z >> 27)) * SECOND) & MASK
    return (z ^ (z >> 31)) >> 1


def uniform(key: int, number: int) -> float:
    """Return draw `number` of the stream `key`: above 0, below 1."""
    return ((mixed(key, number) >> 10) + 0.5) * 1.1102230246251565e-16


def ns(seconds: float) -> int:
    """Return `seconds`, 0 or more, as whole nanoseconds."""
    return int(seconds * 1e9 + 0.5)


def normal(u: float) -> float:
    """Return the quantile `u` of the standard normal distribution (Wichura 1988, AS 241: relative error 1e-16)."""
    q = u - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        num = (((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r
                   + 45921.953931549871457) * r + 13731.693765509461125) * r + 1971.5909503065514427) * r
                + 133.14166789178437745) * r + 3.387132872796366608) * q
        den = ((((((5226.495278852545925 * r + 28729.085735721942674) * r + 39307.89580009271061) * r
                  + 21213.794301586595867) * r + 5394.1960214247511077) * r + 687.1870074920579083) * r
               + 42.313330701600911252) * r + 1.0
        return num / den
    r = math.sqrt(-math.log(u if q < 0.0 else 1.0 - u))
    if r <= 5.0:
        r -= 1.6
        num = (((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r
                   + 1.27045825245236838258) * r + 3.64784832476320460504) * r + 5.7694972214606914055) * r
                + 4.6303378461565452959) * r + 1.42343711074968357734)
        den = (((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r
                   + 0.14810397642748007459) * r + 0.68976733498510000455) * r + 1.6763848301838038494) * r
                + 2.05319162663775882187) * r + 1.0)
    else:
        r -= 5.0
        num = (((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r + 0.0012426609473880784386) * r
                   + 0.026532189526576123093) * r + 0.29656057182850489123) * r + 1.7848265399172913358) * r
                + 5.4637849111641143699) * r + 6.6579046435011037772)
        den = (((((((2.04426310338993978564e-15 * r + 1.4215117583164458887e-7) * r + 1.8463183175100546818e-5) * r
                   + 7.868691311456132591e-4) * r + 0.0148753612908506148525) * r + 0.13692988092273580531) * r
                + 0.59983220655588793769) * r + 1.0)
    return -num / den if q < 0.0 else num / den


def between(low: float, high: float, part: float) -> float:
    """Return the value `part` of the way from `low` to `high`."""
    return low + (high - low) * part


@dataclass(frozen=True)
class Law:
    """A distribution: its quantile function.

    `kind`: constant `a`, exponential with mean `a`, lognormal with parameters `a` and `b` of its logarithm, or a `table` of
    quantiles at even steps from 0 to 1.
    """

    kind: int
    a: float = 0.0
    b: float = 0.0
    table: tuple[float, ...] = ()

    def __call__(self, u: float) -> float:
        """Return quantile `u`, 0 < u < 1."""
        if self.kind == LOGNORMAL:
            return math.exp(self.a + self.b * normal(u))
        if self.kind == EXPONENTIAL:
            return -self.a * math.log(1.0 - u)
        if self.kind == CONSTANT:
            return self.a
        place = u * (len(self.table) - 1)
        number = int(place)
        return between(self.table[number], self.table[number + 1], place - number)


def constant(a: float) -> Law:
    """Return the law of a constant."""
    return Law(CONSTANT, a)


def exponential(mean: float) -> Law:
    """Return the exponential law."""
    return Law(EXPONENTIAL, mean)


def lognormal(cv: float, mean: float = 1.0) -> Law:
    """Return the lognormal law with coefficient of variation `cv`: never negative, with a tail."""
    variance = math.log(1.0 + cv * cv)
    return Law(LOGNORMAL, math.log(mean) - variance / 2.0, math.sqrt(variance))


def quantiles(values: tuple[float, ...]) -> Law:
    """Return the law with these quantiles at even steps from 0 to 1, linear between them; one value: a constant."""
    return constant(values[0]) if len(values) == 1 else Law(TABLE, table=values)


class Stream:
    """Draws of one law in turn, for what happens in a fixed order: background tasks, flushes of a device."""

    def __init__(self, seed: int, name: str, law: Law) -> None:
        self.key, self.law, self.number = key_of(seed, name), law, 0

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        self.number += 1
        return self.law(uniform(self.key, self.number - 1))
