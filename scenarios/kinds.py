"""The kinds of value that a scenario key may have: each parses a YAML value and provides its JSON Schema.

A kind refuses an invalid value with `Where.refuse`: the error names file, key, value, what is allowed and the
nearest known word. `table` assigns the kinds to keys.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, TypeVar

from scenarios import units
from system.kernel import numbers
from system.kernel.errors import WrongInput

T = TypeVar("T")
REQUIRED = object()
"""Default of a required key."""


class Refused(WrongInput):
    """A scenario that cannot be run. `problems`: one text per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read_all(readers: Iterable[Callable[[], T]]) -> list[T]:
    """Call every reader and return the results. Raises Refused with all problems."""
    values: list[T] = []
    problems: list[str] = []
    for reader in readers:
        try:
            values.append(reader())
        except Refused as error:
            problems += error.problems
    if problems:
        raise Refused(problems)
    return values


@dataclass(frozen=True)
class Where:
    """The position being read: the file, and the path of keys to the value."""

    file: str
    path: str = ""

    def key(self, name: str | int) -> Where:
        """Return the position one key (or list index) deeper."""
        return Where(self.file, f"{self.path}.{name}" if self.path else str(name))

    def refuse(self, value: object, allowed: str, fix: str = "") -> NoReturn:
        """Raise Refused for `value` at this position."""
        place = f"{self.file}: `{self.path or 'the file'}`"
        raise Refused([f"{place} is {numbers.short_repr(value)}; {allowed}" + fix])


class Kind(Protocol):
    """The type of a key's value."""

    def read(self, value: Any, where: Where) -> Any:
        """Return the parsed value in SI units. Raises WrongInput."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value as it is written."""
        ...


@dataclass(frozen=True)
class Key:
    """A key of a block: its name, the kind of its value, one line of help, and its default."""

    name: str
    kind: Kind
    help: str
    default: Any = REQUIRED


@dataclass(frozen=True)
class Text:
    """A non-empty line of text."""

    def read(self, value: Any, where: Where) -> str:
        if not isinstance(value, str) or not value.strip():
            where.refuse(value, "it must be text.")
        if any("\ud800" <= char <= "\udfff" for char in value):
            where.refuse(value, "it contains half of a surrogate pair; write the complete character.")
        return " ".join(value.split())

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class Word:
    """One of a set of words. `refused`: known words that are not allowed -> the reason."""

    allowed: Callable[[], Sequence[str]]
    refused: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: Any, where: Where) -> str:
        words = self.allowed()
        if value in self.refused:
            where.refuse(value, f"{self.refused[value]}.")
        if not isinstance(value, str) or value not in words:
            where.refuse(value, f"it must be one of {', '.join(words)}.", units.nearest(value, words))
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.allowed())}


@dataclass(frozen=True)
class Number:
    """A number without unit, from `low` to `high`; `whole` refuses fractions."""

    low: float = 0
    high: float | None = None
    whole: bool = False

    def read(self, value: Any, where: Where) -> Any:
        noun = "whole number" if self.whole else "number"
        bound = f"it must be a {noun} from {self.low}" + (f" to {self.high}." if self.high is not None else " up.")
        is_number = numbers.is_number(value)
        if isinstance(value, float | int) and not isinstance(value, bool) and not is_number:
            where.refuse(value, bound, f" It must be finite, at most {numbers.MAX_INT} where whole.")
        fits = is_number and not (self.whole and isinstance(value, float))
        if not fits or value < self.low or (self.high is not None and value > self.high):
            where.refuse(value, bound)
        return value if self.whole else float(value)

    def schema(self) -> dict[str, Any]:
        top = {} if self.high is None else {"maximum": self.high}
        return {"type": "integer" if self.whole else "number", "minimum": self.low, **top}


