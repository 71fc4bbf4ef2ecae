"""Responses to the client: a service's reply or an error, with rate-limit and token headers."""

from __future__ import annotations

import math
import time

from system.kernel.errors import Forbidden, LabError
from system.kernel.http import asgi
from system.kernel.http.asgi import Headers, Send
from system.kernel.resilience.rate_window import QuotaState
from system.kernel.telemetry import tracing
from system.services.gateway.upstream import Reply

PASSED_ON = ("x-tweetlab-source", "x-tweetlab-scanned", "x-tweetlab-instance", "retry-after", "cache-control", "pragma")
"""Response headers of a service that are passed on to the client."""


class InsufficientScope(Forbidden):
    """A valid token without the scope of this route."""

    def __init__(self, scope: str, granted: frozenset[str]) -> None:
        have = " ".join(sorted(granted)) or "no scope"
        super().__init__(f"The token has {have}; this route needs {scope}. Request it from POST /2/oauth2/token.")
        self.scope = scope


def limit_headers(decision: QuotaState) -> Headers:
    """Return the rate-limit headers, as Twitter's API names them.

    The reset is in whole seconds since 1970.
    """
    return [(b"x-rate-limit-limit", b"%d" % decision.limit), (b"x-rate-limit-remaining", b"%d" % decision.remaining),
            (b"x-rate-limit-reset", b"%d" % math.ceil(decision.reset_s))]


async def send_reply(send: Send, reply: Reply, request_id: str, limits: Headers, start_ns: int, measured: bool) -> None:
    """Send a service's reply.

    `measured`: include the service's own timings, which only the lab's load gets.
    """
    received = reply.headers
    headers: Headers = [
        (b"content-type", received.get("content-type", "application/json").encode("latin-1")),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode()),
        (b"x-tweetlab-retries", b"%d" % reply.retries),
        (b"server-timing", _timing(start_ns, received.get("server-timing", "") if measured else "").encode("latin-1")),
        *limits,
    ]
    body, span = reply.body, tracing.current()
    if span is not None and span.sampled:
        headers.append((b"x-tweetlab-trace", span.trace_id.encode()))
    for name in PASSED_ON:
        if name in received:
            headers.append((name.encode(), received[name].encode("latin-1")))
    if reply.status >= 400 and not received.get("content-type", "").startswith("application/json"):
        body = _shaped(reply.status)  # HAProxy's own error page: no instance of the service is healthy
        headers[0], headers[1] = (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, problem: Exception, request_id: str, limits: Headers, start_ns: int) -> int:
    """Send an error in the API's shape; return its status."""
    answer = asgi.error_response(problem)
    headers: Headers = [
        *answer.headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", request_id.encode()), (b"server-timing", _timing(start_ns, "").encode()), *limits,
    ]
    if answer.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tweetlab", error="invalid_token"'))
    elif isinstance(problem, InsufficientScope):
        headers.append((b"www-authenticate", f'Bearer error="insufficient_scope", scope="{problem.scope}"'.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
    return answer.status


def _shaped(status: int) -> bytes:
    problem = LabError("The mesh has no healthy instance of the service; retry soon.")
    problem.status, problem.title = status, "Service Unavailable" if status == 503 else "Bad Gateway"
    return asgi.error_response(problem).body


def _timing(start_ns: int, inner: str) -> str:
    own = f"gateway;dur={(time.perf_counter_ns() - start_ns) / 1e6:.3f}"
    return f"{own}, {inner}" if inner else own
