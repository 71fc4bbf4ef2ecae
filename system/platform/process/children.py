"""Children of a native lab: each node is a process of this machine, in its own session and control group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform import paths
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node, Running
from system.platform.install import preflight
from system.platform.process import cgroups, procs
from system.platform.process.cgroups import Groups
from system.platform.process.child import Changed, Child
from system.platform.process.lifecycle import Lifecycle, identity_of
from system.platform.regions import network
from system.platform.servers.base import Context, Launch, Step

# Nice value of all nodes of an unprivileged lab: a tenth of the load generator's CPU weight.
YIELD_NICE = 10
YIELD_TRIES = 50
# A process in the middle of a disk write stops only after it.
FREEZE_S = 5.0

# Shell script that sets the timer slack (ns; 0 keeps the kernel's 50,000), joins the control groups and execs
# the server: the pid stays the same, and every socket is opened inside the groups.
JOIN = (
    'echo "$1" > /proc/$$/timerslack_ns; n=$2; shift 2; '
    'while [ "$n" -gt 0 ]; do echo $$ > "$1" || exit 125; shift; n=$((n-1)); done; exec "$@"'
)


class NativeRuntime:
    """Runs nodes as processes of this machine, each in its own control group where this user can make some."""

    name = "native"

    def __init__(self, lab: paths.Paths) -> None:
        self._paths, self.plan = lab, Plan(lab.range)
        self.groups = cgroups.open_groups(lab.lab_id)

    @property
    def accounting(self) -> str:
        return self.groups.kind

    def context(self, node: Node, blueprint: Blueprint, env: Mapping[str, str]) -> Context:
        return Context(node, blueprint, self.plan, self._paths, env)

    async def prepare(self, nodes: tuple[Node, ...]) -> None:
        preflight.check_ports(nodes, self.plan)

    def child(self, ctx: Context, changed: Changed) -> Child:
        return ProcessChild(ctx, self._paths, self.groups, changed)

    def process_tree(self) -> procs.Tree | None:
        return procs.process_tree() if self.groups.kind == "none" else None

    async def remove(self) -> None:
        network.remove(self._paths, self.plan)
        self.groups.remove()


class ProcessChild(Lifecycle):
    """One node as a process of this machine. See `Child` for the contract of its methods."""

    def __init__(self, ctx: Context, lab: paths.Paths, groups: Groups, changed: Changed) -> None:
        super().__init__(ctx, lab, changed)
        self.groups = groups
        self._launch: Launch | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._past_cpu_ns = 0

    async def _after_spawn(self) -> None:
        # An unprivileged load generator cannot have real-time priority. Without this, the servers that it
        # measures would take the CPU, and it would send requests late.
        if os.geteuid() == 0 or not self.node.running.own_session:
            return
        for _ in range(YIELD_TRIES):
            if not self.is_alive() or procs.yield_to_others(self.identity.pid, YIELD_NICE):
                return
            await asyncio.sleep(0.11)  # the kernel accepts one such change per 100 ms from all unprivileged users together

    async def _ask_to_stop(self) -> None:
        if self._launch and self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._launch.stop_signal)

    async def _after_stop(self) -> None:
        for source, destination in self._launch.harvest if self._launch else ():
            with contextlib.suppress(OSError):  # the node was killed, another lab moved the file first, or the disk is full
                source.replace(destination)

    async def kill(self) -> None:
        doomed = {self.identity.pid, *self.pids()} if self.is_alive() else set(self.pids())
        _signal(doomed, signal.SIGKILL)

    async def pause(self) -> None:
        if not self.is_alive():
            raise CouldNotRun(f"{self.node.name} has no process to pause; its state is {self.state!r}.")
        self._paused, ends_s = True, time.monotonic() + FREEZE_S
        while moving := self._moving():  # repeated: a process may have started another one in the meantime
            if time.monotonic() > ends_s:
                await self.resume()
                raise CouldNotRun(f"{self.node.name} was not frozen within {FREEZE_S:g} s; still running: {moving}.")
            _signal(moving, signal.SIGSTOP)
            await asyncio.sleep(0.005)

    async def resume(self) -> None:
        if self._paused:
            self._paused = False
            _signal(self.pids(), signal.SIGCONT)

    def is_paused(self) -> bool:
        return self._paused and self.is_alive() and not self._moving()

    def _moving(self) -> list[int]:
        """Return the pids of the node that are not stopped by a signal."""
        rows = [procs.stat(pid) for pid in self.pids()]
        return [row.pid for row in rows if row is not None and row.state not in "TtZX"]

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
        return [self.identity.pid, *further] if self.is_alive() else further

    def cpu_ns(self, known: procs.Tree | None = None) -> int:
        grouped = self.groups.cpu_ns(self.node.name)
        if grouped is not None:
            return grouped
        return self._past_cpu_ns + sum(procs.tree_cpu_ns(root, known) for root in self._roots())

    def rss_bytes(self, known: procs.Tree | None = None) -> int:
        return procs.rss_bytes(self.pids(known))

    async def _set_quota(self, cores: float | None) -> None:
        self.groups.set_quota(self.node.name, cores)

    async def _spawn(self) -> None:
        launch = self._launch = self.server.launch(self.ctx)
        self._stop_timeout_s = launch.stop_timeout_s
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
        self._watch(identity_of(self._process.pid))

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

    def _collect(self, pid: int) -> None:
        if self.groups.kind == "none":
            self._past_cpu_ns += procs.cpu_ns(pid)  # it is still a zombie, so its CPU time can be read
        if self._process is not None:
            self._exit_code = self._process.wait()

    def _after_death(self) -> None:
        _signal(self.pids(), signal.SIGKILL)  # processes that survived it, such as a server that a start script started


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


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
