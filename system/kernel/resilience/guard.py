"""Protects a process from one dependency: a bulkhead, a circuit breaker, and metrics of the calls.

    wait for a slot (bulkhead) -> check the breaker -> the call -> record the outcome

The bulkhead keeps a slow dependency from blocking every task of the process. After consecutive failures the
breaker fails calls immediately, for `open_s`. Both raise errors with `definite=True`: nothing was sent. A
guard belongs to one process and one event loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

from system.kernel.errors import LabError, Overloaded, StoreUnavailable
from system.kernel.policies import Policies
from system.kernel.resilience.breaker import Breaker
from system.kernel.telemetry import metrics

T = TypeVar("T")


class Bulkhead:
    """Admits at most `limit` concurrent calls; the others wait in order of arrival. 0: no limit."""

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._slots = asyncio.Semaphore(limit) if limit else None

    async def enter(self, limit_s: float) -> float:
        """Take a slot and return the seconds waited for it.

        Raises StoreUnavailable (definite) if none is free within `limit_s` seconds.
        """
        if self._slots is None:
            return 0.0
        if not self._slots.locked():
            await self._slots.acquire()
            return 0.0
        began_s = time.monotonic()
        try:
            await asyncio.wait_for(self._slots.acquire(), limit_s)
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._name} was not called: {self._limit} calls are in flight, and no slot was free within "
                f"{limit_s:g} s; retry.",
                definite=True,
            ) from None
        return time.monotonic() - began_s

    def leave(self) -> None:
        """Release the slot."""
        if self._slots is not None:
            self._slots.release()


class Guard:
    """Runs all calls of a process to one dependency.

    `name`: the dependency, as in `policies.bulkhead`. `size`: slots if the bulkhead knob is 0 or does not
    exist; None is no limit.
    """

    def __init__(self, name: str, policies: Policies, size: int | None = None) -> None:
        self.name = name
        self.limit_s = policies.timeout_s(name)
        self.bulkhead = Bulkhead(name, int(getattr(policies.bulkhead, name, 0)) or size or 0)
        self.breaker = Breaker(policies.breaker)
        self._metrics = metrics.Dependency(name)
        _known.setdefault(name, weakref.WeakSet()).add(self)
        metrics.read("tweetlab_breaker_state", lambda: _worst(name), dependency=name)
        metrics.read("tweetlab_breaker_opened_total", lambda: _opened(name), dependency=name)

    async def run(self, work: Callable[[], Awaitable[T]], limit_s: float | None = None) -> T:
        """Return the result of `work()`.

        `limit_s`: longest wait for a slot in seconds; None is the timeout of the dependency.

        Raises StoreUnavailable (definite) if the dependency was not called, and every error of `work`.
        """
        waited_s = await self.bulkhead.enter(self.limit_s if limit_s is None else limit_s)
        try:
            if waited_s:
                self._metrics.waited(waited_s)
            return await self._metrics.timed(self._tried(work))
        finally:
            self.bulkhead.leave()

    async def _tried(self, work: Callable[[], Awaitable[T]]) -> T:
        breaker = self.breaker
        if not breaker.allows(time.monotonic()):
            raise StoreUnavailable(f"{self.name} failed {breaker.failures} times in a row; its breaker is open, "
                                   "retry shortly.",
                                   definite=True, retry_after_s=max(0.1, breaker.retry_after_s(time.monotonic())))
        try:
            result = await work()
        except StoreUnavailable:
            breaker.failed(time.monotonic())
            raise
        except (LabError, Overloaded):
            breaker.succeeded()  # the dependency responded, even if it rejected the request
            raise
        except BaseException:
            breaker.abandoned()
            raise
        breaker.succeeded()
        return result


_known: dict[str, weakref.WeakSet[Guard]] = {}


def _opened(name: str) -> float:
    return sum(guard.breaker.opened for guard in _known.get(name, ()))


def _worst(name: str) -> float:
    return max((guard.breaker.state.number for guard in _known.get(name, ())), default=0)
