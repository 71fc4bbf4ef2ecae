"""Sends requests to a service through the mesh, with a bulkhead, a circuit breaker and retries of reads."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from system.kernel.errors import DeadlineExceeded, Unavailable
from system.kernel.policies import Policies
from system.kernel.resilience import retry
from system.kernel.resilience.breaker import Breaker
from system.kernel.resilience.guard import Bulkhead
from system.kernel.telemetry import metrics, tracing
from system.services.gateway import policy

KEEP_ALIVE_S = 60.0


@dataclass(frozen=True)
class Reply:
    """The response of a service. `retries`: how often the request was sent again."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    retries: int


class _ConnectionBroke(aiohttp.ClientError):
    """The connection ended before a response."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once: by itself, aiohttp resends a DELETE, PUT or GET if a reused connection breaks.

    This module retries only reads, within the retry budget, and counts the retries.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # certainly nothing was sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as problem:
        raise _ConnectionBroke(str(problem)) from problem


class Upstream:
    """The client of one service. Open and close it in the event loop that uses it."""

    def __init__(self, base_url: str, policies: Policies, name: str = "service") -> None:
        self._base, self._name = base_url, name
        self._knobs, self._request_s = policies.retry, policies.deadline.request_s
        self._bulkhead, self._bulkhead_wait_s = Bulkhead(name, policies.bulkhead.service), policies.deadline.store_s
        self._budget = retry.Budget(policies.retry)
        self._breaker = Breaker(policies.breaker)
        self._session: aiohttp.ClientSession | None = None
        self._seconds_ok = metrics.observer("tweetlab_dependency_seconds", dependency=name, result="ok")
        self._seconds_error = metrics.observer("tweetlab_dependency_seconds", dependency=name, result="error")
        self._waited = metrics.observer("tweetlab_pool_wait_seconds", dependency=name)
        self._count_retries = metrics.counter("tweetlab_retries_total", dependency=name)
        metrics.read("tweetlab_breaker_state", lambda: self._breaker.state.number, dependency=name)
        metrics.read("tweetlab_breaker_opened_total", lambda: self._breaker.opened, dependency=name)

    async def open(self) -> None:
        """Create the session. It connects on first use."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, use_dns_cache=True,
                                         enable_cleanup_closed=False, force_close=False)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, raise_for_status=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"), middlewares=(_once,),
            timeout=aiohttp.ClientTimeout(total=None))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None, deadline_s: float) -> Reply:
        """Send one request; reads are retried within the budget. `deadline_s`: monotonic.

        Raises Unavailable (definite if nothing was sent), DeadlineExceeded.
        """
        # Each service has its own slots, so a slow service does not block requests to the others.
        waited_s = await self._bulkhead.enter(max(0.0, min(self._bulkhead_wait_s, deadline_s - time.monotonic())))
        try:
            if waited_s:
                self._waited(waited_s)
            return await self._send_with_retries(method, path, headers, body, deadline_s)
        finally:
            self._bulkhead.leave()

    async def _send_with_retries(self, method: str, path: str, headers: dict[str, str], body: bytes | None,
                                 deadline_s: float) -> Reply:
        self._budget.first_try()
        attempts = 0
        while True:
            now_s = time.monotonic()
            if now_s >= deadline_s:
                raise DeadlineExceeded("The deadline passed before the request was forwarded.", definite=attempts == 0)
            if not self._breaker.allows(now_s):
                raise Unavailable("The service is unavailable and its circuit breaker is open; retry later.",
                                  definite=attempts == 0, retry_after_s=self._breaker.retry_after_s(now_s))
            attempts += 1
            headers["x-deadline-ms"] = str(max(policy.MIN_DEADLINE_MS, int((deadline_s - now_s) * 1e3)))
            headers["x-deadline-at-us"] = str(int(deadline_s * 1e6))
            with tracing.step(f"call {self._name}", attributes={"http.request.method": method, "http.resend_count": attempts - 1}
                              ) as span:
                tracing.inject(headers)
                reply, problem = await self._attempt(method, path, headers, body, deadline_s, attempts - 1)
                if span is not None and problem is not None:
                    span.fail(problem)
            (self._seconds_ok if reply is not None and reply.status < 500 else self._seconds_error)(time.monotonic() - now_s)
            refused = reply is not None and "retry-after" in reply.headers
            retryable = policy.may_retry(method, reply.status if reply else None, attempts, self._knobs.attempts, refused)
            if retryable and not isinstance(problem, DeadlineExceeded) and self._budget.take():
                self._count_retries(1)
                await asyncio.sleep(retry.pause_s(attempts, self._knobs, random.random()))
                continue
            if reply is not None:
                return reply
            assert problem is not None
            raise problem

    async def _attempt(self, method: str, path: str, headers: dict[str, str], body: bytes | None, deadline_s: float,
                   retries: int) -> tuple[Reply | None, Unavailable | None]:
        assert self._session is not None
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, deadline_s - started_s)):
                response = await self._session.request(method, URL(self._base + path, encoded=True), headers=headers,
                                                       data=body, allow_redirects=False)
                data = await response.read()
        except aiohttp.ClientConnectorError:
            self._breaker.failed(time.monotonic())
            return None, Unavailable("The service could not be reached.", definite=True)
        except TimeoutError:
            now_s = time.monotonic()
            if policy.is_service_timeout(now_s - started_s, self._request_s):
                self._breaker.failed(now_s)
            else:
                self._breaker.abandoned()
            return None, DeadlineExceeded("The service did not answer in time; a write may still be executed.", definite=False)
        except (aiohttp.ClientError, OSError):
            self._breaker.failed(time.monotonic())
            return None, Unavailable("The connection to the service broke; a write may have been executed.", definite=False)
        except BaseException:
            self._breaker.abandoned()  # cancelled by the gateway: no information about the service
            raise
        if policy.is_from_mesh(response.status, response.headers.get("x-tweetlab-instance")):
            self._breaker.failed(time.monotonic())
        else:
            self._breaker.succeeded()
        return Reply(response.status, response.headers, data, retries), None
