"""The Docker Engine as a lab uses it: a client, its errors as ours, and the removal of a lab's objects by label.

Everything that a lab creates has two labels: `images.LABEL` (the range) and OWNER (the lab's id, which no other
checkout, range or user shares). `sweep` removes what has the second one, and touches nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from system.kernel.errors import CouldNotRun
from system.platform.containers import engine, images
from system.platform.paths import Paths

Result = TypeVar("Result")

OWNER = "tweetlab.owner"
TIMEOUT_S = 60  # of one request to the engine: creating twenty containers at once takes some seconds each
POOL = 64  # connections: one per container whose output is followed
CGROUPS = Path("/sys/fs/cgroup")


def connect() -> Any:
    """Return a client of the engine that `engine.find` selects.

    Raises CouldNotRun, with the fix, without an engine, permission, a recent version or the Python package.
    """
    found = engine.find()
    try:
        import docker
    except ImportError:
        raise CouldNotRun("The Python package `docker` is missing; `make setup` installs it.") from None
    with errors("connect to the engine"):
        return docker.DockerClient(base_url=found.host, version="auto", timeout=TIMEOUT_S, max_pool_size=POOL)


@contextlib.contextmanager
def errors(what: str) -> Iterator[None]:
    """Turn the errors of the engine and of the connection to it into CouldNotRun. `what`: what was tried."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as problem:
        raise CouldNotRun(f"Docker could not {what}: {problem.explanation or problem}") from problem
    except (docker.errors.DockerException, requests.RequestException, OSError) as problem:
        raise CouldNotRun(f"The Docker engine did not answer in the attempt to {what}: {problem}") from problem


async def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a request in a thread. A cancelled caller waits for its end, so nothing is created after its cleanup."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise


def labels(lab: Paths, **further: str) -> dict[str, str]:
    """Return the labels of an object of this lab."""
    return {images.LABEL: str(lab.range), OWNER: lab.lab_id, **further}


def sweep(client: Any, lab: Paths, *, volumes: bool = False) -> int:
    """Remove all containers and networks of a lab, with `volumes` its data too; return how many containers.

    Safe to repeat. Raises CouldNotRun if one cannot be removed.
    """
    own = {"label": f"{OWNER}={lab.lab_id}"}
    with errors("remove the lab's containers"):
        containers = client.containers.list(all=True, filters=own, ignore_removed=True)
        for container in containers:
            _unless_absent(functools.partial(container.remove, force=True, v=True))
        for network in client.networks.list(filters=own):
            _unless_absent(network.remove)
        for volume in client.volumes.list(filters=own) if volumes else ():
            _unless_absent(functools.partial(volume.remove, force=True))
    return len(containers)


def _unless_absent(remove: Callable[[], Any]) -> None:
    import docker.errors

    with contextlib.suppress(docker.errors.NotFound):
        remove()


def cgroup(pid: int, controller: str, mount: Path = CGROUPS) -> Path | None:
    """Return the control group of a container's main process in the tree of `controller`.

    With version 2 there is one tree for all. None if the process does not exist or its group is not visible,
    as when the engine runs in a virtual machine.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    rows = [line.split(":", 2) for line in lines]
    path = next((row[2] for row in rows if controller in row[1].split(",")), None)
    base = mount / controller
    if path is None or not base.exists():
        path, base = next((row[2] for row in rows if row[:2] == ["0", ""]), None), mount
    if path is None or path == "/":  # the host's own group: the process is not in a container, or just ended
        return None
    folder = base / path.lstrip("/")
    return folder if folder.exists() else None


def cpu_ns(pid: int) -> int | None:
    """Return the CPU time, in ns, of the container of a main process; None if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        folder = cgroup(pid, "cpuacct")
        if folder is None:
            return None
        if (folder / "cpuacct.usage").exists():
            return int((folder / "cpuacct.usage").read_text())
        lines = (folder / "cpu.stat").read_text().splitlines()
        return 1000 * next(int(line.split()[1]) for line in lines if line.startswith("usage_usec"))
    return None


def pids(pid: int) -> list[int]:
    """Return the processes of the container of a main process, as this machine numbers them; [] without any."""
    folder = cgroup(pid, "cpuacct")
    if folder is None:
        return []
    found: set[int] = set()
    for file in (folder / "cgroup.procs", *folder.glob("**/cgroup.procs")):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in file.read_text().split())
    return sorted(found)


def is_frozen(pid: int) -> bool:
    """Return whether the kernel reports the container of a main process as frozen."""
    folder = cgroup(pid, "freezer")
    with contextlib.suppress(OSError):
        if folder is not None and (folder / "freezer.state").exists():
            return (folder / "freezer.state").read_text().strip() == "FROZEN"
        if folder is not None:
            return "frozen 1" in (folder / "cgroup.events").read_text()
    return False
