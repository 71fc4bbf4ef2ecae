"""The states of a child, the same for processes and containers.

    stopped -> starting -> healthy -> dead -> starting -> ...
                  |
                  +-> failed (died, or not healthy in time, before it was ever healthy)

A child that dies after it was healthy is `dead`. It is restarted after a pause that doubles with each
consecutive death. With `auto_heal` off it stays dead until `auto_heal` is enabled or it is started. A member
of a failover group is started, automatically or by command, only after `Running.heal_pause_s`: the other
members need that time to elect a new primary.
"""

from __future__ import annotations

import abc
import asyncio
import errno
import os
import time
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform import health
from system.platform.paths import Paths
from system.platform.process import log_tail, procs
from system.platform.process.child import Changed, Identity
from system.platform.servers import SERVERS
from system.platform.servers.base import Context

RESTART_PAUSE_S = 0.1
MAX_RESTART_PAUSE_S = 5.0
STABLE_S = 10.0  # uptime after which the count of consecutive deaths starts from 0 again
NO_SPACE = "No space left on device"


class Lifecycle(abc.ABC):
    """The part of `Child` that does not depend on what runs the node. `paths`: of the lab, on this machine."""

    def __init__(self, ctx: Context, paths: Paths, changed: Changed) -> None:
        self.ctx = ctx
        self.paths = paths
        self.node = ctx.node
        self.server = SERVERS[ctx.node.kind]
        self.state = "stopped"
        self.expected = False
        self.auto_heal = True
        self.quota_cores = ctx.node.running.cpu_quota_cores
        self.restarts = 0
        self.identity = Identity()
        self.started_at = 0.0
        self.answer = ""
        self._changed = changed
        self._stop_timeout_s = 0.0
        self._exited = asyncio.Event()
        self._exited.set()
        self._exit_code: int | None = None
        self._paused = False
        self._wanted = False
        self._deaths = 0
        self._died_s = 0.0  # monotonic; 0 before the first death
        self._restarting: asyncio.Task[None] | None = None

    @abc.abstractmethod
    async def _spawn(self) -> None:
        """Start the main process, set `_stop_timeout_s` and call `_watch`. Raises CouldNotRun or OSError."""

    @abc.abstractmethod
    async def _ask_to_stop(self) -> None:
        """Send the stop signal to the main process."""

    @abc.abstractmethod
    async def kill(self) -> None: ...

    @abc.abstractmethod
    async def resume(self) -> None: ...

    @abc.abstractmethod
    async def _set_quota(self, cores: float | None) -> None:
        """Limit the CPU of the running node; None removes the limit."""

    @abc.abstractmethod
    def _collect(self, pid: int) -> None:
        """Collect the exit code and the CPU time of the main process, which has just exited."""

    async def _after_spawn(self) -> None:  # noqa: B027 - optional
        """Do what a new process needs while it becomes healthy."""

    def _after_death(self) -> None:  # noqa: B027 - optional
        """Clean up after a process that died by itself."""

    async def _after_stop(self) -> None:  # noqa: B027 - optional
        """Clean up after a process that was stopped."""

    async def _after_failed_start(self) -> None:  # noqa: B027 - optional
        """Collect what the error text of a failed start quotes."""

    @property
    def log(self) -> Path:
        return self.paths.log(self.node.name)

    def host_path(self, path: Path) -> Path:
        return path

    def is_alive(self) -> bool:
        return not self._exited.is_set()

    async def start(self) -> None:
        self._wanted = True
        if self._died_s and (left_s := self._died_s + self.node.running.heal_pause_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        self._set("starting")
        began = time.monotonic()
        try:
            await self._spawn()
            (healthy, self.answer), _ = await asyncio.gather(
                health.wait(lambda: self.server.probe(self.ctx), self.server.start_timeout_s, self.is_alive),
                self._after_spawn(),
            )
        except OSError as problem:
            self._set("failed")
            raise CouldNotRun(self._os_error_text(problem)) from problem
        except CouldNotRun:
            self._set("failed")
            raise
        if not healthy:
            await self._after_failed_start()
            self._set("failed")
            raise CouldNotRun(self._failure_text(time.monotonic() - began))
        self.expected = True
        self._set("healthy")
        await self.limit(self.quota_cores)

    async def limit(self, cores: float | None) -> None:
        self.quota_cores = cores
        if self.state == "healthy":
            await self._set_quota(cores)

    async def stop(self, *, kill: bool = False) -> None:
        self._wanted = self.expected = False
        self._changed()
        if self._restarting:
            self._restarting.cancel()
        if self.is_alive() and not kill:
            await self.resume()  # a frozen process would not handle the signal
            await self._ask_to_stop()
            await self._wait_for_exit(self._stop_timeout_s)
        await self.kill()
        await self._exited.wait()
        await self._after_stop()
        self._set("stopped")

    async def _wait_for_exit(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._exited.wait(), timeout_s)
        except TimeoutError:
            pass

    async def probe(self) -> str:
        if not self.is_alive():
            return "no process"
        try:
            self.answer = await self.server.probe(self.ctx)
            return "healthy"
        except health.Unhealthy as problem:
            return str(problem)

    def _watch(self, identity: Identity) -> None:
        """Take `identity` as the running process, and notice its end."""
        self.identity = identity
        self.started_at = time.time()
        self._exit_code, self._paused = None, False
        loop = asyncio.get_running_loop()
        fd = os.pidfd_open(identity.pid)

        def exited() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            self._collect(identity.pid)
            self._paused = False
            self._died_s = time.monotonic()
            self._exited.set()
            self._on_exit()

        self._exited.clear()
        loop.add_reader(fd, exited)
        self._changed()

    def _on_exit(self) -> None:
        self._changed()
        if self.state != "healthy" or not self._wanted:
            return
        self._after_death()
        self._set("dead")
        if self.auto_heal:
            self.restart()

    def restart(self) -> None:
        if self.is_alive() or (self._restarting and not self._restarting.done()):
            return
        self._wanted = True
        self._restarting = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        while self._wanted and not self.is_alive():
            self._deaths = 0 if time.time() - self.started_at > STABLE_S else self._deaths + 1
            await asyncio.sleep(min(MAX_RESTART_PAUSE_S, RESTART_PAUSE_S * 2**self._deaths))
            self.restarts += 1
            try:
                await self.start()
            except (CouldNotRun, OSError) as problem:
                self.answer = str(problem)
                await self.kill()
                await self._exited.wait()
                self.state = "dead"

    def _set(self, state: str) -> None:
        self.state = state
        self._changed()

    def _log_end(self) -> str:
        return log_tail.log_end_with_reason(self.log)

    def _failure_text(self, waited_s: float) -> str:
        end = self._log_end()
        what = f"was not healthy after {waited_s:.0f} s (its limit is {self.server.start_timeout_s:.0f} s)"
        if not self.is_alive() and self._died_s:
            what = f"died while starting, after {waited_s:.1f} s, with exit code {self._exit_code}"
        return f"{self.node.name} {what}; last answer: {self.answer}. {self._remedy(end)}\nEnd of {self.log}:\n{end}"

    def _remedy(self, log: str) -> str:
        full = f"The disk of {self.paths.data_dir} is full: free some space and start again."
        return full if NO_SPACE in log else "See its log:"

    def _os_error_text(self, problem: OSError) -> str:
        if problem.errno == errno.ENOSPC:
            return f"The disk of {self.paths.data_dir} is full ({problem.filename}); free some space and start again."
        return f"{self.node.name} could not be started: {problem}."


def identity_of(pid: int, container: str = "") -> Identity:
    """Return the identity of a process that runs now."""
    return Identity(pid, procs.start_ticks(pid), container)
