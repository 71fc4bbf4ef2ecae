"""The supervisor's process: one a lab. `python -m system.platform.process.control ROOT RANGE`.

It listens on a Unix socket; a request is one line of JSON `{"op": ..., ...}`, answered by any number of
lines `{"progress": [node, text]}` and one last line `{"result": ...}` or `{"error": {...}}`.

Starting is a transaction: what `start` brought up on a connection stays only after `commit` on it. Where
the connection ends without, all that it started is taken down again: a caller that dies half-way leaves
nothing half-started. A supervisor without children ends itself.
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
from system.platform.paths import Paths
from system.platform.process import cgroups, orphan_cleanup
from system.platform.process.children import Child
from system.platform.process.supervisor import Request, Supervisor, Tell

IDLE_S = 20.0  # how long a supervisor without children and callers stays
OPEN_FILES = 65536
MAX_LINE_BYTES = 4 * 2**20

_log = logging.getLogger("tweetlab")

Operation = Callable[[], Awaitable[Any]]


class Control:
    """Serves callers of one supervisor on the lab's socket."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._stopping = asyncio.Event()
        self._callers = 0
        self._open: list[list[Child]] = []  # what each caller has started and not committed

    async def serve(self) -> None:
        """Answer callers until told to stop, or until there has been nothing to do for a while."""
        socket = self._supervisor.paths.socket
        socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve_caller, socket, limit=MAX_LINE_BYTES)
        os.chmod(socket, 0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with server:
            tasks = [asyncio.create_task(self._leave_when_idle()), asyncio.create_task(self._supervisor.run())]
            await self._stopping.wait()
            for task in tasks:
                task.cancel()
        await self._supervisor.shut_down()
        socket.unlink(missing_ok=True)

    def settled(self) -> dict[str, int]:
        """Return how many children await their commit, and how many there are."""
        return {"pending": sum(map(len, self._open)), "nodes": len(self._supervisor.children)}

    async def _answer(self, request: Request, tell: Tell, started: list[Child]) -> Any:
        name = str(request.get("op"))
        if name == "commit":
            started.clear()
            return {"nodes": len(self._supervisor.children)}
        if name == "down":
            await self._supervisor.stop(list(self._supervisor.children.values()), kill=bool(request.get("kill")))
            self._supervisor.children.clear()
            return {"stopped": True}
        table = self._operations(request, tell, started)
        if name not in table:
            raise WrongInput(f"The operation {name!r} is unknown; known are {', '.join(sorted(table))}, commit, down.")
        return await table[name]()

    async def _serve_caller(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started: list[Child] = []
        self._open.append(started)
        self._callers += 1

        def say(message: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(message).encode() + b"\n")

        def tell(node: str, text: str) -> None:
            say({"progress": [node, text]})

        try:
            while (line := await reader.readline()) and not self._stopping.is_set():
                request = json.loads(line)
                if not await self._obey(request, say, tell, started, reader):
                    break
                await writer.drain()
                if request.get("op") == "down":
                    self._stopping.set()
        except (ConnectionError, ValueError) as problem:
            _log.warning("a caller went away or spoke nonsense: %s", problem)
        finally:
            self._callers -= 1
            if started:
                await self._supervisor.take_back(started)
            self._open = [each for each in self._open if each is not started]
            writer.close()

    async def _obey(
        self, request: Request, say: Callable[[dict[str, Any]], None], tell: Tell, started: list[Child],
        reader: asyncio.StreamReader,
    ) -> bool:  # fmt: skip
        """Carry out one request; False where the caller went away meanwhile."""
        work = asyncio.ensure_future(self._answer(request, tell, started))
        gone = asyncio.ensure_future(_end_of(reader))
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, LabError):
                await work
            return False
        gone.cancel()
        try:
            say({"result": work.result()})
        except LabError as problem:
            if started:
                await self._supervisor.take_back(started)
            say({"error": {"class": type(problem).__name__, "detail": problem.detail}})
        return True

    def _operations(self, request: Request, tell: Tell, started: list[Child]) -> dict[str, Operation]:
        """Return the operations by name, ready to be carried out for `request`. A change of scale outlives its caller."""
        house = self._supervisor
        node = str(request.get("node", ""))
        return {
            "ping": lambda: _later(lambda: {
                "pid": os.getpid(), "range": house.plan.range, "blueprint": house.blueprint.to_json()}),
            "start": lambda: house.alone(house.start(request, tell, started)),
            "settled": lambda: _later(self.settled),
            "restart_services": lambda: house.alone(house.restart_services(request, tell)),
            "stop_services": lambda: house.alone(house.stop_services()),
            "renew": lambda: asyncio.shield(house.alone(house.renew(request))),
            "status": house.status,
            "cpu_ns": lambda: _later(house.cpu_ns),
            "rss_bytes": lambda: asyncio.to_thread(house.rss_bytes),
            "kill": lambda: _later(lambda: house.kill(node)),
            "stop_node": lambda: house.child(node).stop(),
            "start_node": lambda: house.child(node).start(),
            "auto_heal": lambda: _later(lambda: house.auto_heal(node, bool(request["on"]))),
            "set_quota": lambda: _later(lambda: house.child(node).limit(request["cores"])),
            "scale": lambda: asyncio.shield(house.autoscaler.scale(str(request["service"]), int(request["instances"]))),
            "scaling": lambda: _later(house.autoscaler.told),
            "set_scaling": lambda: asyncio.shield(
                house.autoscaler.configure(policies.from_json(str(request["policies"])), request["quota"])),
        }

    async def _leave_when_idle(self) -> None:
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < IDLE_S:
            await asyncio.sleep(1.0)
            if self._supervisor.children or self._callers:
                idle_since = time.monotonic()
        self._stopping.set()


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Return when the caller has closed its end; requests that wait in the buffer stay there."""
    while not reader.at_eof():
        await asyncio.sleep(0.1)


async def _later(work: Callable[[], Any]) -> Any:
    return work()


def main(arguments: list[str]) -> int:
    """Sweep, then serve. Exit code 3 where another supervisor owns the lab."""
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
        swept = orphan_cleanup.sweep(paths, cgroups.open_groups(paths.lab_id))
        _log.info("swept %d leftover processes", swept)
        asyncio.run(_serve(paths))
    return 0


async def _serve(paths: Paths) -> None:
    await Control(Supervisor(paths)).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
