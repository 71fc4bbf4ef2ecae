"""Injects a scenario's faults on the run's clock, each with its probes and its entry in the undo log.

    choose target -> log the plan, fsync -> inject -> effect probe -> (hold) -> undo -> recovery probe

Every planned fault is undone before `run` returns or raises, whatever happens in between, even Ctrl-C.
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
CHOOSE_BEFORE_S = 1.5  # choosing a target queries every node and fsyncs a file: 1 s on a busy machine
STOPPED = "the run was stopped before the fault was injected"
NS = 1_000_000_000
FAULT_ERRORS = (LabError, RedisError, OSError, TimeoutError)


async def run(faults: Sequence[spec.Fault], lab: Lab, start_monotonic_ns: int, state: Path, *,
              stop: asyncio.Event | None = None, table: Mapping[str, Fault] | None = None,
              load_s: float = math.inf) -> list[FaultRecord]:
    """Inject all `faults`, each `at_s` after `start_monotonic_ns`, and return their records by start time.

    `state`: the lab's data directory, which holds the undo log. `load_s`: seconds from the start to the end
    of the load, after which nothing refills a cache. `table`: faults by kind; None for FAULTS.

    First undoes the faults that a dead runner left active. A watchdog process runs as long as this call.
    Returns when every fault has recovered or used up its recovery time, or soon after `stop` is set: then
    active faults are undone, and those not yet started are not injected. Cancellation also undoes active
    faults. A fault that cannot be injected or takes no effect gets a `void` record; the others continue.
    """
    log = undo.UndoLog(undo.path_of(state))
    known = FAULTS if table is None else table
    await undo.sweep(lab, log, known)
    if not faults:
        return []
    stopped = stop or asyncio.Event()
    injections = [Injection(fault, known[fault.kind], lab, start_monotonic_ns, log, stopped, load_s)
                  for fault in faults]
    with watchdog.guard(log, lab):
        async with asyncio.TaskGroup() as group:
            for injection in injections:
                group.create_task(injection.run())
    return sorted((injection.record() for injection in injections), key=lambda record: record.start_ns)


@dataclass
class Injection:
    """One fault of the scenario and the state of its steps."""

    planned: spec.Fault
    fault: Fault
    lab: Lab
    load_start_ns: int
    log: undo.UndoLog
    stopped: asyncio.Event
    load_s: float = math.inf
    target_name: str = ""
    void: str = ""
    times_ns: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def start_ns(self) -> int:
        """When the scenario schedules the fault, CLOCK_MONOTONIC."""
        return self.load_start_ns + int(self.planned.at_s * NS)

    @property
    def within_s(self) -> float:
        """Longest allowed recovery in seconds: as the scenario sets it, else the default of the kind."""
        own = self.planned.recovers_within_s
        return self.fault.recovers_within_s if own is None else own

    async def run(self) -> None:
        """Run all steps. An expected error makes the record void; it never ends the run."""
        await self._until(self.start_ns - int(CHOOSE_BEFORE_S * NS))
        if self.stopped.is_set():
            self.void = STOPPED
            return
        try:
            target = replace(await self.fault.choose_target(self.lab, self.planned.target), strength=self.planned.strength)
        except FAULT_ERRORS as problem:
            self.void = f"no target could be chosen: {problem}"
            return
        self.target_name = target.node
        entry = self.log.plan(self.planned.kind, target)
        try:
            await self._until(self.start_ns)
            await self._inject(target, entry)
        except FAULT_ERRORS as problem:
            self.void = f"could not be injected: {problem}"
        finally:
            await asyncio.shield(self._undo(target, entry))
        await self._recover(target, entry)

    async def _inject(self, target: Target, entry: str) -> None:
        if self.stopped.is_set():
            self.void = STOPPED
            return
        self.times_ns["injected"] = time.monotonic_ns()
        self.facts.update(await self.fault.inject(self.lab, target))
        self.log.mark(entry, undo.INJECTED)
        if not await self._probe("effect", self.fault.has_taken_effect, target, EFFECT_WITHIN_S, PROBE_EVERY_S):
            self.void = f"took no effect within {EFFECT_WITHIN_S:g} s"
        elif self.fault.held and self.planned.for_s:
            await self._until(self.times_ns["injected"] + int(self.planned.for_s * NS))

    async def _undo(self, target: Target, entry: str) -> None:
        try:
            await self.fault.undo(self.lab, target)
        except FAULT_ERRORS as problem:
            self.void = self.void or f"could not be undone: {problem}; the next start undoes what {self.log.path} lists"
            return
        self.times_ns["undone"] = time.monotonic_ns()
        self.log.mark(entry, undo.UNDONE)

    async def _recover(self, target: Target, entry: str) -> None:
        fault = self.fault
        if self.void:
            return
        if await self._probe("recovered", fault.has_recovered, target, self._observe_s(), fault.probe_every_s):
            self.log.mark(entry, undo.RECOVERED)

    def _observe_s(self) -> float:
        """Return for how many seconds from now the recovery is probed; 0 where it can no longer happen."""
        kind = vocabulary.FAULT_KINDS.get(self.planned.kind)
        if kind is None or not kind.needs_load:
            return self.within_s
        return max(0.0, min(self.within_s, self.load_s - (time.monotonic_ns() - self.load_start_ns) / NS))

    async def _probe(self, name: str, probe: Callable[[Lab, Target], Awaitable[bool]], target: Target, within_s: float,
                     every_s: float) -> bool:
        """Run a probe until it succeeds and record the time; False where it does not within `within_s`."""
        deadline_ns = time.monotonic_ns() + int(within_s * NS)
        while time.monotonic_ns() < deadline_ns and not (name == "recovered" and self.stopped.is_set()):
            with contextlib.suppress(*FAULT_ERRORS):
                if await probe(self.lab, target):
                    self.times_ns[name] = time.monotonic_ns()
                    return True
            await asyncio.sleep(every_s)
        if name == "recovered":
            self.times_ns["observed_until"] = min(deadline_ns, time.monotonic_ns())
        return False

    def record(self) -> FaultRecord:
        """Return the record of the fault so far."""
        void = self.void or ("" if "effect" in self.times_ns else "the run ended before it took effect")
        return FaultRecord(
            self.planned.kind, self.target_name or self.planned.target, self.start_ns, self.times_ns.get("injected"),
            self.times_ns.get("effect"), self.times_ns.get("undone"), self.times_ns.get("recovered"),
            self.fault.held, void, self.facts, self.planned.for_s, self.within_s,
            self.times_ns.get("observed_until", self.times_ns.get("recovered")))

    async def _until(self, at_ns: int) -> None:
        """Wait until a monotonic time has passed or the run is stopped."""
        while (left_ns := at_ns - time.monotonic_ns()) > 0 and not self.stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), left_ns / NS)
