"""Hosts a service in a process: opens its ports, builds it, serves it and closes everything."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from system import bootstrap
from system.kernel import settings
from system.kernel.http import serving
from system.kernel.http.asgi import App, Row
from system.kernel.settings import Settings
from system.kernel.telemetry import tracing, tracing_setup
from system.ports import Ports

_log = logging.getLogger("tweetlab")

Step = Callable[[], Awaitable[None]]


@dataclass
class Service:
    """A built service. `rows`: its routes. `start`, `stop`: run before the first and after the last request.

    `loops`: tasks that must run as long as the process; if one exits, the process exits with an error.
    """

    rows: Sequence[Row] = ()
    start: Step | None = None
    stop: Step | None = None
    loops: Sequence[Step] = field(default_factory=tuple)


Build = Callable[[Ports, Settings], Service]


class Host:
    """One service in one process, with its ports, routes and loops, as an ASGI application (`app`).

    `ports`: None opens those that `needs` names, and in the background those that `later` names.
    """

    def __init__(self, name: str, needs: Sequence[str], build: Build, config: Settings, ports: Ports | None = None,
                 later: Sequence[str] = ()) -> None:
        self._needs, self._later, self._build, self._config, self._ports = needs, later, build, config, ports
        self._opened: bootstrap.Opened | None = None
        self._service = Service()
        self._tasks: list[asyncio.Future[None]] = []
        self._stopping = False
        self.app = App(name, (), config.instance, self.open, self.close, lambda: bool(self._opened or self._ports))

    async def open(self) -> None:
        """Open the ports, build the service and start its loops."""
        tracing.serve_as(self.app.name)
        ports = self._ports
        if ports is None:
            self._opened = await bootstrap.open_ports(self._config, self._needs, later=self._later)
            await self._opened.ready()
            ports = self._opened.ports
        self._service = self._build(ports, self._config)
        self.app.route(self._service.rows)
        if self._service.start:
            await self._service.start()
        for loop in self._service.loops:
            task = asyncio.ensure_future(loop())
            task.add_done_callback(self._on_exit)
            self._tasks.append(task)

    def _on_exit(self, task: asyncio.Future[None]) -> None:
        if not self._stopping:
            problem = asyncio.CancelledError("not by its host") if task.cancelled() else task.exception()
            _log.critical("a loop of %s exited unexpectedly; exiting the process", self.app.name, exc_info=problem)
            os._exit(1)  # the supervisor restarts it; a worker without its loop would only look healthy

    async def close(self) -> None:
        """Stop the loops and the service, then close the ports."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        if self._service.stop:
            await self._service.stop()
        if self._opened is not None:
            await self._opened.close()
        await asyncio.to_thread(tracing.stop)


def run(name: str, needs: Sequence[str], build: Build, later: Sequence[str] = ()) -> None:
    """Serve until SIGTERM, with settings from the environment. `later`: ports without which the service starts."""
    config = settings.from_env()
    tracing_setup.start(config.otlp, config.trace_ratio, config.instance)
    host = Host(name, needs, build, config, later=later)
    serving.serve(host.app, config.listen_host, config.listen_port)
