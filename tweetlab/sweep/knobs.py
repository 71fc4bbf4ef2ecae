"""Names of the settings of a scenario, short or full, and their values as a scenario file writes them.

    resolve("push_limit")            -> "policies.fanout.push_limit"
    resolve("mix.home")              -> "workload.mix.home"
    text_of("policies.deadline.request", 2.5) -> "2.5 s"

A key is the path of a value in the scenario file. Its last words are enough where they are unambiguous. Numbers get
the unit of their key: seconds for durations, operations per second for rates, fractions for shares (0.1 is `10 %`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from scenarios import kinds, table, units, vocabulary
from scenarios.kinds import Block, Key, Quantity
from system.kernel import numbers
from system.kernel.errors import WrongInput

NOT_NUMBERS = frozenset({"name", "question", "expect", "faults", "objectives", "sweep", "workload.stages", "workload.mix",
                         "population.follows", "workload.popularity"})
"""Keys that hold text, lists or blocks: settable as a whole in the scenario's own syntax, but no knob with a short name."""

_STAGE = re.compile(r"workload\.stages\.\d+\.(for|rate)$")


@functools.cache
def known() -> dict[str, kinds.Kind]:
    """Return full key -> kind of its value, for every single value of a scenario file except stages and lists."""
    return dict(_leaves(table.SCENARIO, "")) | {f"workload.mix.{route}": kinds.Number() for route in vocabulary.ROUTES}


def _leaves(keys: Iterable[Key], prefix: str) -> list[tuple[str, kinds.Kind]]:
    leaves: list[tuple[str, kinds.Kind]] = []
    for key in keys:
        path = f"{prefix}{key.name}"
        if isinstance(key.kind, Block):
            leaves += _leaves(key.kind.keys(), f"{path}.")
        elif path not in NOT_NUMBERS:
            leaves.append((path, key.kind))
    return leaves


def resolve(key: str) -> str:
    """Return the full key that `key` names. Raises WrongInput for an unknown or ambiguous one, with the candidates."""
    wanted = key.strip().replace("__", ".")
    if wanted in known() or wanted in NOT_NUMBERS or _STAGE.match(wanted):
        return wanted
    matches = sorted(path for path in known() if path.endswith(f".{wanted}"))
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise WrongInput(f"The key {key!r} is ambiguous; write one of {', '.join(matches)}.")
    hint = units.nearest(wanted, known()) or units.nearest(wanted, {path.rpartition(".")[2] for path in known()})
    raise WrongInput(f"The key {key!r} is not known; it must be a key of a scenario file, such as rate, push_limit or "
                     f"policies.retry.attempts (docs/reference/scenario.schema.json lists all).{hint}")


def text_of(path: str, value: object) -> str:
    """Return `value` as a scenario file writes it: a number without a unit gets the unit of its key."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false"}.get(value, "null")  # type: ignore[arg-type]
    text = str(value).strip()
    unit = unit_of(path)
    if not unit or not numbers.is_number(number := _number(text)):
        return text
    return f"{number * 100:.12g} %" if unit == "%" else f"{number:.12g}{'' if unit.startswith('/') else ' '}{unit}"


def unit_of(path: str) -> str:
    """Return the unit that a bare number of this key gets: "s", "/s", "%", "core", or "" for none."""
    if match := _STAGE.match(path):
        return {"for": "s", "rate": "/s"}[match[1]]
    kind = known().get(path)
    if not isinstance(kind, Quantity) or kind.accepts_number:
        return ""
    return re.sub(r"^[\d.\s]+", "", kind.example)


def is_whole(path: str) -> bool:
    """Return whether the key takes whole numbers only."""
    kind = known().get(path)
    return (isinstance(kind, kinds.Number) and kind.whole) or (isinstance(kind, Quantity) and kind.accepts_number)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
