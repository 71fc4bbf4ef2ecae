"""Client of HAProxy's runtime socket: reads, adds and removes servers without failing requests.

    add:     register (in maintenance) -> enable health checks -> enable traffic
    remove:  drain (no new requests) -> wait until none is in flight -> maintenance -> stop the instance -> delete

HAProxy forgets servers that were added at run time when it restarts; the autoscaler adds them again. A lab
may have several HAProxies; `haproxy_fleet` controls all of them.

Source of the commands and their order: HAProxy 2.6, management guide 9.3. Measured here: `add server` ignores
`default-server` of the configuration, and without `pool-purge-delay` an added server keeps no idle
connection.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun
from system.platform.servers import haproxy

TIMEOUT_S = 3.0
DRAIN_S = 10.0    # longest wait for requests in flight; twice what a request may take (5 s)
DELETE_S = 5.0    # longest wait for the last connection to a stopped instance
LOOK_S = 0.1
NO_ANSWER = ("L4TOUT", "L4CON", "L6TOUT", "L7TOUT")  # check results that mean that the server did not respond


@dataclass(frozen=True)
class Server:
    """The current state of one server of a backend.

    `checks`: HAProxy's status, such as UP, "UP 2/3" (a check failed), DOWN, DRAIN, MAINT. `in_flight`:
    requests in the server. `queued`: requests that wait for it. `responses`, `errors`: counts since it was
    added. `check_answered`: it responded to its last health check. `max_in_flight`: its maxconn.
    `split_view`: some HAProxies report it up and others do not, for example if the network between regions is
    cut.
    """

    backend: str
    name: str
    checks: str
    in_flight: int
    queued: int
    responses: int
    errors: int
    check_answered: bool
    max_in_flight: int = haproxy.PLACES
    split_view: bool = False

    @property
    def down(self) -> bool:
        """Whether HAProxy sends it nothing because its checks failed."""
        return self.checks.startswith("DOWN")


@dataclass(frozen=True)
class Backend:
    """The servers of one service. `queued`: requests that wait for any of them."""

    servers: dict[str, Server]
    queued: int = 0


class Unresponsive(CouldNotRun):
    """HAProxy does not answer: it is down, or hangs."""


class HaproxyRuntime:
    """One HAProxy, by the path of its runtime socket."""

    def __init__(self, socket: str) -> None:
        self._socket = Path(socket)

    async def execute(self, command: str) -> str:
        """Send one command and return the reply. Raises Unresponsive if HAProxy does not respond."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(command.encode() + b"\n")
                    return (await reader.read()).decode(errors="replace").strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as problem:
            raise Unresponsive(f"HAProxy does not answer on {self._socket} ({problem or 'too slow'}).") from None

    async def backends(self) -> dict[str, Backend]:
        """Return every backend with its servers, except last-resort servers. Raises CouldNotRun."""
        backends: dict[str, Backend] = {}
        for row in csv.DictReader(io.StringIO((await self.execute("show stat -1 6 -1")).lstrip("# "))):
            if row["pxname"] == haproxy.CACHE_HERE:
                continue
            try:
                name, backend = row["svname"], backends.setdefault(row["pxname"], Backend({}))
                if name == "BACKEND":
                    backends[row["pxname"]] = Backend(backend.servers, int(row["qcur"] or 0))
                elif not name.startswith(haproxy.LAST_RESORT):
                    backend.servers[name] = _server(row)
            except (KeyError, TypeError, ValueError, AttributeError):  # HAProxy died while it replied
                raise Unresponsive(f"HAProxy's answer on {self._socket} broke off.") from None
        return backends

    async def add(self, backend: str, name: str, address: str) -> None:
        """Register a healthy instance and enable its traffic. Raises CouldNotRun if HAProxy refuses."""
        await self._change(f"add server {backend}/{name} {address} {haproxy.SERVER}", _is_known)
        for command in ("enable health", "enable server"):
            await self._change(f"{command} {backend}/{name}")

    async def resize(self, backend: str, name: str, max_in_flight: int) -> None:
        """Set the server's maxconn; further requests wait in HAProxy."""
        await self._change(f"set maxconn server {backend}/{name} {max_in_flight}")

    async def close(self, backend: str, name: str) -> None:
        """Put a drained instance into maintenance: its process may end now."""
        await self._change(f"set server {backend}/{name} state maint")

    async def eject(self, backend: str, name: str) -> None:
        """Send no new request to the server until `readmit`."""
        await self._change(f"set server {backend}/{name} state drain")

    async def readmit(self, backend: str, name: str) -> None:
        """Send requests to the server again."""
        await self._change(f"set server {backend}/{name} state ready")

    async def delete(self, backend: str, name: str) -> None:
        """Delete a server in maintenance; waits for its last connection. Raises CouldNotRun after 5 s."""
        ends_s = asyncio.get_running_loop().time() + DELETE_S
        while True:
            reply = await self.execute(f"del server {backend}/{name}")
            if "deleted" in reply or "No such server" in reply:
                return
            if asyncio.get_running_loop().time() > ends_s:
                raise CouldNotRun(f"HAProxy did not delete {backend}/{name}: {reply}")
            await asyncio.sleep(LOOK_S)

    async def _change(self, command: str, succeeded: Callable[[str], bool] = lambda reply: not reply) -> None:
        reply = await self.execute(command)
        if not succeeded(reply):
            raise CouldNotRun(f"HAProxy refused `{command}`: {reply}")


def _is_known(reply: str) -> bool:
    return "registered" in reply or "Already exists" in reply


def _server(row: dict[str, str]) -> Server:
    codes = [int(row[f"hrsp_{digit}xx"] or 0) for digit in (1, 2, 3, 4, 5)]
    broken = int(row["econ"] or 0) + int(row["eresp"] or 0)
    answered = not row["check_status"].lstrip("* ").startswith(NO_ANSWER)
    return Server(
        backend=row["pxname"], name=row["svname"], checks=row["status"], in_flight=int(row["scur"]), queued=int(row["qcur"]),
        responses=sum(codes) + broken, errors=codes[4] + broken, check_answered=answered, max_in_flight=int(row["slim"] or 0))
