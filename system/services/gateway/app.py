"""The gateway: `python -m system.services.gateway.app`. Its API is described at /openapi.json.

FastAPI holds the table of routes and describes them; each route's own application is `handlers.Forward`, raw ASGI, because
the gateway must not cost more than what it guards (measured by the bench row `home_read_cpu_ratio`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from system.kernel import http, settings, telemetry, tracing
from system.kernel.errors import LabError, NotFound
from system.kernel.settings import Settings
from system.services.gateway import describe, policy
from system.services.gateway.handlers import Edge, Forward
from system.services.gateway.tokens import Tokens
from system.services.gateway.upstream import Upstream
from system.services.gateway.web import pages


class _Method(LabError):
    """The path is known, the method is not."""

    title = "Method Not Allowed"
    status = 405
    definite = True


def build(config: Settings) -> FastAPI:
    """Return the gateway's application. Raises CouldNotRun without a good TWEETLAB_JWT_SECRET."""
    upstreams = {name: Upstream(url, config.policies, name) for name, url in config.mesh.items()}
    edge = Edge(Tokens(config.jwt_secret), upstreams, config.policies)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.ensure_future(telemetry.watch_loop())
        await edge.open()
        yield
        await edge.close()
        await asyncio.to_thread(tracing.stop)
        watch.cancel()

    app = FastAPI(docs_url=None, redoc_url=None, lifespan=lifespan)
    described = describe.document(policy.ROUTES)
    app.openapi = lambda: described  # type: ignore[method-assign]
    for route in sorted(policy.ROUTES, key=lambda route: (route.name != "home", "{" in route.path)):
        _add(app, edge, route)
    app.add_api_route("/health", _healthy, methods=["GET"], include_in_schema=False)
    app.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    app.router.routes.extend(pages.routes(pages.media_origins(config)))
    app.add_exception_handler(HTTPException, _unknown)
    return app


def _add(app: FastAPI, edge: Edge, route: policy.Route) -> None:
    app.add_api_route(route.path, _placeholder, methods=[route.method], name=route.name, include_in_schema=False)
    added = app.router.routes[-1]
    assert isinstance(added, APIRoute)
    added.app = Forward(edge, route)


async def _placeholder() -> None:
    raise AssertionError("a route's application is Forward")


async def _healthy() -> dict[str, str]:
    return {"status": "ok"}


async def _metrics() -> Response:
    return Response(telemetry.text(), headers={"content-type": telemetry.CONTENT_TYPE})


async def _unknown(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    error: LabError = NotFound(f"No route {request.method} {request.url.path[:80]}; the API is described at /openapi.json.")
    if status == 405:
        error = _Method(f"{request.method} is not known for {request.url.path[:80]}; the API is described at /openapi.json.")
    answer = http.error_answer(error)
    return Response(answer.body, answer.status, media_type="application/json")


def main() -> None:
    """Serve until SIGTERM, with the settings of this process' environment."""
    config = settings.from_env()
    tracing.start(config.otlp, config.trace_ratio, config.instance)
    http.serve(build(config), config.listen_host, config.listen_port)


if __name__ == "__main__":
    main()
