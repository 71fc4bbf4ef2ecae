"""One request through the gateway, as raw ASGI: nothing stands between the server and this but the route's match."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
from collections.abc import Mapping

from system.kernel import background, scopes
from system.kernel.errors import DeadlineExceeded, Overloaded, TooLarge, TooManyRequests
from system.kernel.http import asgi
from system.kernel.http.asgi import Headers, Receive, Scope, Send
from system.kernel.policies import Policies
from system.kernel.resilience.rate_window import Quota
from system.kernel.telemetry import metrics, tracing
from system.ports import Ports
from system.services.gateway import policy, responses
from system.services.gateway.access_log import AccessLog
from system.services.gateway.limiter import Limiter
from system.services.gateway.revocations import Revocations
from system.services.gateway.tokens import Caller, Tokens
from system.services.gateway.upstream import Reply, Upstream


class Edge:
    """What all routes share: who calls, how many are inside, how often they may, the ways out."""

    limiter: Limiter
    revocations: Revocations

    def __init__(self, tokens: Tokens, upstreams: Mapping[str, Upstream], policies: Policies, log: AccessLog) -> None:
        self.tokens, self.upstreams, self.policies, self.log = tokens, upstreams, policies, log
        self.requests = metrics.Requests()
        self.queue = policy.Queue(policies.shed)
        self._polling: asyncio.Task[None] | None = None
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    @property
    def ready(self) -> bool:
        """Does it know who may enter, and go on asking?"""
        return self._polling is not None and self.revocations.known and self.revocations.polled

    async def open(self, ports: Ports) -> None:
        """Open the ways to the services, and read who may not enter."""
        self.limiter = Limiter(ports.limits, self.policies.limits)
        self.revocations = Revocations(ports.tokens)
        for upstream in self.upstreams.values():
            await upstream.open()
        await self.limiter.open()
        await self.revocations.poll()
        self._polling = asyncio.ensure_future(background.keep(self.revocations.run, "revocations"))

    async def close(self) -> None:
        """Close them."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})
        await self.limiter.close()
        for upstream in self.upstreams.values():
            await upstream.close()
        self.log.flush()

    def request_id(self, asked: bytes | None) -> str:
        """Return the id of a request: the caller's own where it is short and plain, else a new one."""
        if asked and len(asked) <= 64 and asked.isascii() and asked.isalnum():
            return asked.decode()
        return f"{self._prefix}{next(self._numbers):x}"

    def admit(self, route: str, waited_s: float) -> None:
        """Return where there is room for this request, which is counted already. Raises Overloaded."""
        inside, shed = self.requests.inside - 1, self.policies.shed
        if not policy.admits(inside, shed.max_in_flight):
            refusal = Overloaded(f"{inside} requests are inside; retry in a second.", retry_after_s=1.0)
        elif self.queue.sheds(waited_s, time.monotonic()):
            refusal = Overloaded(f"The request waited {waited_s:.1f} s in a queue that does not empty; retry in a second.",
                                 retry_after_s=1.0)
        else:
            return
        metrics.count("tweetlab_shed_total", route=route)
        raise refusal


    def unknown(self, method: str, path: str, given: Mapping[bytes, bytes], status: int) -> str:
        """Count and log a request that no route takes, so that who tries paths is seen; returns the request's id."""
        request_id = self.request_id(given.get(b"x-request-id"))
        self.requests.done(asgi.NO_ROUTE, status, time.perf_counter_ns())
        if self.log.wants(status):
            self.log.tell(status, request_id=request_id, method=method[:20], route=asgi.NO_ROUTE, path=path[:200])
        return request_id


class Passing:
    """One request on its way. `limits`: headers that tell how its caller stands where least is `left`; `user`: "" if unknown.

    `measured`: the caller is the lab's load, which is told where the time went.
    """

    __slots__ = ("given", "id", "left", "limits", "measured", "receive", "scope", "user", "waited_s")

    def __init__(self, scope: Scope, receive: Receive, edge: Edge) -> None:
        self.scope, self.receive = scope, receive
        self.given: dict[bytes, bytes] = dict(scope["headers"])
        self.id = edge.request_id(self.given.get(b"x-request-id"))
        self.waited_s = policy.waited_s(self.given.get(b"x-request-start"), time.time())
        self.user, self.measured = "", False
        self.limits: Headers = []
        self.left = math.inf

    @property
    def address(self) -> str:
        """Where the client is, as the public door says: it overwrites what a client claims."""
        told = self.given.get(b"x-forwarded-for")
        if told:
            return told.rpartition(b",")[2].strip().decode("latin-1")[:64]
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"


