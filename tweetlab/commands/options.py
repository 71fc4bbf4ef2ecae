"""Numbers and durations on the command line: each error names the option, the value and the bound."""

from __future__ import annotations

from collections.abc import Callable

from scenarios import units
from system.kernel import numbers
from system.kernel.errors import WrongInput


def whole(option: str, low: int, high: int) -> Callable[[object], int]:
    """Return a parser of integers from `low` to `high`, for Typer's `parser`; it also parses the default.

    The parser raises WrongInput that names `option`.
    """

    def read(value: object) -> int:
        try:
            return numbers.parse_int(str(value), low, high)
        except ValueError:
            raise WrongInput(f"{option} is {numbers.short_repr(value)}; it must be a whole number from {low} to "
                             f"{high}.") from None

    return read


def duration_s(option: str, text: str) -> float:
    """Return the seconds of a duration such as `30s`, `5m` or `1h30m`. Raises WrongInput."""
    try:
        return units.duration_s(text)
    except units.UnitError as problem:
        raise WrongInput(f"{option} is {problem}") from None
