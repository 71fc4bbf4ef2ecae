"""A node as a container: the same interface, states and probes as a process (`process.child`).

A start creates a new container from the node's description (`spec`), copies configuration and start script into
it, and starts it. Its main process is a process of this machine, so that its end is noticed by its pid, and CPU
and memory are read from its control group. Output goes to Docker and to the node's log.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from system.kernel.errors import CouldNotRun
from system.platform.containers import api, spec
from system.platform.containers.spec import Container
from system.platform.paths import Paths
from system.platform.process import procs
from system.platform.process.cgroups import PERIOD_US
from system.platform.process.child import Changed
from system.platform.process.lifecycle import Lifecycle, identity_of
from system.platform.servers.base import Context

ROOT_ONLY = 0o400
LOG_WAIT_S = 2.0  # for the last lines of a container that died
EXIT_KNOWN_S = 2.0  # from the end of a process until the engine says so


class ContainerChild(Lifecycle):
    """One node as a container. See `process.child.Child` for the contract of its methods.

    `network`: name of the lab's bridge network. Requests to the engine run in threads: it may take seconds.
    """

    def __init__(self, ctx: Context, paths: Paths, client: Any, network: str, changed: Changed) -> None:
        super().__init__(ctx, paths, changed)
        self._client, self._network = client, network
        self._container: Any = None
        self._stop_signal = int(signal.SIGTERM)
        self._past_cpu_ns = self._last_cpu_ns = 0
        self._follower: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The name of the container; no other lab of this machine has it."""
        return f"tweetlab-{self.paths.lab_id}-{self.node.name}"

    def host_path(self, path: Path) -> Path:
        return self._run_folder / path.relative_to(spec.RUN) if path.is_relative_to(spec.RUN) else path

    @property
    def _run_folder(self) -> Path:
        """The directory of this machine that is /tmp/lab in a container whose sockets the supervisor uses."""
        return self.paths.data_dir / "run" / self.node.name

    async def _spawn(self) -> None:
        description = spec.container(self.ctx, self.server)
        await api.in_thread(self._remove)
        self._stop_signal, self._stop_timeout_s = description.stop_signal, description.stop_timeout_s
        self._container = await api.in_thread(self._create, description)
        pid = await api.in_thread(self._start)
        try:
            self._watch(identity_of(pid, str(self._container.id)))
        except ProcessLookupError:  # it ended before it could be watched
            raise CouldNotRun(await api.in_thread(self._died_at_once)) from None

    def _died_at_once(self) -> str:
        self._read_exit_code()
        return (f"{self.node.name} died while starting, immediately, with exit code {self._exit_code}. See its log:\n"
                f"End of {self.log}:\n{self._log_end()}")

    def _create(self, description: Container) -> Any:
        with api.errors(f"create the container of {self.node.name}"):
            container = self._client.containers.create(
                description.image.tag(),
                entrypoint=list(description.entrypoint),
                command=[],
                name=self.name,
                hostname=self.node.name,
                labels=api.labels(self.paths, **description.labels),
                user=self._user(description),
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                mem_limit=f"{description.memory_mib}m",
                shm_size=f"{description.shm_mib}m" if description.shm_mib else None,
                ulimits=[{"Name": "nofile", "Soft": _open_files(), "Hard": _open_files()}],
                log_config={"Type": "local"},
                healthcheck={"test": ["NONE"]},  # the supervisor probes; a command in each container would cost CPU
                restart_policy={"Name": "no"},  # auto-heal restarts
                mounts=self._mounts(description),
                network=self._network,
                networking_config={self._network: self._client.api.create_endpoint_config(ipv4_address=description.address)},
            )
            container.put_archive("/", _archive(description.files, self._user(description)))
        return container

    def _user(self, description: Container) -> str:
        """Return uid:gid: the image's, or this user's where the container shares directories with it."""
        shares = not description.volume and os.geteuid() != 0
        return f"{os.geteuid()}:{os.getegid()}" if shares else description.user

    def _mounts(self, description: Container) -> list[dict[str, Any]]:
        uid, gid = map(int, self._user(description).split(":"))
        mounts = []
        if description.volume:
            labels = api.labels(self.paths, **description.labels)
            mounts.append({"Type": "volume", "Source": self.name, "Target": description.volume,
                           "VolumeOptions": {"Labels": labels}})
        if self.node.kind == "haproxy":
            mounts.append(_shared(self._run_folder, spec.RUN, uid, gid))
        if self.node.module:
            mounts.append(_shared(self.paths.effects, spec.EFFECTS, uid, gid))
        return mounts

    def _start(self) -> int:
        with api.errors(f"start the container of {self.node.name}"):
            self._container.start()
            self._follow()
            pid = self._pid()
            deadline_s = time.monotonic() + EXIT_KNOWN_S
            while pid and not Path(f"/proc/{pid}").exists():
                if time.monotonic() > deadline_s:
                    raise CouldNotRun(f"The process {pid} of {self.node.name} does not exist on this machine: the Docker engine "
                                      "runs on another one, or in a virtual machine. A lab needs an engine of this machine.")
                time.sleep(0.05)  # it may have ended, which the engine says soon
                pid = self._pid()
        if not pid:
            raise CouldNotRun(self._died_at_once())
        return pid

    def _pid(self) -> int:
        """Return the container's process as the engine knows it; 0: it has ended."""
        self._container.reload()
        return int(self._container.attrs["State"]["Pid"])

    def _follow(self) -> None:
        """Copy the output of the container to the node's log, in a thread that ends with the container."""
        stream = self._container.logs(stream=True, follow=True, stdout=True, stderr=True)

        def copy() -> None:
            with contextlib.suppress(Exception), self.log.open("ab", buffering=0) as log:  # the engine went away
                for chunk in stream:
                    log.write(chunk)

        self._follower = threading.Thread(target=copy, name=f"log of {self.node.name}", daemon=True)
        self._follower.start()

    def _remove(self) -> None:
        """Remove the container of an earlier start, whatever its state; its volume stays."""
        import docker.errors

        with api.errors(f"remove the container of {self.node.name}"), contextlib.suppress(docker.errors.NotFound):
            self._client.containers.get(self.name).remove(force=True)
        self._container = None

    async def _ask_to_stop(self) -> None:
        await api.in_thread(self._signal, self._stop_signal)

    async def kill(self) -> None:
        self._sample()
        await api.in_thread(self._signal, int(signal.SIGKILL))

    def _signal(self, number: int) -> None:
        """Send a signal to the main process; nothing happens if it does not run."""
        if self._container is None or not self.is_alive():
            return
        import docker.errors

        with api.errors(f"send signal {number} to {self.node.name}"):
            try:
                self._container.kill(number)
            except docker.errors.APIError as problem:
                if problem.status_code not in (404, 409):  # absent, not running
                    raise

    async def pause(self) -> None:
        if not self.is_alive():
            raise CouldNotRun(f"{self.node.name} has no process to pause; its state is {self.state!r}.")
        if not self.is_paused():
            await api.in_thread(self._pause)

    def _pause(self) -> None:
        with api.errors(f"pause {self.node.name}"):
            self._container.pause()

    async def resume(self) -> None:
        if self.is_paused():
            await api.in_thread(self._unpause)

    def _unpause(self) -> None:
        import docker.errors

        with api.errors(f"resume {self.node.name}"):
            try:
                self._container.unpause()
            except docker.errors.APIError:
                if self.is_paused():  # else it died in the meantime
                    raise

    def is_paused(self) -> bool:
        return self.is_alive() and api.is_frozen(self.identity.pid)

    async def _set_quota(self, cores: float | None) -> None:
        await api.in_thread(self._update_quota, int(cores * PERIOD_US) if cores else -1)

    def _update_quota(self, quota_us: int) -> None:
        with api.errors(f"limit the CPU of {self.node.name}"):
            self._container.update(cpu_period=PERIOD_US, cpu_quota=quota_us)

    def cpu_ns(self, known: procs.Tree | None = None) -> int:
        self._sample()
        return self._past_cpu_ns + self._last_cpu_ns

    def _sample(self) -> None:
        """Read the CPU time of the present container; it cannot be read after its end."""
        used_ns = api.cpu_ns(self.identity.pid) if self.is_alive() else None
        if used_ns is not None:
            self._last_cpu_ns = max(self._last_cpu_ns, used_ns)

    def rss_bytes(self, known: procs.Tree | None = None) -> int:
        return procs.rss_bytes(api.pids(self.identity.pid)) if self.is_alive() else 0

    def _collect(self, pid: int) -> None:
        self._sample()  # its control group exists for some milliseconds more
        self._past_cpu_ns, self._last_cpu_ns = self._past_cpu_ns + self._last_cpu_ns, 0

    async def _after_failed_start(self) -> None:
        if not self.is_alive() and self._container is not None:
            await api.in_thread(self._read_exit_code)

    def _read_exit_code(self) -> None:
        with contextlib.suppress(CouldNotRun), api.errors("read an exit code"):
            self._exit_code = int(self._container.wait(timeout=LOG_WAIT_S)["StatusCode"])
        if self._follower:
            self._follower.join(LOG_WAIT_S)

    async def _after_stop(self) -> None:
        if self._container is not None:
            await api.in_thread(self._read_exit_code)
        await api.in_thread(self._remove)


def _open_files() -> int:
    """Return the limit of open files: no more than this process may have, which the engine could not raise either."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return spec.OPEN_FILES if hard == resource.RLIM_INFINITY else min(spec.OPEN_FILES, hard)


def _shared(source: Path, target: Path, uid: int, gid: int) -> dict[str, Any]:
    """Return the mount of a directory of this machine that a container writes to; it is created."""
    source.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(source, uid, gid)
    return {"Type": "bind", "Source": str(source.resolve()), "Target": str(target), "ReadOnly": False}


def _archive(files: Mapping[Path, str], user: str) -> bytes:
    """Return a tar of files and their directories, which only `user` (uid:gid) may read."""
    uid, gid = map(int, user.split(":"))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in sorted({parent for path in files for parent in path.parents if parent.is_relative_to(spec.LAB)}):
            entry = tarfile.TarInfo(str(folder).lstrip("/"))
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o700 if folder != spec.LAB else 0o755, uid, gid
            tar.addfile(entry)
        for path, text in files.items():
            raw = text.encode()
            entry = tarfile.TarInfo(str(path).lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(raw), ROOT_ONLY, uid, gid
            tar.addfile(entry, io.BytesIO(raw))
    return buffer.getvalue()
