"""Runs a scenario's faults at their time on the run's clock, each with its probes and its entry in the undo log.

    aim -> planned, fsynced -> inject -> effect probe -> (hold) -> undo -> recovery probe

Whatever happens in between, Ctrl-C included, a fault that was planned is undone before this room is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from chaos import undo, watchdog
from chaos.fault_records import FaultRecord
from chaos.faults.table import FAULTS
from chaos.faults.targets import Fault, Lab, Target
from scenarios import spec, vocabulary
from system.kernel.errors import LabError

EFFECT_WITHIN_S = 5.0
PROBE_EVERY_S = 0.05  # resolution of effect times
AIM_BEFORE_S = 1.5  # aiming asks every node and syncs a file: a second on a machine under full load
STOPPED = "the run was stopped before it began"
NS = 1_000_000_000
TROUBLE = (LabError, RedisError, OSError, TimeoutError)


async def run(faults: Sequence[spec.Fault], lab: Lab, start_monotonic_ns: int, state: Path, *,
              stop: asyncio.Event | None = None, table: Mapping[str, Fault] | None = None,
              load_s: float = math.inf) -> list[FaultRecord]:
    """Inject all `faults`, `at_s` after `start_monotonic_ns` each, and return their records by start.

    `state`: the lab's own folder, where the undo log lies. Sweeps first what a dead runner left there; a
    watchdog lives as long as this call. Returns when the last fault is over, or soon after `stop` is set:
    what stands is undone then, what was not started is not injected. A fault that cannot be injected or does
    not bite has a `void` record; the others go on. A cancellation undoes too. `load_s`: seconds from the
    start to the end of the load, after which no cache fills.
    """
    log = undo.UndoLog(undo.path_of(state))
    known = FAULTS if table is None else table
    await undo.sweep(lab, log, known)
    if not faults:
        return []
    stopped = stop or asyncio.Event()
    strikes = [Injection(fault, known[fault.kind], lab, start_monotonic_ns, log, stopped, load_s)
               for fault in faults]
    with watchdog.guard(log, lab):
        async with asyncio.TaskGroup() as group:
            for strike in strikes:
                group.create_task(strike.run())
    return sorted((strike.record() for strike in strikes), key=lambda record: record.start_ns)


@dataclass
class Injection:
    """One fault on its way through its steps."""

    wanted: spec.Fault
    fault: Fault
    lab: Lab
    begin_ns: int
    log: undo.UndoLog
    stopped: asyncio.Event
    load_s: float = math.inf
    target: str = ""
    void: str = ""
    times_ns: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def start_ns(self) -> int:
        """When the scenario wants it, CLOCK_MONOTONIC."""
        return self.begin_ns + int(self.wanted.at_s * NS)

    @property
    def within_s(self) -> float:
        """How long its recovery may take, in seconds."""
        own = self.wanted.recovers_within_s
        return self.fault.recovers_within_s if own is None else own

    async def run(self) -> None:
        """Go through all steps; trouble makes the record void, never ends the run."""
        await self._until(self.start_ns - int(AIM_BEFORE_S * NS))
        if self.stopped.is_set():
            self.void = STOPPED
            return
        try:
            aim = replace(await self.fault.aim(self.lab, self.wanted.target), asked=self.wanted.asked)
        except TROUBLE as problem:
            self.void = f"could not be aimed: {problem}"
            return
        self.target = aim.node
        entry = self.log.plan(self.wanted.kind, aim)
        try:
            await self._until(self.start_ns)
            await self._strike(aim, entry)
        except TROUBLE as problem:
            self.void = f"could not be injected: {problem}"
        finally:
            await asyncio.shield(self._undo(aim, entry))
        await self._recover(aim, entry)

    async def _strike(self, aim: Target, entry: str) -> None:
        if self.stopped.is_set():
            self.void = STOPPED
            return
        self.times_ns["injected"] = time.monotonic_ns()
        self.facts.update(await self.fault.inject(self.lab, aim))
        self.log.mark(entry, undo.INJECTED)
        if not await self._probe("effect", self.fault.bites, aim, EFFECT_WITHIN_S, PROBE_EVERY_S):
            self.void = f"did not bite within {EFFECT_WITHIN_S:g} s"
        elif self.fault.held and self.wanted.for_s:
            await self._until(self.times_ns["injected"] + int(self.wanted.for_s * NS))

    async def _undo(self, aim: Target, entry: str) -> None:
        try:
            await self.fault.undo(self.lab, aim)
        except TROUBLE as problem:
            self.void = self.void or f"could not be undone: {problem}; the next start sweeps {self.log.path}"
            return
        self.times_ns["undone"] = time.monotonic_ns()
        self.log.mark(entry, undo.UNDONE)

    async def _recover(self, aim: Target, entry: str) -> None:
        fault = self.fault
        if self.void:
            return
        if await self._probe("recovered", fault.gone, aim, self._observe_s(), fault.look_every_s):
            self.log.mark(entry, undo.GONE)

    def _observe_s(self) -> float:
        """Return how many seconds from now the recovery is observed; 0 where it cannot happen any more."""
        kind = vocabulary.FAULT_KINDS.get(self.wanted.kind)
        if kind is None or not kind.needs_load:
            return self.within_s
        return max(0.0, min(self.within_s, self.load_s - (time.monotonic_ns() - self.begin_ns) / NS))

    async def _probe(self, name: str, holds: Callable[[Lab, Target], Awaitable[bool]], aim: Target, within_s: float,
                     every_s: float) -> bool:
        """Ask a probe until it holds and note when; False where it does not within `within_s`."""
        deadline_ns = time.monotonic_ns() + int(within_s * NS)
        while time.monotonic_ns() < deadline_ns and not (name == "recovered" and self.stopped.is_set()):
            with contextlib.suppress(*TROUBLE):
                if await holds(self.lab, aim):
                    self.times_ns[name] = time.monotonic_ns()
                    return True
            await asyncio.sleep(every_s)
        if name == "recovered":
            self.times_ns["observed_until"] = min(deadline_ns, time.monotonic_ns())
        return False

    def record(self) -> FaultRecord:
        """Return what is known of the fault so far."""
        void = self.void or ("" if "effect" in self.times_ns else "the run ended before it bit")
        return FaultRecord(self.wanted.kind, self.target or self.wanted.target, self.start_ns, self.times_ns.get("injected"),
                           self.times_ns.get("effect"), self.times_ns.get("undone"), self.times_ns.get("recovered"),
                           self.fault.held, void, self.facts, self.wanted.for_s, self.within_s,
                           self.times_ns.get("observed_until", self.times_ns.get("recovered")))

    async def _until(self, at_ns: int) -> None:
        """Return at a monotonic time, at once where it has passed, or when the run is stopped."""
        while (left_ns := at_ns - time.monotonic_ns()) > 0 and not self.stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), left_ns / NS)
