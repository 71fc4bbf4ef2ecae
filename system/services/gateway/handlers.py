"""The gateway's request path, as raw ASGI: only the route match runs before this code."""

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
from system.services.gateway.parameters import Parameters
from system.services.gateway.revocations import Revocations
from system.services.gateway.tokens import Caller, Tokens
from system.services.gateway.upstream import Reply, Upstream


class Edge:
    """State that all routes share: token checks, load shedding, rate limits, upstreams, access log."""

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
        """Whether token revocations have been read and are still polled."""
        return self._polling is not None and self.revocations.known and self.revocations.polling

    async def open(self, ports: Ports) -> None:
        """Open the upstreams and the limiter, and read the revocations."""
        self.limiter = Limiter(ports.limits, self.policies.limits)
        self.revocations = Revocations(ports.tokens)
        for upstream in self.upstreams.values():
            await upstream.open()
        await self.limiter.open()
        await self.revocations.poll()
        self._polling = asyncio.ensure_future(background.run_forever(self.revocations.run, "revocations"))

    async def close(self) -> None:
        """Stop polling and close the limiter and the upstreams."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})
        await self.limiter.close()
        for upstream in self.upstreams.values():
            await upstream.close()
        self.log.flush()

    def request_id(self, requested: bytes | None) -> str:
        """Return the id of a request: the client's own (at most 64 ASCII letters and digits), else a new one."""
        if requested and len(requested) <= 64 and requested.isascii() and requested.isalnum():
            return requested.decode()
        return f"{self._prefix}{next(self._numbers):x}"

    def admit(self, route: str, waited_s: float) -> None:
        """Apply load shedding to a request that is already counted as in flight.

        `waited_s`: its wait since it arrived at the public load balancer. Raises Overloaded if it is refused.
        """
        inside, shed = self.requests.inside - 1, self.policies.shed
        if not policy.admits(inside, shed.max_in_flight):
            refusal = Overloaded(f"{inside} requests are in flight; retry in a second.", retry_after_s=1.0)
        elif self.queue.sheds(waited_s, time.monotonic()):
            refusal = Overloaded(f"The request waited {waited_s:.1f} s in a queue that does not drain; retry in a second.",
                                 retry_after_s=1.0)
        else:
            return
        metrics.count("tweetlab_shed_total", route=route)
        raise refusal

    def log_no_route(self, method: str, path: str, headers: Mapping[bytes, bytes], status: int) -> str:
        """Count and log a request that matches no route, so that scans for paths are visible.

        Returns the id of the request.
        """
        request_id = self.request_id(headers.get(b"x-request-id"))
        self.requests.done(asgi.NO_ROUTE, status, time.perf_counter_ns())
        if self.log.wants(status):
            self.log.add(status, request_id=request_id, method=method[:20], route=asgi.NO_ROUTE, path=path[:200])
        return request_id


class RequestContext:
    """The state of one request.

    `user`: "" if unknown. `measured`: the caller is the lab's load generator and gets timing headers.
    `waited_s`: time since the arrival at the public load balancer, in seconds.

    `limits`: rate-limit headers of the tightest window so far. `left`: requests that remain in it.
    """

    __slots__ = ("headers", "id", "left", "limits", "measured", "receive", "scope", "user", "waited_s")

    def __init__(self, scope: Scope, receive: Receive, edge: Edge) -> None:
        self.scope, self.receive = scope, receive
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = edge.request_id(self.headers.get(b"x-request-id"))
        self.waited_s = policy.waited_s(self.headers.get(b"x-request-start"), time.time())
        self.user, self.measured = "", False
        self.limits: Headers = []
        self.left = math.inf

    @property
    def address(self) -> str:
        """Address of the client, from `x-forwarded-for`, which the public load balancer always sets."""
        forwarded_for = self.headers.get(b"x-forwarded-for")
        if forwarded_for:
            return forwarded_for.rpartition(b",")[2].strip().decode("latin-1")[:64]
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"