@dataclass(frozen=True)
class Flag:
    """`true` or `false`."""

    def read(self, value: Any, where: Where) -> bool:
        if not isinstance(value, bool):
            where.refuse(value, "it must be `true` or `false`.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, parsed by a function of `units`; `positive` refuses zero."""

    reader: Callable[[object], Any]
    example: str
    positive: bool = False
    accepts_number: bool = False

    def read(self, value: Any, where: Where) -> Any:
        try:
            amount = self.reader(value)
        except units.UnitError as error:
            where.refuse(value, error.allowed, error.hint)
        if self.positive and not (max(amount) if isinstance(amount, tuple) else amount) > 0:
            where.refuse(value, f"it must be above 0, such as `{self.example}`.")
        return amount

    def schema(self) -> dict[str, Any]:
        text = {"type": "string", "pattern": r"\d", "examples": [self.example]}
        return {"anyOf": [text, {"type": "integer", "minimum": 0}]} if self.accepts_number else text


@dataclass(frozen=True)
class Block:
    """A mapping with known keys; `build` constructs the value from the parsed keys."""

    keys: Callable[[], Sequence[Key]]
    build: Callable[..., Any] = dict

    def read(self, value: Any, where: Where) -> Any:
        keys = {key.name: key for key in self.keys()}
        if not isinstance(value, dict):
            where.refuse(value, f"it must be a block with {', '.join(keys)}.")
        names = [*(name for name in value if name not in keys), *keys]
        read = read_all(functools.partial(_read_key, keys, value, name, where) for name in names)
        return self.build(**dict(read))

    def schema(self) -> dict[str, Any]:
        keys = self.keys()
        properties = {key.name: {**key.kind.schema(), "description": key.help} for key in keys}
        required = [key.name for key in keys if key.default is REQUIRED]
        return {"type": "object", "properties": properties, "additionalProperties": False,
                **({"required": required} if required else {})}


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind, as a tuple; `least`: minimum length."""

    item: Kind
    least: int = 0

    def read(self, value: Any, where: Where) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < self.least:
            where.refuse(value, "it must be a list" + (f" of at least {self.least}." if self.least else "."))
        read = self.item.read
        return tuple(read_all(functools.partial(read, item, where.key(n)) for n, item in enumerate(value)))

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(), **({"minItems": self.least} if self.least else {})}


@dataclass(frozen=True)
class Mix:
    """Word -> weight (0 or more), normalized to shares that sum to 1."""

    words: Word

    def read(self, value: Any, where: Where) -> dict[str, float]:
        if not isinstance(value, dict) or not value:
            where.refuse(value, f"it must map routes to weights, such as {{home: 60, post: 10}} "
                                f"(routes: {', '.join(self.words.allowed())}).")
        read_all(functools.partial(self.words.read, word, where.key(word)) for word in value)
        read = Number().read
        weights = read_all(functools.partial(read, value[word], where.key(word)) for word in value)
        total = sum(weights)
        if total <= 0:
            where.refuse(value, "at least one weight must be above 0.")
        return {word: weight / total for word, weight in zip(value, weights) if weight > 0}

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "minProperties": 1, "additionalProperties": False,
                "properties": {word: {"type": "number", "minimum": 0} for word in self.words.allowed()}}


def _read_key(keys: Mapping[str, Key], value: Mapping[str, Any], name: str, where: Where) -> tuple[str, Any]:
    """Return one key of a block as (argument name, value); the value is the parsed one or the default."""
    if name not in keys:
        where.key(name).refuse(value[name], f"there is no such key; allowed here: {', '.join(keys)}.",
                               units.nearest(name, keys))
    key = keys[name]
    if name in value:
        return _python(name), key.kind.read(value[name], where.key(name))
    if key.default is REQUIRED:
        where.key(name).refuse(None, f"it is required: {key.help}.")
    return _python(name), key.default


def _python(name: str) -> str:
    """Return the keyword argument of a key: `for` and `from` are reserved words of Python."""
    return name + "_" if name in ("for", "from") else name
