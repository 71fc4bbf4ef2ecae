"""Keeps the worker number of this process leased, so that no other process generates the same ids."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets

from system.kernel import background, clock, ids
from system.kernel.errors import Conflict, LabError
from system.ports import LeaseStore
from system.services.tweets.handlers import IdSource

TTL_S = 10.0         # seconds a lease lasts; the number of a process that dies is blocked for as long
RENEW_EVERY_S = 2.0  # leaves three more tries before the last second, in which no id is issued

_log = logging.getLogger("tweetlab")


class Leasing:
    """A task that acquires and renews the lease. The number is released at the end."""

    def __init__(self, leases: LeaseStore, source: IdSource, instance: str, time_: clock.Clock) -> None:
        self._leases, self._source, self._clock = leases, source, time_
        self._holder = f"{instance}-{os.getpid()}-{secrets.token_hex(4)}"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Acquire a number, then renew it in the background. Raises what the store raises."""
        await self._acquire()
        self._task = asyncio.ensure_future(background.run_forever(self._run, "lease"))

    async def stop(self) -> None:
        """Stop renewing and release the number."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        generator, self._source.generator = self._source.generator, None
        if generator is not None:
            try:
                await self._leases.release(self._holder, generator.lease)
            except LabError as problem:
                _log.warning("worker number %d was not released: %s", generator.lease.worker, problem)

    async def _acquire(self) -> None:
        self._source.generator = ids.Generator(await self._leases.acquire(self._holder, TTL_S), self._clock)

    async def renew(self) -> None:
        """Renew once; if the number was leased to another process, acquire a new one."""
        generator = self._source.generator
        if generator is None:
            await self._acquire()
            return
        try:
            generator.renew(await self._leases.renew(self._holder, generator.lease, TTL_S))
        except Conflict:
            _log.warning("worker number %d was leased to another holder; acquiring a new one", generator.lease.worker)
            self._source.generator = None
            await self._acquire()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(RENEW_EVERY_S)
            try:
                await self.renew()
            except LabError as problem:
                _log.warning("the lease of the worker number was not renewed: %s", problem)
