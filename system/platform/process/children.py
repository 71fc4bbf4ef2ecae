"""One child of the supervisor: the process of one node, in its own control group, monitored and restarted.

    stopped -> starting -> healthy -> dead -> starting -> ...
                  |
                  +-> failed (died, or not healthy in time, before it was ever healthy)

A child that dies after it was healthy is `dead`. It is restarted after a pause that doubles with each
consecutive death. With `auto_heal` off it stays dead until `auto_heal` is enabled or it is started. A member
of a failover group is started, automatically or by command, only after `Running.heal_pause_s`: the other
members need that time to elect a new primary.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.kernel.telemetry import logs
from system.platform import health, paths
from system.platform.blueprint import Running
from system.platform.process import procs
from system.platform.process.cgroups import Groups
from system.platform.regions import network
from system.platform.servers import SERVERS
from system.platform.servers.base import Context, Launch, Step

RESTART_PAUSE_S = 0.1
MAX_RESTART_PAUSE_S = 5.0
STABLE_S = 10.0  # uptime after which the count of consecutive deaths starts from 0 again
LOG_LINES = 15
# Nice value of all nodes of an unprivileged lab: a tenth of the load generator's CPU weight.
YIELD_NICE = 10
YIELD_TRIES = 50
NO_SPACE = "No space left on device"

# Shell script that sets the timer slack (ns; 0 keeps the kernel's 50,000), joins the control groups and execs
# the server: the pid stays the same, and every socket is opened inside the groups.
JOIN = (
    'echo "$1" > /proc/$$/timerslack_ns; n=$2; shift 2; '
    'while [ "$n" -gt 0 ]; do echo $$ > "$1" || exit 125; shift; n=$((n-1)); done; exec "$@"'
)


class Child:
    """One node's process. All methods run in the supervisor's event loop."""

    def __init__(self, ctx: Context, groups: Groups, changed: Callable[[Child], None]) -> None:
        self.ctx = ctx
        self.node = ctx.node
        self.server = SERVERS[ctx.node.kind]
        self.groups = groups
        self.state = "stopped"
        self.expected = False  # it was healthy and has not been stopped since: alerts may fire if it is down
        self.auto_heal = True
        self.quota_cores = ctx.node.running.cpu_quota_cores
        self.restarts = 0
        self.pid = 0
        self.start_ticks = 0
        self.started_at = 0.0  # seconds since the epoch
        self.answer = ""
        self._changed = changed
        self._launch: Launch | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()
        self._exited.set()
        self._wanted = False
        self._past_cpu_ns = 0
        self._deaths = 0
        self._died_s = 0.0  # monotonic
        self._restarting: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        return self.ctx.paths.log(self.node.name)

    def is_alive(self) -> bool:
        return not self._exited.is_set()

    async def start(self) -> None:
        """Start the process and wait until it is healthy.

        A member of a failover group starts no sooner than `heal_pause_s` after its death. Raises CouldNotRun,
        with the last probe result and the end of the log, if it cannot start or is not healthy in time.
        """
        self._wanted = True
        if (left_s := self._died_s + self.node.running.heal_pause_s - time.monotonic()) > 0 and self._process:
            await asyncio.sleep(left_s)
        self._set("starting")
        began = time.monotonic()
        try:
            await self._prepare_and_spawn()
            (healthy, self.answer), _ = await asyncio.gather(
                health.wait(lambda: self.server.probe(self.ctx), self.server.start_timeout_s, self.is_alive),
                self._lower_priority(),
            )
        except OSError as problem:
            self._set("failed")
            raise CouldNotRun(self._os_error_text(problem)) from problem
        except CouldNotRun:
            self._set("failed")
            raise
        if not healthy:
            self._set("failed")
            raise CouldNotRun(self._failure_text(time.monotonic() - began))
        self.expected = True
        self._set("healthy")
        self.limit(self.quota_cores)

    def limit(self, cores: float | None) -> None:
        """Limit the CPU of the node to `cores`, once it is healthy; None removes the limit.

        A start is never throttled.
        """
        self.quota_cores = cores
        if self.state == "healthy":
            self.groups.set_quota(self.node.name, cores)

    async def _lower_priority(self) -> None:
        # An unprivileged load generator cannot have real-time priority. Without this, the servers that it
        # measures would take the CPU, and it would send requests late.
        if os.geteuid() == 0 or not self.node.running.own_session:
            return
        for _ in range(YIELD_TRIES):
            if not self.is_alive() or procs.yield_to_others(self.pid, YIELD_NICE):
                return
            await asyncio.sleep(0.11)  # the kernel accepts one such change per 100 ms from all unprivileged users together

    async def stop(self, *, kill: bool = False) -> None:
        """Stop the process and all processes that it started. Safe to repeat.

        It gets its stop signal, and SIGKILL after its stop timeout; with `kill` SIGKILL immediately.
        """
        self._wanted = self.expected = False
        self._changed(self)
        if self._restarting:
            self._restarting.cancel()
        if self.is_alive() and not kill and self._launch and self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._launch.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), self._launch.stop_timeout_s)
        self.kill()
        await self._exited.wait()
        for source, destination in self._launch.harvest if self._launch else ():
            with contextlib.suppress(OSError):  # the node was killed, another lab moved the file first, or the disk is full
                source.replace(destination)
        self._set("stopped")

    def kill(self) -> None:
        """SIGKILL the process and every other process of its node."""
        doomed = {self.pid, *self.pids()} if self.is_alive() else set(self.pids())
        for pid in doomed:
            if pid > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pids(self, known: procs.Tree | None = None) -> list[int]:
        """Return the pids of the running processes of this node.

        `known`: a current `procs.process_tree`; None reads it if needed.
        """
        if self.groups.kind != "none":
            return self.groups.pids(self.node.name)
        return [pid for root in self._roots() for pid in (root, *procs.descendants(root, known))]

    def _roots(self) -> list[int]:
        """Return the pids of the process, if it runs, and of the one that left its process tree, if any.

        These and their descendants are the processes of the node.
        """
        file = self._launch.escapes if self._launch else None
        further = procs.escaped(file, self.ctx.paths.lab_id, self.node.name) if file else []
        return [self.pid, *further] if self.is_alive() else further

    def cpu_ns(self, known: procs.Tree | None = None) -> int:
        """Return the CPU time, in ns, of this node since the lab was started, including earlier processes.

        `known`: as for `pids`.
        """
        grouped = self.groups.cpu_ns(self.node.name)
        if grouped is not None:
            return grouped
        return self._past_cpu_ns + sum(procs.tree_cpu_ns(root, known) for root in self._roots())

    async def probe(self) -> str:
        """Probe the node; return "healthy", or why it is unhealthy."""
        if not self.is_alive():
            return "no process"
        try:
            self.answer = await self.server.probe(self.ctx)
            return "healthy"
        except health.Unhealthy as problem:
            return str(problem)

    async def _prepare_and_spawn(self) -> None:
        launch = self._launch = self.server.launch(self.ctx)
        await asyncio.to_thread(prepare, self.ctx, launch)
        joins = self.groups.make(self.node.name)
        self.groups.set_quota(self.node.name, None)
        with self.log.open("ab") as log:
            for step in launch.before:
                if not step.unless.exists():
                    await self._run_step(step, launch, joins, log.fileno())
            argv = _wrapped(launch.argv, self.node.running, launch.drops_root, joins, self._netns_command())
            cwd = launch.cwd or self.ctx.paths.data_dir
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork takes 1 ms; asyncio's own needs a thread per process to wait
                argv, env=dict(launch.env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=self.node.running.own_session,
            )  # fmt: skip
        self.pid = self._process.pid
        self.start_ticks = procs.start_ticks(self.pid)
        self.started_at = time.time()
        self._exited.clear()
        self._watch(self._process)
        self._changed(self)

    def _netns_command(self) -> list[str]:
        return network.inside(self.ctx.paths, self.node.region)

    async def _run_step(self, step: Step, launch: Launch, joins: list[Path], log: int) -> None:
        argv = _wrapped(step.argv, Running(), launch.drops_root and not step.as_lab_owner, joins, self._netns_command())
        env = dict(step.env or launch.env)
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=self.ctx.paths.data_dir, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        if code != 0:
            end = self._log_end()
            what = f"{self.node.name} could not be prepared (exit code {code}). {self._remedy(end)}"
            raise CouldNotRun(f"{what}\nEnd of {self.log}:\n{end}")

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        fd = os.pidfd_open(process.pid)

        def exited() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            if self.groups.kind == "none":
                self._past_cpu_ns += procs.cpu_ns(process.pid)  # it is still a zombie, so its CPU time can be read
            process.wait()
            self._died_s = time.monotonic()
            self._exited.set()
            self._on_exit()

        loop.add_reader(fd, exited)

    def _on_exit(self) -> None:
        self._changed(self)
        if self.state != "healthy" or not self._wanted:
            return
        for pid in self.pids():  # processes that survived it, such as a server that a start script started
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._set("dead")
        if self.auto_heal:
            self.restart()

    def restart(self) -> None:
        """Restart the process in the background, unless it runs or a restart is in progress."""
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
                self.kill()
                await self._exited.wait()
                self.state = "dead"

    def _set(self, state: str) -> None:
        self.state = state
        self._changed(self)

    def _log_end(self) -> str:
        return log_end_with_reason(self.log)

    def _failure_text(self, waited_s: float) -> str:
        end = self._log_end()
        what = f"was not healthy after {waited_s:.0f} s (its limit is {self.server.start_timeout_s:.0f} s)"
        if not self.is_alive() and self._process:
            what = f"died while starting, after {waited_s:.1f} s, with exit code {self._process.returncode}"
        return f"{self.node.name} {what}; last answer: {self.answer}. {self._remedy(end)}\nEnd of {self.log}:\n{end}"

    def _remedy(self, log: str) -> str:
        full = f"The disk of {self.ctx.paths.data_dir} is full: free some space and start again."
        return full if NO_SPACE in log else "See its log:"

    def _os_error_text(self, problem: OSError) -> str:
        if problem.errno == errno.ENOSPC:
            return f"The disk of {self.ctx.paths.data_dir} is full ({problem.filename}); free some space and start again."
        return f"{self.node.name} could not be started: {problem}."


def prepare(ctx: Context, launch: Launch) -> None:
    """Create the node's directories and write its configuration, owned by the user it runs as."""
    own = ctx.paths.data_dir / ctx.node.name
    owner = paths.unprivileged() if launch.drops_root else None
    directories = [own, *launch.folders, *(path.parent for path in launch.files)]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in launch.stale:
        path.unlink(missing_ok=True)
    for path, text in launch.files.items():
        path.write_text(text)
    if owner:
        for path in [own, *own.glob("*"), *launch.folders, *launch.files]:
            os.chown(path, *owner)