class Forward:
    """The ASGI application of one route."""

    def __init__(self, edge: Edge, route: policy.Route, parameters: Parameters) -> None:
        self._edge, self._route, self._parameters = edge, route, parameters
        self._upstream = edge.upstreams[route.service]
        self._label = f"{route.method} {route.path}"
        self._waited = metrics.observer("tweetlab_queue_wait_seconds")
        self._decided = {result: metrics.counter("tweetlab_limit_decisions_total", route=route.name, result=result)
                         for result in ("admitted", "refused", "local")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_ns = time.perf_counter_ns()
        edge, ctx = self._edge, RequestContext(scope, receive, self._edge)
        edge.requests.inside += 1
        status, error = 500, None
        try:
            reply = await self._forward(ctx)
            status = reply.status
            await responses.send_reply(send, reply, ctx.id, ctx.limits, start_ns, ctx.measured)
        except Exception as problem:
            status, error = await responses.send_error(send, problem, ctx.id, ctx.limits, start_ns), problem
        finally:
            edge.requests.inside -= 1
            edge.requests.done(self._route.name, status, start_ns)
            span = tracing.current()
            if span is not None:
                span.answer(status, error)
            if edge.log.wants(status):
                self._log(ctx, status, error, start_ns)

    def _log(self, ctx: RequestContext, status: int, error: Exception | None, start_ns: int) -> None:
        self._edge.log.add(
            status, request_id=ctx.id, method=self._route.method, route=self._route.name,
            path=ctx.scope["path"][:200], ms=round((time.perf_counter_ns() - start_ns) / 1e6, 3),
            waited_ms=round(ctx.waited_s * 1e3, 3) or None, user=ctx.user or None,
            error=getattr(error, "title", None))

    async def _forward(self, ctx: RequestContext) -> Reply:
        """Check the request and forward it. The module `policy` lists the checks, their order and errors."""
        edge, route, received = self._edge, self._route, ctx.headers
        tracing.at_edge(self._label, ctx.id, received)
        if ctx.waited_s:
            self._waited(ctx.waited_s)
        edge.admit(route.name, ctx.waited_s)
        deadline_ms = policy.deadline_ms(received.get(b"x-deadline-ms", b"").decode("latin-1"), edge.policies.deadline.request_s)
        deadline_s = time.monotonic() + deadline_ms / 1e3 - ctx.waited_s
        headers = {"x-request-id": ctx.id}
        if route.open:
            await self._limit(ctx, policy.quotas(route, ctx.address, edge.policies.limits))
        else:
            caller = self._caller(received.get(b"authorization"))
            headers["x-user-id"] = ctx.user = caller.user.decode()
            ctx.measured = scopes.MEASURED in caller.scopes
            await self._limit(ctx, policy.quotas(route, ctx.user, edge.policies.limits))
        body = None
        if route.method != "GET":
            body = await self._body(ctx)
            for name in (b"content-type", b"idempotency-key"):
                if name in received:
                    headers[name.decode()] = received[name].decode("latin-1")
            if route.name == "token":
                username = policy.username_in(body, received.get(b"content-type", b""))
                await self._limit(ctx, policy.login_quotas(username, edge.policies.limits))
        query = ctx.scope["query_string"]
        if query:
            self._parameters.check(query)
        path = ctx.scope["raw_path"].decode("latin-1") + ("?" + query.decode("latin-1") if query else "")
        return await self._upstream.send(route.method, path, headers, body, deadline_s)

    def _caller(self, authorization: bytes | None) -> Caller:
        """Return the caller of a valid token with the scope of this route.

        Raises Unauthorized, Forbidden, Unavailable.
        """
        caller = self._edge.tokens.caller_of(authorization)
        self._edge.revocations.check(caller)
        if self._route.scope not in caller.scopes:
            raise responses.InsufficientScope(self._route.scope, caller.scopes)
        return caller

    async def _limit(self, ctx: RequestContext, quotas: list[Quota]) -> None:
        """Count the request against `quotas`. Raises TooManyRequests if one is exceeded."""
        if not quotas:
            return
        limiter = self._edge.limiter
        decision = await limiter.take(quotas)
        left = decision.remaining if decision.admitted else -1
        if left < ctx.left:  # headers of the tightest window: a token request is checked twice
            ctx.left, ctx.limits = left, responses.limit_headers(decision)
        self._decided["refused" if not decision.admitted else "local" if limiter.local else "admitted"](1)
        if not decision.admitted:
            window_s = self._edge.policies.limits.window_s
            raise TooManyRequests(f"{decision.limit} requests are allowed in {window_s:g} s; retry in "
                                  f"{math.ceil(decision.wait_s)} s.", retry_after_s=math.ceil(decision.wait_s))

    async def _body(self, ctx: RequestContext) -> bytes:
        declared = ctx.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > policy.MAX_BODY_BYTES:
            raise TooLarge(f"The body has {int(declared)} bytes; the limit is {policy.MAX_BODY_BYTES}.")
        try:
            async with asyncio.timeout(self._edge.policies.deadline.request_s):
                return await asgi.read_body(ctx.receive, policy.MAX_BODY_BYTES)
        except TimeoutError:
            raise DeadlineExceeded("The body did not arrive in time; nothing was done.", definite=True) from None
