"""How many numbers of a scenario accept NaN or infinity: a row of the bench that needs no lab."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scenarios import kinds, loader, table

BASE = "first_run"  # a scenario that has every block, so that any key can be set in it
NOT_FINITE = ("nan", "inf", "-inf")
OBJECTIVE = "home p99 <= 250 ms after fault within 20 s"


def numeric_keys(block: kinds.Block = table.ROOT, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, a good value as YAML) of every numeric key of a scenario, policies included."""
    for key in block.keys():  # noqa: SIM118 - a field of the block, not a dict
        yield from _of_kind(key.kind, f"{at}{key.name}")


def _of_kind(kind: kinds.Kind, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(kind, kinds.Block):
        yield from numeric_keys(kind, f"{path}.")
    elif isinstance(kind, kinds.ListOf):
        yield from _of_kind(kind.item, f"{path}.0")
    elif isinstance(kind, kinds.Mix):
        yield from ((f"{path}.{route}", "1") for route in kind.words.allowed())
    elif isinstance(kind, kinds.Number):
        yield path, f"{max(1, kind.low):g}"
    elif isinstance(kind, kinds.Quantity):
        yield path, kind.example
    elif isinstance(kind, table.ObjectiveKind):
        yield path, OBJECTIVE


def spellings(good: str, word: str) -> list[str]:
    """Return `word` (nan, inf or -inf) in place of each number of a good value, and as a YAML float."""
    texts = [good[: number.start()] + word + good[number.end() :]
             for number in re.finditer(r"(?<![A-Za-z0-9])[0-9]+(?:\.[0-9]+)?", good)]
    return [*texts, word.replace("nan", ".nan").replace("inf", ".inf")]


def accepted() -> list[str]:
    """Return each non-finite `key=value` that is accepted, or refused without naming its key."""
    wrong = []
    for path, good in numeric_keys():
        for word in NOT_FINITE:
            for value in spellings(good, word):
                errors = loader.check(BASE, [f"{path}={value}"]).errors
                if not any(f"`{path}` is" in error for error in errors):
                    wrong.append(f"{path}={value}")
    return wrong