def log_end(path: Path, lines: int = LOG_LINES) -> str:
    """Return the last lines of a log; "" if there is none."""
    return "\n".join(_tail(path)[-lines:])


def log_end_with_reason(path: Path) -> str:
    """Return the last lines of a log, after the first of its last 200 lines that names an error.

    A JVM prints the reason first, then a stack trace that is longer than the last lines.
    """
    tail = _tail(path)
    end = tail[-LOG_LINES:]
    reason = next((line for line in tail[-200:] if re.search(r"error|exception|fatal|panic", line, re.I)), "")
    return "\n".join(end if not reason or reason in end else [reason[:500], "...", *end])


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 65536))
            lines = handle.read().decode(errors="replace").rstrip().splitlines()
            return [part for line in lines for part in logs.readable(line).splitlines()]
    except OSError:
        return []


def _wrapped(argv: tuple[str, ...], running: Running, drops_root: bool, joins: list[Path],
             netns: list[str]) -> list[str]:
    command = [*netns]
    if running.nice:
        command += ["nice", "-n", str(running.nice)]
    user = paths.unprivileged() if drops_root else None
    if user:
        command += ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups", "--"]
    slack_ns = str(running.timer_slack_us * 1_000)
    return ["/bin/sh", "-c", JOIN, "sh", slack_ns, str(len(joins)), *map(str, joins), *command, *argv]
