"""The supervisor's process: one per lab. `python -m system.platform.process.control ROOT RANGE PROVIDER`.

It listens on a Unix socket. A request is one line of JSON, `{"op": ..., ...}`. The response is any number of
lines `{"progress": [node, text]}` and one last line `{"result": ...}` or `{"error": {...}}`.

Starting is a transaction: the nodes that `start` started on a connection stay only if the same connection
sends `commit`. If the connection closes before that, they are stopped again, so a client that dies midway
leaves no half-started lab. A supervisor without children and clients exits after IDLE_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from system.kernel import policies
from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.kernel.telemetry import logs
from system.platform import runtimes
from system.platform.paths import Paths
from system.platform.process import cgroups, orphan_cleanup
from system.platform.process.child import Child
from system.platform.process.supervisor import Request, Supervisor
from system.platform.provider import Progress

IDLE_S = 20.0  # time without children and clients after which the supervisor exits
OPEN_FILES = 65536
MAX_LINE_BYTES = 4 * 2**20

_log = logging.getLogger("tweetlab")

Operation = Callable[[], Awaitable[Any]]


class Control:
    """Serves the clients of one supervisor on the lab's socket."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._stopping = asyncio.Event()
        self._clients = 0
        self._uncommitted: list[list[Child]] = []  # per client, the children it started and has not committed

    async def serve(self) -> None:
        """Serve clients until SIGTERM, SIGINT, or IDLE_S without children and clients; then stop the lab."""
        socket = self._supervisor.paths.socket
        socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve_client, socket, limit=MAX_LINE_BYTES)
        os.chmod(socket, 0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with server:
            tasks = [asyncio.create_task(self._exit_when_idle()), asyncio.create_task(self._supervisor.run())]
            await self._stopping.wait()
            for task in tasks:
                task.cancel()
        await self._supervisor.shut_down()
        socket.unlink(missing_ok=True)

    def settled(self) -> dict[str, int]:
        """Return the number of uncommitted children, and of all children."""
        return {"pending": sum(map(len, self._uncommitted)), "nodes": len(self._supervisor.children)}

    async def _answer(self, request: Request, progress: Progress, started: list[Child]) -> Any:
        name = str(request.get("op"))
        if name == "commit":
            started.clear()
            return {"nodes": len(self._supervisor.children)}
        if name == "down":
            await self._supervisor.stop(list(self._supervisor.children.values()), kill=bool(request.get("kill")))
            self._supervisor.children.clear()
            return {"stopped": True}
        table = self._operations(request, progress, started)
        if name not in table:
            raise WrongInput(f"The operation {name!r} is unknown; known are {', '.join(sorted(table))}, commit, down.")
        return await table[name]()

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started: list[Child] = []
        self._uncommitted.append(started)
        self._clients += 1

        def send(message: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(message).encode() + b"\n")

        def progress(node: str, text: str) -> None:
            send({"progress": [node, text]})

        try:
            while (line := await reader.readline()) and not self._stopping.is_set():
                request = json.loads(line)
                if not await self._handle(request, send, progress, started, reader):
                    break
                await writer.drain()
                if request.get("op") == "down":
                    self._stopping.set()
        except (ConnectionError, ValueError) as problem:
            _log.warning("client disconnected or sent invalid JSON: %s", problem)
        finally:
            self._clients -= 1
            if started:
                await self._supervisor.roll_back(started)
            self._uncommitted = [children for children in self._uncommitted if children is not started]
            writer.close()

    async def _handle(
        self, request: Request, send: Callable[[dict[str, Any]], None], progress: Progress, started: list[Child],
        reader: asyncio.StreamReader,
    ) -> bool:  # fmt: skip
        """Execute one request and send the response.

        Returns False if the client disconnected before the end, which cancels the request.
        """
        work = asyncio.ensure_future(self._answer(request, progress, started))
        disconnected = asyncio.ensure_future(_until_eof(reader))
        await asyncio.wait([work, disconnected], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, LabError):
                await work
            return False
        disconnected.cancel()
        try:
            send({"result": work.result()})
        except LabError as problem:
            if started:
                await self._supervisor.roll_back(started)
            send({"error": {"class": type(problem).__name__, "detail": problem.detail}})
        return True

    def _operations(self, request: Request, progress: Progress, started: list[Child]) -> dict[str, Operation]:
        """Return the operations by name, bound to `request`.

        Scaling and rolling restarts are shielded: they continue if the client disconnects.
        """
        supervisor = self._supervisor
        node = str(request.get("node", ""))
        return {
            "ping": lambda: _later(lambda: {
                "pid": os.getpid(), "range": supervisor.plan.range, "blueprint": supervisor.blueprint.to_json(),
                "provider": supervisor.runtime.name}),
            "start": lambda: supervisor.exclusive(supervisor.start(request, progress, started)),
            "settled": lambda: _later(self.settled),
            "restart_services": lambda: supervisor.exclusive(supervisor.restart_services(request, progress)),
            "stop_services": lambda: supervisor.exclusive(supervisor.stop_services()),
            "renew": lambda: asyncio.shield(supervisor.exclusive(supervisor.rolling_restart(request))),
            "status": supervisor.status,
            "cpu_ns": lambda: _later(supervisor.cpu_ns),
            "rss_bytes": lambda: asyncio.to_thread(supervisor.rss_bytes),
            "kill": lambda: supervisor.kill(node),
            "pause": lambda: supervisor.child(node).pause(),
            "resume": lambda: supervisor.child(node).resume(),
            "stop_node": lambda: supervisor.child(node).stop(),
            "start_node": lambda: supervisor.child(node).start(),
            "auto_heal": lambda: _later(lambda: supervisor.auto_heal(node, bool(request["on"]))),
            "set_quota": lambda: supervisor.child(node).limit(request["cores"]),
            "scale": lambda: asyncio.shield(supervisor.autoscaler.scale(str(request["service"]), int(request["instances"]))),
            "scaling": lambda: _later(supervisor.autoscaler.state),
            "set_scaling": lambda: asyncio.shield(
                supervisor.autoscaler.configure(policies.from_json(str(request["policies"])), request["quota"])),
        }

    async def _exit_when_idle(self) -> None:
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < IDLE_S:
            await asyncio.sleep(1.0)
            if self._supervisor.children or self._clients:
                idle_since = time.monotonic()
        self._stopping.set()


async def _until_eof(reader: asyncio.StreamReader) -> None:
    """Wait until the client has closed its end; buffered requests stay in the buffer."""
    while not reader.at_eof():
        await asyncio.sleep(0.1)


async def _later(work: Callable[[], Any]) -> Any:
    """Turn a synchronous operation into a coroutine."""
    return work()


def main(arguments: list[str]) -> int:
    """Kill orphaned processes, then serve. Returns exit code 3 if another supervisor owns the lab."""
    logs.setup("supervisor")
    paths = Paths(Path(arguments[0]), int(arguments[1]))
    paths.make()
    with (paths.data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.error("another supervisor owns range %d of %s", paths.range, paths.root)
            return CouldNotRun.exit_code
        supervisor_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = OPEN_FILES if supervisor_hard == resource.RLIM_INFINITY else min(OPEN_FILES, supervisor_hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, supervisor_hard))
        killed = orphan_cleanup.clean_up(paths, cgroups.open_groups(paths.lab_id))
        _log.info("killed %d orphaned processes", killed)
        try:
            _log.info("removed %d orphaned containers", runtimes.clean_up(paths))
        except LabError as problem:
            _log.error("%s", problem.detail)
            return problem.exit_code
        asyncio.run(_serve(paths, arguments[2]))
    return 0


async def _serve(paths: Paths, provider: str) -> None:
    await Control(Supervisor(paths, runtimes.runtime(provider, paths))).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
