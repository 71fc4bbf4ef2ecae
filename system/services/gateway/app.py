"""The gateway: `python -m system.services.gateway.app`. Its API is described at /openapi.json.

FastAPI describes the routes and handles requests that match none; each route's own application is
`handlers.Forward`, raw ASGI, and `fast_path.FastPath` dispatches directly to it, because the gateway must not
cost more than the services that it protects (measured by the bench row `home_read_cpu_ratio`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from system import bootstrap
from system.kernel import background, settings
from system.kernel.errors import LabError, NotFound
from system.kernel.http import asgi, serving
from system.kernel.settings import Settings
from system.kernel.telemetry import metrics, tracing, tracing_setup
from system.ports import Ports
from system.services.gateway import policy
from system.services.gateway.access_log import AccessLog
from system.services.gateway.fast_path import Application, FastPath
from system.services.gateway.handlers import Edge, Forward
from system.services.gateway.openapi import document as describe
from system.services.gateway.parameters import Parameters
from system.services.gateway.tokens import Tokens
from system.services.gateway.upstream import Upstream
from system.services.gateway.web import pages
from system.services.shared import signing

NEEDS = ("limits", "tokens")


class _MethodNotAllowed(LabError):
    """The path has a route, but not for this method."""

    title = "Method Not Allowed"
    status = 405
    definite = True


def build(config: Settings, ports: Ports | None = None, log: AccessLog | None = None) -> Application:
    """Return the gateway's application.

    `ports`: None opens those of `config` (limits and revoked tokens); `log`: None
    creates one.

    Raises CouldNotRun if TWEETLAB_JWT_SECRET is missing or too short.
    """
    upstreams = {name: Upstream(url, config.policies, name) for name, url in config.mesh.items()}
    keys = signing.Keys(config.jwt_secret, config.jwt_secret_previous)
    edge = Edge(Tokens(keys), upstreams, config.policies, log or AccessLog(config.instance, config.trace_ratio))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.ensure_future(background.run_forever(metrics.watch_loop, "loop_watch", once=True))
        opened = None if ports is not None else await bootstrap.open_ports(config, NEEDS)  # both connect on first use
        await edge.open(ports if ports is not None else opened.ports)  # type: ignore[union-attr]
        yield
        await edge.close()
        if opened is not None:
            await opened.close()
        await asyncio.to_thread(tracing.stop)
        watch.cancel()

    app = FastAPI(docs_url=None, redoc_url=None, lifespan=lifespan)
    openapi = describe.document(policy.ROUTES)
    app.openapi = lambda: openapi  # type: ignore[method-assign]
    routes: dict[policy.Route, Application] = {
        route: Forward(edge, route, Parameters(describe.OPERATIONS[route.name])) for route in policy.ROUTES}
    for route, forward in routes.items():
        _add(app, forward, route)
    app.add_api_route("/health", _health(edge), methods=["GET"], include_in_schema=False)
    app.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    app.router.routes.extend(pages.routes(pages.media_origins(config)))
    app.add_exception_handler(HTTPException, _no_route(edge))
    return FastPath(routes, app)


def _add(app: FastAPI, forward: Application, route: policy.Route) -> None:
    """Register the path with FastAPI, which answers 405 to other methods and redirects trailing slashes."""
    app.add_api_route(route.path, _placeholder, methods=[route.method], name=route.name, include_in_schema=False)
    added = app.router.routes[-1]
    assert isinstance(added, APIRoute)
    added.app = forward


async def _placeholder() -> None:
    raise AssertionError("a route's application is Forward")


def _health(edge: Edge) -> Callable[[], Awaitable[Response]]:
    async def health() -> Response:
        if edge.ready:
            return Response(b'{"status":"ok"}', media_type="application/json")
        return Response(b'{"status":"starting"}', 503, media_type="application/json")

    return health


async def _metrics() -> Response:
    return Response(metrics.text(), headers={"content-type": metrics.CONTENT_TYPE})


def _no_route(edge: Edge) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def no_route(request: Request, problem: Exception) -> Response:
        status, path = problem.status_code if isinstance(problem, HTTPException) else 500, request.url.path
        error: LabError = NotFound(f"No route {request.method} {path[:80]}; the API is described at /openapi.json.")
        if status == 405:
            error = _MethodNotAllowed(f"{request.method} is not allowed for {path[:80]}; the API is described at /openapi.json.")
        answer = asgi.error_response(error)
        request_id = edge.log_no_route(request.method, path, dict(request.headers.raw), answer.status)
        headers = dict(getattr(problem, "headers", None) or {}) | {"x-request-id": request_id}
        return Response(answer.body, answer.status, headers=headers, media_type="application/json")

    return no_route


def main() -> None:
    """Serve until SIGTERM, with settings from the environment."""
    config = settings.from_env()
    tracing_setup.start(config.otlp, config.trace_ratio, config.instance)
    serving.serve(build(config), config.listen_host, config.listen_port)


if __name__ == "__main__":
    main()
