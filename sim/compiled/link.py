"""Translates programs into operations of the kernel, and every name in them into a number.

A step, or a name, that this engine does not have raises UnknownStep here, before the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sim.compiled import kernel, model
from sim.compiled.layout import *
from sim.jobs import Bindings, Chance, Numbers
from sim.program import (
    Acquire,
    Branch,
    Call,
    Cpu,
    Delay,
    Each,
    Effect,
    Fail,
    Flush,
    Loop,
    Once,
    Parallel,
    Publish,
    Release,
    Step,
    UnknownStep,
)  # fmt: skip
from sim.streams import Law

STAMPS = {
    "sent": (C_SENT, 0), "arrives": (C_ARRIVED, 0), "enters_gateway": (C_GATEWAY, 1), "leaves_gateway": (C_GATEWAY, 2),
    "enters_service": (C_SERVICE, 1), "leaves_service": (C_SERVICE, 2), "enters_stores": (C_STORE, 1),
    "leaves_stores": (C_STORE, 2), "journey_ends": (0, 3),
}  # fmt: skip
"""Effect -> (column of the context, 0: = now, 1: = -now, 2: += now, 3: all three times inside = 0)."""


class Linker:
    """Collects the code of all programs.

    `numbers`: table of bindings -> name -> row of the object, or number of a unit of work. `slots`: pool of an instance ->
    (number of its fleet, number of the slot).
    """

    def __init__(self, bindings: Bindings, numbers: dict[str, dict[str, int]], slots: dict[str, tuple[int, int]]) -> None:
        self.bindings, self.numbers, self.slots = bindings, numbers, slots
        self.code: list[list[int]] = []
        self.shares: list[float] = []
        self.laws: dict[Law, int] = {}

    def program(self, steps: tuple[Step, ...]) -> int:
        """Add a program; return where its code starts."""
        nested: list[tuple[int, int, tuple[Step, ...]]] = []
        start = len(self.code)
        self._steps(steps, nested)
        self._add(OP_END)
        for at, column, body in nested:
            self.code[at][column] = self.program(body)
        return start

    def law(self, law: Law) -> int:
        """Return the number of a law."""
        return self.laws.setdefault(law, len(self.laws))

    def tables(self) -> tuple[Any, Any, Any]:
        """Return code, int64 (n, OPERANDS), shares, float64 (n,), and laws, float64 (laws, width)."""
        width = 4 + max((len(law.table) for law in self.laws), default=0) + 1
        laws = np.zeros((max(len(self.laws), 1), width))
        for law, number in self.laws.items():
            laws[number, :4] = law.kind, law.a, law.b, len(law.table)
            laws[number, 4 : 4 + len(law.table)] = law.table
        return np.asarray(self.code, np.int64).reshape(-1, OPERANDS), np.asarray(self.shares), laws

    def _add(self, op: int, *operands: int, share: float = 0.0) -> int:
        """Add an operation; return its place."""
        row = [op, *operands]
        self.code.append([*row, *[0] * (OPERANDS - 1 - len(row)), int(op in TRACED_AS)])
        self.shares.append(share)
        return len(self.code) - 1

    def _number(self, table: str, name: str) -> int:
        known = self.numbers.get(table, {})
        if name not in known:
            raise UnknownStep(f"The compiled engine has no {table} named `{name}`; known: {', '.join(sorted(known)) or 'none'}.")
        return known[name]

    def _steps(self, steps: tuple[Step, ...], nested: list[tuple[int, int, tuple[Step, ...]]]) -> None:
        for step in steps:
            match step:
                case Cpu(node, unit, size, share):
                    place = -1 - model.FLEET[node] if node in self.bindings.fleets else self._number("nodes", node)
                    number = self._named(model.SIZES, size) if size else 0
                    self._add(OP_CPU, place, self._number("units", f"{node}.{unit}"), number, share=share)
                case Delay(name):
                    self._add(OP_DELAY, self.law(self.bindings.delays[name]))
                case Effect(name):
                    self._add(OP_EFFECT, self._effect(name))
                case Acquire(name) | Release(name):
                    self._add(OP_ACQUIRE if isinstance(step, Acquire) else OP_RELEASE, *self._pool(name))
                case Flush(name):
                    self._add(OP_FLUSH, self._number("devices", name))
                case Publish(name):
                    self._add(OP_PUBLISH, self._number("topics", name))
                case Fail(status):
                    self._add(OP_FAIL, status)
                case Branch(when, then, otherwise):
                    branch = self._add(OP_BRANCH, self._predicate(when))
                    self._steps(then, nested)
                    jump = self._add(OP_JUMP)
                    self.code[branch][2] = len(self.code)
                    self._steps(otherwise, nested)
                    self.code[jump][1] = len(self.code)
                case Call(target, body, idempotent):
                    guard = self._number("guards", target)
                    self._add(OP_CALL, guard, int(idempotent))
                    self._steps(body, nested)
                    self._add(OP_RETURNED, guard)
                case Each(items, body, need):
                    number, count = self._items(items)
                    nested.append((self._add(OP_EACH, number, 0, need, count), 2, body))
                case Parallel(bodies, need):
                    first = len(self.code) + 1
                    self._add(OP_PARALLEL, first, len(bodies), need)
                    # the places of the bodies: data, jumped over by the parent, which continues after them
                    places = [self._add(OP_JUMP) for _ in bodies]
                    for at, body in zip(places, bodies, strict=True):
                        nested.append((at, 1, body))
                    self.code[first - 1][5] = len(self.code)
                case Loop(items, body):
                    number, count = self._loop(items)
                    self._add(OP_LOOP, number, count)
                    start = self._add(OP_NEXT, 0, number)
                    self._steps(body, nested)
                    self._add(OP_JUMP, start)
                    self.code[start][1] = len(self.code)
                case Once(key, body):
                    once = self._add(OP_ONCE, *self._key(key))
                    self._steps(body, nested)
                    self._add(OP_LANDED)
                    self.code[once][2] = len(self.code)
                case _:
                    raise UnknownStep(f"{step!r} is not a step that the compiled engine knows.")

    def _named(self, table: dict[str, int], name: str) -> int:
        if name not in table:
            raise UnknownStep(f"The compiled engine has nothing named `{name}` here; known: {', '.join(sorted(table))}.")
        return table[name]

    def _effect(self, name: str) -> int:
        if name == "published":
            return kernel.PUBLISHED
        if name in STAMPS:
            column, how = STAMPS[name]
            return kernel.STAMPS + 4 * column + how
        return self._named(model.EFFECTS_BY_NAME, name)

    def _predicate(self, name: str) -> int:
        bound: Callable[..., bool] | Chance | None = self.bindings.predicates.get(name)
        if isinstance(bound, Chance):
            return kernel.CHANCES + round(bound.probability * 1e6)
        return self._named(model.PREDICATES, name)

    def _items(self, name: str) -> tuple[int, int]:
        bound = self.bindings.items.get(name)
        return (kernel.NUMBERS, bound.count) if isinstance(bound, Numbers) else (self._named(model.ITEMS, name), 0)

    def _loop(self, name: str) -> tuple[int, int]:
        bound = self.bindings.items.get(name)
        return (kernel.NUMBERS, bound.count) if isinstance(bound, Numbers) else (self._named({"chunks": 1}, name), 0)

    def _key(self, name: str) -> tuple[int, int, int]:
        if name == "list":
            return kernel.LIST_KEY, 0, 0
        if name == "index_view":
            return kernel.VIEW_KEY, 0, model.SEARCH
        service, _, what = name.partition(".")
        if what == "privacy" and service in model.FLEET:
            return kernel.PRIVACY_KEY, 0, model.FLEET[service]
        if name == ANY:
            return kernel.ONE_KEY, 0, 0
        raise UnknownStep(f"The compiled engine has no key named `{name}`; known: list, index_view, <service>.privacy.")

    def _pool(self, name: str) -> tuple[int, ...]:
        service = name.removesuffix(".seat")
        if name.endswith(".seat") and service in self.bindings.fleets:
            return SEAT, model.FLEET[service]
        if name in self.slots:
            fleet, slot = self.slots[name]
            return SLOT, fleet, slot
        return PLAIN, self._number("pools", name)


ANY = "any"
"""A key that all jobs share, for tests."""
