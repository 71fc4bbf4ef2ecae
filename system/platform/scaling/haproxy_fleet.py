"""All HAProxies of a lab as one: what is ordered is ordered of each that answers, what is seen is summed over them.

Each of them sends requests to every instance, so an instance is in, drained or gone when it is so in all of them. One that does
not answer is left out: it is down, or it comes back with the servers of its configuration alone, and the autoscaler applies the
rest again (`healing`). Where one starts again while an instance is being drained, it is told again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from system.kernel.errors import CouldNotRun
from system.platform.process.children import Child
from system.platform.scaling.haproxy_runtime import DRAIN_S, LOOK_S, Backend, Mesh, Server, Silent
from system.platform.servers import haproxy

Seen = dict[str, Backend]


class HaproxyFleet:
    """The HAProxies of one lab; each method raises CouldNotRun where none of them answers, or one that does refuses."""

    def __init__(self, each: Sequence[Mesh]) -> None:
        self._each = tuple(each)

    async def looks(self) -> list[tuple[Mesh, Seen]]:
        """Return each HAProxy that answers with its backends."""
        told = await asyncio.gather(*(one.backends() for one in self._each), return_exceptions=True)
        found = [(one, seen) for one, seen in zip(self._each, told, strict=True) if not isinstance(seen, BaseException)]
        if not found:
            raise _first(told)
        return found

    async def backends(self) -> Seen:
        """Return what they see together: see `summed`."""
        return summed(seen for _, seen in await self.looks())

    async def add(self, backend: str, name: str, address: str) -> None:
        """Let an instance that is well take requests."""
        await self._tell(self._each, lambda one: one.add(backend, name, address))

    async def drain(self, backend: str, name: str, patience_s: float = DRAIN_S) -> bool:
        """Send no new request there and wait until none is inside. False where some still were after `patience_s`."""
        told: set[Mesh] = set()
        ends_s = asyncio.get_running_loop().time() + patience_s
        while True:
            here = [(one, server) for one, server in await self._knowing(backend, name)]
            new = {one for one, server in here if one not in told or server.checks.startswith("UP")}
            await self._tell(new, lambda one: one.eject(backend, name))
            told |= new
            if not new and sum(server.inside + server.waiting for _, server in here) == 0:
                return True
            if asyncio.get_running_loop().time() > ends_s:
                return False
            await asyncio.sleep(LOOK_S if not new else 0)

    async def close(self, backend: str, name: str) -> None:
        """Put a drained instance into maintenance: its process may end now."""
        await self._tell(await self._who_know(backend, name), lambda one: one.close(backend, name))

    async def eject(self, backend: str, name: str) -> None:
        """Send no new request there for the time being."""
        await self._tell(await self._who_know(backend, name), lambda one: one.eject(backend, name))

    async def readmit(self, backend: str, name: str) -> None:
        """Take it in again, where it is known."""
        await self._tell(await self._who_know(backend, name), lambda one: one.readmit(backend, name))

    async def forget(self, backend: str, name: str) -> None:
        """Delete a server in maintenance; waits for its last connection."""
        await self._tell(await self._who_know(backend, name), lambda one: one.forget(backend, name))

    async def is_up(self, backend: str, name: str) -> str:
        """Return "" where it is up and its last check passed in all of them, else what they say of it."""
        said = []
        for _, seen in await self.looks():
            server = seen[backend].servers.get(name)
            if server is None or not server.checks.startswith("UP") or not server.passed:
                said.append(server.checks if server else "nothing")
        return ", ".join(said)

    async def _knowing(self, backend: str, name: str) -> list[tuple[Mesh, Server]]:
        looks = [(one, seen.get(backend, Backend({})).servers.get(name)) for one, seen in await self.looks()]
        return [(one, server) for one, server in looks if server is not None]

    async def _who_know(self, backend: str, name: str) -> list[Mesh]:
        return [one for one, _ in await self._knowing(backend, name)]

    async def _tell(self, who: Iterable[Mesh], order: Callable[[Mesh], Awaitable[None]]) -> None:
        """Order it of each; those that do not answer are left out unless none does."""
        told = await asyncio.gather(*(order(one) for one in who), return_exceptions=True)
        refused = [each for each in told if isinstance(each, BaseException) and not isinstance(each, Silent)]
        if refused or (told and all(isinstance(each, Silent) for each in told)):
            raise _first(refused or told)


def _first(told: Sequence[object]) -> BaseException:
    return next((each for each in told if isinstance(each, BaseException)), CouldNotRun("The lab has no HAProxy that is up."))


def summed(looks: Iterable[Seen]) -> Seen:
    """Return the backends of several HAProxies as one: counts are added; an instance is as well as the best sight of it."""
    found: Seen = {}
    for seen in looks:
        for kind, backend in seen.items():
            known = found.setdefault(kind, Backend({}))
            servers = known.servers | {name: _merged(known.servers.get(name), one) for name, one in backend.servers.items()}
            found[kind] = Backend(servers, known.waiting + backend.waiting)
    return found


def _merged(one: Server | None, other: Server) -> Server:
    if one is None:
        return other
    best = one if one.checks.startswith("UP") or not other.checks.startswith("UP") else other
    apart = one.apart or other.apart or one.checks.startswith("UP") != other.checks.startswith("UP")
    return replace(best, apart=apart, inside=one.inside + other.inside, waiting=one.waiting + other.waiting,
                   passed=one.passed or other.passed, answers=one.answers + other.answers, errors=one.errors + other.errors)


def of(children: dict[str, Child]) -> HaproxyFleet | None:
    """Return the way to the lab's HAProxies that are up; None where none is."""
    up = [child for child in children.values() if child.node.kind == "haproxy" and child.state == "healthy"]
    return HaproxyFleet([Mesh(haproxy.runtime_socket(child.ctx)) for child in up]) if up else None


async def seen_by(doors: HaproxyFleet | None) -> Seen:
    """Return what they say of their backends; nothing where none answers."""
    try:
        return await doors.backends() if doors else {}
    except CouldNotRun:
        return {}