class Forward:
    """The ASGI application of one route."""

    def __init__(self, edge: Edge, route: policy.Route) -> None:
        self._edge, self._route = edge, route
        self._upstream = edge.upstreams[route.service]
        self._label = f"{route.method} {route.path}"
        self._waited = metrics.observer("tweetlab_queue_wait_seconds")
        self._decided = {result: metrics.counter("tweetlab_limit_decisions_total", route=route.name, result=result)
                         for result in ("admitted", "refused", "local")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_ns = time.perf_counter_ns()
        edge, passing = self._edge, Passing(scope, receive, self._edge)
        edge.requests.inside += 1
        status, trouble = 500, None
        try:
            reply = await self._forward(passing)
            status = reply.status
            await responses.send_reply(send, reply, passing.id, passing.limits, start_ns, passing.measured)
        except Exception as problem:
            status, trouble = await responses.send_error(send, problem, passing.id, passing.limits, start_ns), problem
        finally:
            edge.requests.inside -= 1
            edge.requests.done(self._route.name, status, start_ns)
            span = tracing.current()
            if span is not None:
                span.answer(status, trouble)
            if edge.log.wants(status):
                self._log(passing, status, trouble, start_ns)

    def _log(self, passing: Passing, status: int, trouble: Exception | None, start_ns: int) -> None:
        self._edge.log.tell(
            status, request_id=passing.id, method=self._route.method, route=self._route.name,
            path=passing.scope["path"][:200], ms=round((time.perf_counter_ns() - start_ns) / 1e6, 3),
            waited_ms=round(passing.waited_s * 1e3, 3) or None, user=passing.user or None,
            error=getattr(trouble, "title", None))

    async def _forward(self, passing: Passing) -> Reply:
        """Check the caller and pass the request on. Raises what `policy` lists, in its order."""
        edge, route, given = self._edge, self._route, passing.given
        tracing.at_edge(self._label, passing.id, given)
        if passing.waited_s:
            self._waited(passing.waited_s)
        edge.admit(route.name, passing.waited_s)
        allowed_ms = policy.deadline_ms(given.get(b"x-deadline-ms", b"").decode("latin-1"), edge.policies.deadline.request_s)
        deadline_s = time.monotonic() + allowed_ms / 1e3 - passing.waited_s
        headers = {"x-request-id": passing.id}
        if route.open:
            await self._limit(passing, policy.quotas(route, passing.address, edge.policies.limits))
        else:
            caller = self._caller(given.get(b"authorization"))
            headers["x-user-id"] = passing.user = caller.user.decode()
            passing.measured = scopes.MEASURED in caller.scopes
            await self._limit(passing, policy.quotas(route, passing.user, edge.policies.limits))
        body = None
        if route.method != "GET":
            body = await self._body(passing)
            for name in (b"content-type", b"idempotency-key"):
                if name in given:
                    headers[name.decode()] = given[name].decode("latin-1")
            if route.name == "token":
                await self._limit(passing, policy.login_quotas(policy.username_in(body), edge.policies.limits))
        query = passing.scope["query_string"]
        path = passing.scope["raw_path"].decode("latin-1") + ("?" + query.decode("latin-1") if query else "")
        return await self._upstream.send(route.method, path, headers, body, deadline_s)

    def _caller(self, authorization: bytes | None) -> Caller:
        """Return whom a token speaks for that holds and is good for this route. Raises Unauthorized, Forbidden."""
        caller = self._edge.tokens.caller_of(authorization)
        self._edge.revocations.check(caller)
        if self._route.scope not in caller.scopes:
            raise responses.InsufficientScope(self._route.scope, caller.scopes)
        return caller

    async def _limit(self, passing: Passing, quotas: list[Quota]) -> None:
        """Count the request. Raises TooManyRequests where it is one too many."""
        if not quotas:
            return
        limiter = self._edge.limiter
        standing = await limiter.take(quotas)
        left = standing.remaining if standing.admitted else -1
        if left < passing.left:  # the tightest of all windows, also of those that were asked one after the other
            passing.left, passing.limits = left, responses.limit_headers(standing)
        self._decided["refused" if not standing.admitted else "local" if limiter.local else "admitted"](1)
        if not standing.admitted:
            window_s = self._edge.policies.limits.window_s
            raise TooManyRequests(f"{standing.limit} requests are allowed in {window_s:g} s; there is room again in "
                                  f"{math.ceil(standing.wait_s)} s.", retry_after_s=math.ceil(standing.wait_s))

    async def _body(self, passing: Passing) -> bytes:
        declared = passing.given.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > policy.MAX_BODY_BYTES:
            raise TooLarge(f"The body has {int(declared)} bytes; the limit is {policy.MAX_BODY_BYTES}.")
        try:
            async with asyncio.timeout(self._edge.policies.deadline.request_s):
                return await asgi.read_body(passing.receive, policy.MAX_BODY_BYTES)
        except TimeoutError:
            raise DeadlineExceeded("The body did not arrive in time; nothing was done.", definite=True) from None
