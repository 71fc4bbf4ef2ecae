"""Controls all HAProxies of a lab as one: sends commands to each that responds, and sums their counts.

Each HAProxy sends requests to every instance, so a change of an instance must be made in all of them. An
HAProxy that does not respond is skipped: it is down, or it is restarting. After a restart it knows only the
servers of its configuration, and the autoscaler adds the others again (`outlier_ejection`). An HAProxy that
restarts during a drain receives the drain command again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform.process.child import Child
from system.platform.scaling.haproxy_runtime import DRAIN_S, LOOK_S, Backend, HaproxyRuntime, Server, Unresponsive
from system.platform.servers import haproxy

Backends = dict[str, Backend]


class HaproxyFleet:
    """The HAProxies of one lab.

    Each method raises CouldNotRun if none of them responds, or if one refuses the command.
    """

    def __init__(self, runtimes: Sequence[HaproxyRuntime]) -> None:
        self._runtimes = tuple(runtimes)

    async def snapshots(self) -> list[tuple[HaproxyRuntime, Backends]]:
        """Return each HAProxy that responds, with its backends."""
        replies = await asyncio.gather(*(runtime.backends() for runtime in self._runtimes), return_exceptions=True)
        answered = [(runtime, reply) for runtime, reply in zip(self._runtimes, replies, strict=True)
                    if not isinstance(reply, BaseException)]
        if not answered:
            raise _first_error(replies)
        return answered

    async def backends(self) -> Backends:
        """Return the backends of all HAProxies as one: see `merged`."""
        return merged(backends for _, backends in await self.snapshots())

    async def add(self, backend: str, name: str, address: str) -> None:
        """Add a healthy instance and send requests to it."""
        await self._send(self._runtimes, lambda runtime: runtime.add(backend, name, address))

    async def drain(self, backend: str, name: str, patience_s: float = DRAIN_S) -> bool:
        """Send no new requests to the instance, and wait until none is in flight.

        Returns False if some are still in flight after `patience_s`.
        """
        drained: set[HaproxyRuntime] = set()
        ends_s = asyncio.get_running_loop().time() + patience_s
        while True:
            servers = await self._servers(backend, name)
            new = {runtime for runtime, server in servers if runtime not in drained or server.checks.startswith("UP")}
            await self._send(new, lambda runtime: runtime.eject(backend, name))
            drained |= new
            if not new and sum(server.in_flight + server.queued for _, server in servers) == 0:
                return True
            if asyncio.get_running_loop().time() > ends_s:
                return False
            await asyncio.sleep(LOOK_S if not new else 0)

    async def close(self, backend: str, name: str) -> None:
        """Put a drained instance into maintenance: its process may end now."""
        await self._send(await self._holders(backend, name), lambda runtime: runtime.close(backend, name))

    async def eject(self, backend: str, name: str) -> None:
        """Send no new request to the instance until `readmit`."""
        await self._send(await self._holders(backend, name), lambda runtime: runtime.eject(backend, name))

    async def readmit(self, backend: str, name: str) -> None:
        """Send requests to the instance again, in each HAProxy that has it."""
        await self._send(await self._holders(backend, name), lambda runtime: runtime.readmit(backend, name))

    async def delete(self, backend: str, name: str) -> None:
        """Delete a server in maintenance; waits for its last connection."""
        await self._send(await self._holders(backend, name), lambda runtime: runtime.delete(backend, name))

    async def is_up(self, backend: str, name: str) -> str:
        """Return "" if the instance is up and passed its last check everywhere, else the other statuses."""
        statuses = []
        for _, backends in await self.snapshots():
            server = backends[backend].servers.get(name)
            if server is None or not server.checks.startswith("UP") or not server.check_answered:
                statuses.append(server.checks if server else "nothing")
        return ", ".join(statuses)

    async def _servers(self, backend: str, name: str) -> list[tuple[HaproxyRuntime, Server]]:
        """Return each HAProxy that has the server, with its row."""
        rows = [(runtime, backends.get(backend, Backend({})).servers.get(name))
                for runtime, backends in await self.snapshots()]
        return [(runtime, server) for runtime, server in rows if server is not None]

    async def _holders(self, backend: str, name: str) -> list[HaproxyRuntime]:
        return [runtime for runtime, _ in await self._servers(backend, name)]

    async def _send(self, runtimes: Iterable[HaproxyRuntime], command: Callable[[HaproxyRuntime], Awaitable[None]]) -> None:
        """Run `command` on each; those that do not respond are skipped, unless none responds."""
        results = await asyncio.gather(*(command(runtime) for runtime in runtimes), return_exceptions=True)
        refused = [result for result in results
                   if isinstance(result, BaseException) and not isinstance(result, Unresponsive)]
        if refused or (results and all(isinstance(result, Unresponsive) for result in results)):
            raise _first_error(refused or results)


def _first_error(results: Sequence[object]) -> BaseException:
    none_up = CouldNotRun("The lab has no HAProxy that is up.")
    return next((result for result in results if isinstance(result, BaseException)), none_up)


def merged(snapshots: Iterable[Backends]) -> Backends:
    """Return the backends of several HAProxies as one.

    Counts are summed. The status of an instance is its best one.
    """
    result: Backends = {}
    for backends in snapshots:
        for kind, backend in backends.items():
            known = result.setdefault(kind, Backend({}))
            servers = known.servers | {name: _merged(known.servers.get(name), server)
                                       for name, server in backend.servers.items()}
            result[kind] = Backend(servers, known.queued + backend.queued)
    return result


def _merged(one: Server | None, other: Server) -> Server:
    if one is None:
        return other
    best = one if one.checks.startswith("UP") or not other.checks.startswith("UP") else other
    split = one.split_view or other.split_view or one.checks.startswith("UP") != other.checks.startswith("UP")
    return replace(best, split_view=split, in_flight=one.in_flight + other.in_flight, queued=one.queued + other.queued,
                   check_answered=one.check_answered or other.check_answered, responses=one.responses + other.responses,
                   errors=one.errors + other.errors)


def of(children: dict[str, Child]) -> HaproxyFleet | None:
    """Return the lab's HAProxies that are up; None if none is."""
    up = [child for child in children.values() if child.node.kind == "haproxy" and child.state == "healthy"]
    sockets = [child.host_path(Path(haproxy.runtime_socket(child.ctx))) for child in up]
    return HaproxyFleet([HaproxyRuntime(str(socket)) for socket in sockets]) if up else None


async def backends_or_none(fleet: HaproxyFleet | None) -> Backends:
    """Return the backends of the fleet; empty if no HAProxy answers."""
    try:
        return await fleet.backends() if fleet else {}
    except CouldNotRun:
        return {}
