"""One request through the gateway, as raw ASGI: nothing stands between the server and this but the route's match."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Mapping

from system.kernel import http, telemetry, tracing
from system.kernel.errors import DeadlineExceeded, LabError, Overloaded, TooLarge
from system.kernel.http import Headers, Receive, Scope, Send
from system.kernel.policies import Policies
from system.services.gateway import policy
from system.services.gateway.tokens import Tokens
from system.services.gateway.upstream import Reply, Upstream

PASSED_ON = ("x-tweetlab-source", "x-tweetlab-scanned", "x-tweetlab-instance", "retry-after", "cache-control")
"""Response headers of a service that reach the client."""


class Edge:
    """What all routes share: who calls, how many are inside, the ways out."""

    def __init__(self, tokens: Tokens, upstreams: Mapping[str, Upstream], policies: Policies) -> None:
        self.tokens, self.upstreams, self.policies = tokens, upstreams, policies
        self.requests = telemetry.Requests()
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Open the ways to the services."""
        for upstream in self.upstreams.values():
            await upstream.open()

    async def close(self) -> None:
        """Close them."""
        for upstream in self.upstreams.values():
            await upstream.close()

    def request_id(self, asked: bytes | None) -> str:
        """Return the id of a request: the caller's own where it is short and plain, else a new one."""
        if asked and len(asked) <= 64 and asked.isascii() and asked.isalnum():
            return asked.decode()
        return f"{self._prefix}{next(self._numbers):x}"


class Forward:
    """The ASGI application of one route."""

    def __init__(self, edge: Edge, route: policy.Route) -> None:
        self._edge, self._route = edge, route
        self._upstream = edge.upstreams[route.service]
        self._label = f"{route.method} {route.path}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_ns = time.perf_counter_ns()
        edge = self._edge
        if not policy.admits(edge.requests.inside, edge.policies.shed.max_in_flight):
            refusal = Overloaded(f"{edge.requests.inside} requests are inside; retry in a second.", retry_after_s=1.0)
            telemetry.count("tweetlab_shed_total", route=self._route.name)
            edge.requests.done(self._route.name, await send_error(send, refusal, start_ns), start_ns)
            return
        edge.requests.inside += 1
        status, trouble = 500, None
        try:
            reply, request_id = await self._forward(scope, receive)
            status = reply.status
            await _send_reply(send, reply, request_id, start_ns)
        except Exception as problem:
            status, trouble = await send_error(send, problem, start_ns), problem
        finally:
            edge.requests.inside -= 1
            edge.requests.done(self._route.name, status, start_ns)
            span = tracing.current()
            if span is not None:
                span.answer(status, trouble)

    async def _forward(self, scope: Scope, receive: Receive) -> tuple[Reply, str]:
        """Check the caller and pass the request on. Raises Unauthorized, TooLarge, Unavailable."""
        edge, given = self._edge, dict(scope["headers"])
        request_id = edge.request_id(given.get(b"x-request-id"))
        headers = {"x-request-id": request_id}
        tracing.at_edge(self._label, request_id, given)
        if not self._route.open:
            headers["x-user-id"] = edge.tokens.user_of(given.get(b"authorization")).decode()
        allowed_ms = policy.deadline_ms(given.get(b"x-deadline-ms", b"").decode("latin-1"), edge.policies.deadline.request_s)
        deadline_s = time.monotonic() + allowed_ms / 1e3
        body = None
        if scope["method"] != "GET":
            body = await self._body(given, receive)
            for name in (b"content-type", b"idempotency-key"):
                if name in given:
                    headers[name.decode()] = given[name].decode("latin-1")
        query = scope["query_string"]
        path = scope["raw_path"].decode("latin-1") + ("?" + query.decode("latin-1") if query else "")
        return await self._upstream.send(scope["method"], path, headers, body, deadline_s), request_id

    async def _body(self, given: dict[bytes, bytes], receive: Receive) -> bytes:
        declared = given.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > policy.MAX_BODY_BYTES:
            raise TooLarge(f"The body has {int(declared)} bytes; the limit is {policy.MAX_BODY_BYTES}.")
        try:
            async with asyncio.timeout(self._edge.policies.deadline.request_s):
                return await http.read_body(receive, policy.MAX_BODY_BYTES)
        except TimeoutError:
            raise DeadlineExceeded("The body did not arrive in time; nothing was done.", definite=True) from None


async def _send_reply(send: Send, reply: Reply, request_id: str, start_ns: int) -> None:
    given = reply.headers
    headers: Headers = [
        (b"content-type", given.get("content-type", "application/json").encode("latin-1")),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode()),
        (b"x-tweetlab-retries", b"%d" % reply.retries),
        (b"server-timing", _timing(start_ns, given.get("server-timing", "")).encode("latin-1")),
    ]
    body, span = reply.body, tracing.current()
    if span is not None and span.sampled:
        headers.append((b"x-tweetlab-trace", span.trace_id.encode()))
    for name in PASSED_ON:
        if name in given:
            headers.append((name.encode(), given[name].encode("latin-1")))
    if reply.status >= 400 and not given.get("content-type", "").startswith("application/json"):
        body = _shaped(reply.status)  # HAProxy's own page: no server of the service is up
        headers[0], headers[1] = (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _shaped(status: int) -> bytes:
    problem = LabError("The mesh has no healthy instance of the service; retry soon.")
    problem.status, problem.title = status, "Service Unavailable" if status == 503 else "Bad Gateway"
    return http.error_answer(problem).body


def _timing(start_ns: int, inner: str) -> str:
    own = f"gateway;dur={(time.perf_counter_ns() - start_ns) / 1e6:.3f}"
    return f"{own}, {inner}" if inner else own


async def send_error(send: Send, problem: Exception, start_ns: int) -> int:
    """Answer with an error in the API's shape; return its status."""
    answer = http.error_answer(problem)
    headers: Headers = [
        *answer.headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.body)),
        (b"server-timing", _timing(start_ns, "").encode()),
    ]
    if answer.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
    return answer.status
